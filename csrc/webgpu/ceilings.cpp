#include "webgpu/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "webgpu/shader.h"

namespace rwkvnative::webgpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kWorkgroup = 256;
constexpr uint32_t kReadSteps = 16;
constexpr uint64_t kReadPerWorkgroup = uint64_t{kWorkgroup} * kReadSteps * 16;  // bytes
constexpr uint64_t kUploadBytes = 64 << 20;
constexpr uint64_t kResultsAt = 256, kResultBytes = 1 << 15;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Measurement {
 public:
  Measurement(const Device& device, Pipelines& pipelines)
      : device_(device), pipelines_(pipelines), software_(device.info().kind == DeviceKind::Software) {
    const uint64_t most = software_ ? 32 << 20 : 1 << 30;
    const uint64_t memory = device.info().memory_bytes != 0 ? device.info().memory_bytes / 16 : most;
    bytes_ = std::min({most, memory, device.max_binding()}) / kReadPerWorkgroup * kReadPerWorkgroup;
    constexpr auto kUsage = WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst;
    memory_ = device.create_buffer("ceilings: memory to read", bytes_, kUsage);
    small_ = device.create_buffer("ceilings: results", kResultsAt + kResultBytes, kUsage);
  }

  Ceilings run() {
    const bool f16 = device_.half();
    const Kernel& fill = kernel("fill", "ceiling_fill", kReadSteps);
    const Kernel& read = kernel("read", "ceiling_read", kReadSteps);
    const Kernel& dispatch = kernel("dispatch", "ceiling_dispatch", 1);
    const Kernel& int8 = arithmetic("int8", "", "i32", "i32(seed + i)",
                                    "dot4I8Packed(bitcast<u32>(sums[i]), 0x01020304u) + sums[i]", "total == 123456789");
    const Kernel& f32 = arithmetic("f32", "", "vec4<f32>", "vec4(f32(seed + i))",
                                   "fma(sums[i], vec4(0.999), vec4(0.001))", "all(total == vec4(12345.678))");
    const Kernel* half = f16 ? &arithmetic("f16", "f16", "vec4<f16>", "vec4(f16((seed + i) & 255u))",
                                           "fma(sums[i], vec4(0.5h), vec4(0.25h))", "all(total == vec4(123.0h))")
                             : nullptr;
    const Kernel* matrix = device_.matrix() ? &matrices() : nullptr;
    pipelines_.finish();

    warm_up(int8);
    Ceilings ceilings;
    time(fill, {memory_.get(), memory_.size}, workgroups(), 1);
    ceilings.read_bytes_per_second = static_cast<double>(bytes_) / seconds(read, workgroups());
    ceilings.dispatch_seconds = seconds(dispatch, 1);
    const double threads = static_cast<double>(kWorkgroup) * arithmetic_workgroups();
    const double steps = threads * arithmetic_steps() * kChains;
    ceilings.int8_per_second = 8 * steps / seconds(int8, arithmetic_workgroups());
    ceilings.f32_per_second = 8 * steps / seconds(f32, arithmetic_workgroups());
    if (half != nullptr) ceilings.f16_per_second = 8 * steps / seconds(*half, arithmetic_workgroups());
    if (matrix != nullptr) {
      const MatrixShape& shape = *device_.matrix();
      const double products = static_cast<double>(arithmetic_workgroups()) * kSubgroups * arithmetic_steps() * kChains;
      ceilings.matrix_per_second = 2.0 * shape.m * shape.n * shape.k * products / seconds(*matrix, arithmetic_workgroups());
    }
    ceilings.upload_bytes_per_second = upload();
    return ceilings;
  }

 private:
  static constexpr uint32_t kChains = 8;
  static constexpr uint32_t kSubgroups = 4;  // of a workgroup that multiplies matrices

  uint32_t workgroups() const { return static_cast<uint32_t>(bytes_ / kReadPerWorkgroup); }
  uint32_t arithmetic_workgroups() const { return software_ ? 16 : 4096; }
  uint32_t arithmetic_steps() const { return software_ ? 64 : 512; }
  double least_seconds() const { return software_ ? 2e-3 : 20e-3; }  // of one timed submit

  const Kernel& kernel(const char* name, const char* file, uint32_t steps) {
    ShaderText text;
    text.constant("kWorkgroup", kWorkgroup).constant("kSteps", steps).file(file);
    return pipelines_.request(message("ceiling ", name), text.str(), Bindings::Main);
  }

  const Kernel& matrices() {
    const MatrixShape& shape = *device_.matrix();
    ShaderText text;
    text.enable("f16").enable("subgroups").enable("chromium_experimental_subgroup_matrix");
    text.directive("diagnostic(off, chromium_experimental.subgroup_matrix_uniformity)");
    text.constant("kWorkgroup", kSubgroups * shape.lanes).constant("kSteps", arithmetic_steps());
    std::string start, multiply, store;
    for (uint32_t i = 0; i < 2; ++i) {
      start += message("let a", i, " = subgroupMatrixLoad<subgroup_matrix_left<f16, ", shape.k, ", ", shape.m,
                       ">, row_major>(&weights, ", i * shape.m * shape.k, "u, ", shape.k, "u);\n  ");
      start += message("let b", i, " = subgroupMatrixLoad<subgroup_matrix_right<f16, ", shape.n, ", ", shape.k,
                       ">, col_major>(&weights, ", (2 + i) * shape.n * shape.k, "u, ", shape.k, "u);\n  ");
    }
    for (uint32_t i = 0; i < kChains; ++i) {
      start += message("var c", i, ": subgroup_matrix_result<f32, ", shape.n, ", ", shape.m, ">;\n  ");
      multiply += message("c", i, " = subgroupMatrixMultiplyAccumulate(a", i % 2, ", b", i / 2 % 2, ", c", i, ");\n    ");
      store += message("subgroupMatrixStore<row_major>(&act, ", i * shape.m * shape.n, "u, c", i, ", ", shape.n, "u);\n  ");
    }
    text.text(instantiate("ceiling_matrix", {{"START", start}, {"MULTIPLY", multiply}, {"STORE", store}}));
    return pipelines_.request("ceiling matrix", text.str(), Bindings::Main);
  }

  const Kernel& arithmetic(const char* name, const std::string& extension, const char* type, const char* start,
                           const char* step, const char* unlikely) {
    ShaderText text;
    if (!extension.empty()) text.enable(extension);
    text.constant("kWorkgroup", kWorkgroup).constant("kSteps", arithmetic_steps()).constant("kChains", kChains);
    text.text(instantiate("ceiling_arithmetic", {{"TYPE", type}, {"START", start}, {"STEP", step}, {"UNLIKELY", unlikely}}));
    return pipelines_.request(message("ceiling ", name), text.str(), Bindings::Main);
  }

  // Wall clock of one submit with `repeats` dispatches, each waiting for the one before.
  double time(const Kernel& kernel, Pipelines::Range written, uint32_t x, uint32_t repeats) {
    // What is read must be another buffer than what is written.
    const Pipelines::Range small{small_.get(), 0, 256};
    const Pipelines::Range ranges[] = {written.buffer == memory_.get() ? small : Pipelines::Range{memory_.get()}, written, small};
    const BindGroupHandle group = pipelines_.bind("ceilings", Bindings::Main, ranges);
    EncoderHandle encoder = device_.create_encoder("ceilings");
    {
      WGPUComputePassDescriptor descriptor{};
      const PassHandle pass(dawn().CommandEncoderBeginComputePass(encoder.get(), &descriptor));
      dawn().ComputePassEncoderSetPipeline(pass.get(), kernel.pipeline.get());
      dawn().ComputePassEncoderSetBindGroup(pass.get(), 0, group.get(), 0, nullptr);
      for (uint32_t i = 0; i < repeats; ++i) dawn().ComputePassEncoderDispatchWorkgroups(pass.get(), x, 1, 1);
      dawn().ComputePassEncoderEnd(pass.get());
    }
    const Clock::time_point start = Clock::now();
    device_.submit(std::move(encoder));
    device_.wait_idle();
    return seconds_since(start);
  }

  // The best of some runs, of one dispatch.
  double seconds(const Kernel& kernel, uint32_t x) {
    const Pipelines::Range results{small_.get(), kResultsAt, kResultBytes};
    uint32_t repeats = 1;
    double best = time(kernel, results, x, repeats);
    while (best * repeats < least_seconds() && repeats < (1u << 14)) {
      repeats *= 2;
      best = time(kernel, results, x, repeats) / repeats;
    }
    for (int run = 0; run < 4; ++run) best = std::min(best, time(kernel, results, x, repeats) / repeats);
    return best;
  }

  // A GPU at rest runs at a fraction of its clock: work until the time of a burst has stopped falling.
  void warm_up(const Kernel& kernel) {
    if (software_) return;
    constexpr double kLeast = 0.4, kMost = 2.0;
    const Pipelines::Range results{small_.get(), kResultsAt, kResultBytes};
    const Clock::time_point start = Clock::now();
    // Of a slow GPU a burst is short: its driver resets what takes too long (watchdog.h).
    const double one = time(kernel, results, arithmetic_workgroups(), 1);
    const uint32_t burst = static_cast<uint32_t>(std::clamp(0.25 / one, 1.0, 16.0));
    double before = 1e9;
    for (int steady = 0; seconds_since(start) < kMost && (seconds_since(start) < kLeast || steady < 3);) {
      const double now = time(kernel, results, arithmetic_workgroups(), burst);
      steady = now > 0.98 * before ? steady + 1 : 0;
      before = now;
    }
  }

  double upload() {
    const uint64_t bytes = std::min(kUploadBytes, bytes_);
    double best = 1e9;
    const std::vector<std::byte> source(bytes, std::byte{1});
    for (int run = 0; run < 3; ++run) {
      const Buffer staging =
          device_.create_buffer("ceilings: staging", bytes, WGPUBufferUsage_MapWrite | WGPUBufferUsage_CopySrc, true);
      auto* mapped = static_cast<std::byte*>(dawn().BufferGetMappedRange(staging.get(), 0, bytes));
      if (mapped == nullptr) return 0;
      const Clock::time_point start = Clock::now();
      std::memcpy(mapped, source.data(), bytes);
      dawn().BufferUnmap(staging.get());
      EncoderHandle encoder = device_.create_encoder("ceilings");
      dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), staging.get(), 0, memory_.get(), 0, bytes);
      device_.submit(std::move(encoder));
      device_.wait_idle();
      best = std::min(best, seconds_since(start));
    }
    return static_cast<double>(bytes) / best;
  }

  const Device& device_;
  Pipelines& pipelines_;
  const bool software_;
  uint64_t bytes_ = 0;
  Buffer memory_, small_;
};

}  // namespace

Ceilings measure_ceilings(const Device& device, Pipelines& pipelines) { return Measurement(device, pipelines).run(); }

}  // namespace rwkvnative::webgpu
