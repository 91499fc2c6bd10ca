// Page-aligned host memory that a device can read. (What the device itself has is counted by core/memory_account.h.)
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkvnative::webgpu {

// Whole pages of the process's own, zeroed.
class HostMemory {
 public:
  // `bytes` is rounded up to `alignment`, a power of two. Throws std::bad_alloc.
  HostMemory(uint64_t bytes, uint64_t alignment);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

  // Bytes that the machine, or the control group of this process, can still give without swapping.
  static uint64_t available();

 private:
  std::byte* data_ = nullptr;
  uint64_t size_ = 0, alignment_ = 0;
};

}  // namespace rwkvnative::webgpu
