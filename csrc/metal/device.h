// The opened GPU: memory, the one command queue, waiting, and what went wrong on it.
#pragma once

#import <Metal/Metal.h>

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/memory_account.h"
#include "metal/objc.h"
#include "metal/options.h"

namespace rwkvnative::metal {

// Memory that the CPU and the GPU share. Zeroed when made.
struct Buffer {
  MemoryLease lease;  // outlives the handle
  Owned<id<MTLBuffer>> handle;
  uint64_t size = 0;

  id<MTLBuffer> get() const { return handle.get(); }
  std::byte* contents() const { return static_cast<std::byte*>([handle.get() contents]); }
  explicit operator bool() const { return bool(handle); }
};

using CommandBuffer = Owned<id<MTLCommandBuffer>>;

// Thread-safe.
class Device {
 public:
  Device(const std::string& device, const Options& options);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceInfo& info() const { return info_; }
  const Options& options() const { return options_; }
  void set_tuning(const Tuning& tuning) { options_.tuning = tuning; }
  id<MTLDevice> get() const { return device_.get(); }
  uint64_t max_buffer() const { return max_buffer_; }
  uint32_t max_threadgroup_memory() const { return max_threadgroup_memory_; }

  // What all buffers take, wrapped pages too: the GPU works in the memory of the CPU.
  MemoryAccount& memory() const { return *memory_; }
  // Whether the system would rather not see more of its memory used.
  bool under_pressure() const;

  // Throws OutOfDeviceMemory if the device, or the budget, has no such room.
  Buffer create_buffer(const std::string& label, uint64_t bytes) const;
  // Takes so many bytes from the account, or throws OutOfDeviceMemory.
  MemoryLease reserve(const std::string& label, uint64_t bytes) const;
  // `bytes` of whole pages as a buffer, without a copy; an empty one if the device or the budget refuses. reserved: the
  // account has them already.
  Buffer wrap(const std::string& label, const std::byte* pages, uint64_t bytes, bool reserved = false) const;

  CommandBuffer create_command_buffer(const char* label) const;
  void commit(const CommandBuffer& commands) const;
  // For commands that nobody waits for: what goes wrong with them is told by the next wait() for others.
  void commit_unattended(const CommandBuffer& commands) const;
  // Blocks, asleep, until the commands are done. Throws DeviceError with what went wrong on the device.
  void wait(const CommandBuffer& commands) const;
  // Waits for everything committed so far, and throws the first error.
  void wait_idle() const;
  // The same for destructors: returns what went wrong, with these or with unattended commands before them.
  std::string finish(const CommandBuffer& commands) const;
  std::string finish_all() const;

 private:
  DeviceInfo info_;
  Options options_;
  Owned<id<MTLDevice>> device_;
  Owned<id<MTLCommandQueue>> queue_;
  std::shared_ptr<MemoryAccount> memory_ = std::make_shared<MemoryAccount>();
  uint64_t max_buffer_ = 0;
  uint32_t max_threadgroup_memory_ = 0;
  mutable std::mutex mutex_;
  std::string error_of(const CommandBuffer& commands) const;

  mutable std::vector<CommandBuffer> committed_;  // those that may be unfinished
  mutable std::vector<CommandBuffer> unattended_;
};

// The bytes of a page of an Apple GPU's memory.
inline constexpr uint64_t kPage = 16384;

}  // namespace rwkvnative::metal
