#include "metal/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "metal/kernels/arguments.h"

namespace rwkvnative::metal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kThreads = 256, kChains = 8;  // of ceiling.metal
constexpr uint32_t kReadSteps = 16;
constexpr uint64_t kReadPerGroup = uint64_t{kThreads} * kReadSteps * 16;  // bytes
constexpr uint32_t kSimdgroups = 4;  // of a threadgroup that multiplies matrices
constexpr uint64_t kUploadBytes = 64 << 20;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Measurement {
 public:
  Measurement(const Device& device, Pipelines& pipelines)
      : device_(device), pipelines_(pipelines), software_(device.info().kind == DeviceKind::Software) {
    const uint64_t most = software_ ? 1 << 20 : 1 << 30;
    const uint64_t memory = device.info().memory_bytes != 0 ? device.info().memory_bytes / 16 : most;
    const uint64_t bytes = std::min({most, memory, device.max_buffer()}) / kReadPerGroup * kReadPerGroup;
    memory_ = device.create_buffer("ceilings: memory to read", std::max(bytes, kReadPerGroup));
    const uint64_t floats = uint64_t{groups()} * std::max(kThreads, kSimdgroups * kChains * 64);
    results_ = device.create_buffer("ceilings: results", floats * sizeof(float));
  }

  Ceilings run() {
    const uint32_t read_groups = static_cast<uint32_t>(memory_.size / kReadPerGroup);
    const Kernel& f32 = kernel("multiply_add_f32", steps());
    warm_up(f32);
    Ceilings ceilings;
    time(kernel("fill_words", kReadSteps), read_groups, kThreads, memory_, 1);
    ceilings.read_bytes_per_second = static_cast<double>(memory_.size) / seconds(kernel("read_words", kReadSteps), read_groups);
    ceilings.dispatch_seconds = seconds(kernel("next_of_chain", 1), 1, 32);
    const double operations = 8.0 * groups() * kThreads * steps() * kChains;  // vectors of four, two operations each
    ceilings.f32_per_second = operations / seconds(f32, groups());
    ceilings.f16_per_second = operations / seconds(kernel("multiply_add_f16", steps()), groups());
    const double products = 1.0 * groups() * kSimdgroups * steps() * kChains;
    ceilings.matrix_per_second = 2 * 8 * 8 * 8 * products / seconds(kernel("matrix_products", steps()), groups(), 32 * kSimdgroups);
    ceilings.upload_bytes_per_second = upload();
    return ceilings;
  }

 private:
  uint32_t groups() const { return software_ ? 2 : 4096; }
  uint32_t steps() const { return software_ ? 8 : 512; }
  double least_seconds() const { return software_ ? 0 : 20e-3; }  // of one timed command buffer

  const Kernel& kernel(const char* name, uint32_t steps) {
    return pipelines_.get("ceiling", name, Constants().set(CONSTANT_ITEMS, steps), kThreads);
  }

  // By the GPU's clock: `repeats` dispatches, each waiting for the one before, as a token's do.
  double time(const Kernel& kernel, uint32_t groups, uint32_t threads, const Buffer& written, uint32_t repeats) {
    const AutoreleasePool pool;
    const CommandBuffer commands = device_.create_command_buffer("ceilings");
    id<MTLComputeCommandEncoder> encoder =
        [commands.get() computeCommandEncoderWithDispatchType:MTLDispatchTypeConcurrent];
    if (encoder == nil) throw DeviceError(message("[metal] ", device_.info().name, ": it gives no compute encoder"));
    [encoder setComputePipelineState:kernel.pipeline.get()];
    [encoder setBuffer:memory_.get() offset:0 atIndex:BUFFER_IN];
    [encoder setBuffer:written.get() offset:0 atIndex:BUFFER_OUT];
    for (uint32_t i = 0; i < repeats; ++i) {
      if (i != 0) [encoder memoryBarrierWithScope:MTLBarrierScopeBuffers];
      [encoder dispatchThreadgroups:MTLSizeMake(groups, 1, 1) threadsPerThreadgroup:MTLSizeMake(threads, 1, 1)];
    }
    [encoder endEncoding];
    device_.commit(commands);
    device_.wait(commands);
    return [commands.get() GPUEndTime] - [commands.get() GPUStartTime];
  }

  // The best of some runs, of one dispatch.
  double seconds(const Kernel& kernel, uint32_t groups, uint32_t threads = kThreads) {
    uint32_t repeats = 1;
    double best = time(kernel, groups, threads, results_, repeats);
    while (best * repeats < least_seconds() && repeats < (1u << 14)) {
      repeats *= 2;
      best = time(kernel, groups, threads, results_, repeats) / repeats;
    }
    for (int run = 0; run < (software_ ? 1 : 4); ++run)
      best = std::min(best, time(kernel, groups, threads, results_, repeats) / repeats);
    return std::max(best, 1e-9);
  }

  // A GPU at rest runs at a fraction of its clock: work until the time of a burst has stopped falling.
  void warm_up(const Kernel& kernel) {
    if (software_) return;
    constexpr double kLeast = 0.4, kMost = 2.0;
    const Clock::time_point start = Clock::now();
    double before = 1e9;
    for (int steady = 0; seconds_since(start) < kMost && (seconds_since(start) < kLeast || steady < 3);) {
      const double now = time(kernel, groups(), kThreads, results_, 16);
      steady = now > 0.98 * before ? steady + 1 : 0;
      before = now;
    }
  }

  // What packs into a slot writes: the memory is one and the same.
  double upload() {
    const uint64_t bytes = std::min(kUploadBytes, memory_.size);
    const std::vector<std::byte> source(bytes, std::byte{1});
    double best = 1e9;
    for (int run = 0; run < 3; ++run) {
      const Clock::time_point start = Clock::now();
      std::memcpy(memory_.contents(), source.data(), bytes);
      best = std::min(best, seconds_since(start));
    }
    return static_cast<double>(bytes) / std::max(best, 1e-9);
  }

  const Device& device_;
  Pipelines& pipelines_;
  const bool software_;
  Buffer memory_, results_;
};

}  // namespace

Ceilings measure_ceilings(const Device& device, Pipelines& pipelines) { return Measurement(device, pipelines).run(); }

}  // namespace rwkvnative::metal
