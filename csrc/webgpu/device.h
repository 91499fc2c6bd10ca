// An opened GPU: its limits and features, memory, waiting, and what went wrong on it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/memory_account.h"
#include "webgpu/dawn.h"
#include "webgpu/memory.h"
#include "webgpu/options.h"

namespace rwkvnative::webgpu {

// A listed adapter. `info.id` is "webgpu:N".
struct Adapter {
  AdapterHandle handle;
  DeviceInfo info;
};

std::vector<Adapter> list_adapters();
// The adapter that `device` names; see open_webgpu().
Adapter choose_adapter(const std::string& device);

struct Buffer {
  BufferHandle handle;
  uint64_t size = 0;
  MemoryLease lease;

  WGPUBuffer get() const { return handle.get(); }
  explicit operator bool() const { return bool(handle); }
};

// A product of subgroup matrices that the device has: float16 [m][k] by [k][n], float32 sums, subgroups of `lanes`.
struct MatrixShape {
  uint32_t m, n, k, lanes;
};

// Thread-safe, as Dawn's objects are with implicit synchronization.
class Device {
 public:
  Device(Adapter adapter, const Options& options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceInfo& info() const { return info_; }
  const Options& options() const { return options_; }
  void set_tuning(const Tuned& tuned) { options_.tuned = tuned; }
  const WGPULimits& limits() const { return limits_; }
  // The smaller of the adapter's limit and the option's, a multiple of 256.
  uint64_t max_binding() const { return max_binding_; }
  bool subgroups() const { return subgroups_; }
  // Every subgroup has a size from min to max, both powers of two; 1 without subgroups.
  uint32_t subgroup_min_size() const { return subgroup_min_size_; }
  uint32_t subgroup_max_size() const { return subgroup_max_size_; }
  bool timestamps() const { return timestamps_; }
  // What the address and the size of host memory must be multiples of for import_host(); 0: the device cannot.
  uint64_t host_alignment() const { return host_alignment_; }
  MemoryAccount& memory() const { return *memory_; }
  bool half() const { return half_; }  // shader-f16
  bool runs_nothing() const { return info_.features.front() == "Null"; }  // RWKVNATIVE_WEBGPU_NULL
  const std::optional<MatrixShape>& matrix() const { return matrix_; }

  WGPUDevice get() const { return device_.get(); }
  WGPUQueue queue() const { return queue_.get(); }

  // Throws OutOfDeviceMemory if the device, or the budget, has no such room. Zeroed.
  Buffer create_buffer(const std::string& label, uint64_t bytes, WGPUBufferUsage usage, bool mapped = false) const;
  // A buffer that is the host's own memory; the device reads it over its link. Takes no device memory.
  Buffer import_host(const std::string& label, std::shared_ptr<const HostMemory> memory, WGPUBufferUsage usage) const;

  EncoderHandle create_encoder(const char* label) const;
  void submit(EncoderHandle encoder) const;
  uint64_t submits() const { return submits_; }  // so far

  // Waits for one of Dawn's futures, asleep. Throws DeviceError if the device was lost or has recorded an error.
  void wait(WGPUFuture future) const;
  // Waits for everything submitted so far.
  void wait_idle() const;
  // Throws the first error that the device has recorded.
  void check() const;

  // Copies between host memory and a buffer with CopySrc / CopyDst, through staging memory; blocks. Offsets and sizes are
  // multiples of 4.
  void read(WGPUBuffer buffer, uint64_t offset, std::span<std::byte> out) const;
  void write(WGPUBuffer buffer, uint64_t offset, std::span<const std::byte> in) const;

  // Held while error scopes are open: they are the device's, and another thread's would take this one's errors.
  std::unique_lock<std::mutex> scopes() const { return std::unique_lock(scopes_); }
  // Runs `create` between error scopes; throws DeviceError "`what`: Dawn's message" if it failed.
  template <class Create>
  auto checked(const std::string& what, Create create) const {
    const auto lock = scopes();
    push_scopes();
    auto result = create();
    pop_scopes(what);
    return result;
  }

 private:
  struct Fault {
    std::mutex mutex;
    std::string text;  // the first error; empty while all is well
    void record(const std::string& error);
  };

  void open(WGPUAdapter adapter);
  void read_host_alignment();
  void push_scopes() const;
  void pop_scopes(const std::string& what) const;

  DeviceInfo info_;
  Options options_;
  AdapterHandle adapter_;
  mutable std::atomic<uint64_t> submits_ = 0;
  mutable std::atomic<uint64_t> buffers_ = 0;  // for Options::refused_from
  mutable std::mutex scopes_;
  std::unique_ptr<Fault> fault_;  // before the device: its callbacks write here until it is gone
  DeviceHandle device_;
  QueueHandle queue_;
  WGPULimits limits_{};
  uint64_t max_binding_ = 0;
  bool subgroups_ = false;
  bool timestamps_ = false;
  uint64_t host_alignment_ = 0;
  std::shared_ptr<MemoryAccount> memory_ = std::make_shared<MemoryAccount>();
  bool half_ = false;
  std::optional<MatrixShape> matrix_;
  uint32_t subgroup_min_size_ = 1, subgroup_max_size_ = 1;
};

}  // namespace rwkvnative::webgpu
