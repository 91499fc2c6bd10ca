// How weights get from the model file to the device: packed by several threads, through mapped buffers or into host memory.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/plan.h"
#include "webgpu/device.h"
#include "webgpu/weights.h"

namespace rwkvnative::webgpu {

// Bytes of a group in the device's layout, packed from the file.
void pack_group(const Plan& plan, const WeightGroup& group, std::byte* out);
// memcpy on several threads.
void copy_parallel(const std::byte* in, uint64_t bytes, std::byte* out);

// A ring of mapped buffers.
class Staging {
 public:
  // Buffers of `piece_bytes`, made when first used.
  Staging(const Device& device, uint64_t piece_bytes);
  // Makes all of them now, for uploads whose rows have at most `row_bytes`: later ones cannot run out of memory.
  void reserve(uint64_t row_bytes);

  // Packs a group from the file into `target` at `offset`; `packed`, if given, is told the file's bytes of each piece.
  void upload(const Plan& plan, const WeightGroup& group, WGPUBuffer target, uint64_t offset,
              const std::function<void(uint64_t)>& packed = nullptr);
  // Copies bytes that are packed already.
  void upload(std::span<const std::byte> bytes, WGPUBuffer target, uint64_t offset);

 private:
  struct Slot {
    Buffer buffer;
    WGPUFuture mapped{};
    bool pending = false;
  };

  void make(Slot& slot, uint64_t bytes);
  // Memory of at least `bytes` for the next copy().
  std::byte* next(uint64_t bytes);
  // Queues the copy of what was written there.
  void copy(WGPUBuffer target, uint64_t offset, uint64_t bytes);

  const Device& device_;
  uint64_t piece_bytes_;
  std::vector<Slot> slots_;
  size_t index_ = 0;
};

}  // namespace rwkvnative::webgpu
