// Which rows and which states the sequences of a submit have, as the kernels of a program for many rows see it: a table of
// (first row, rows, slot to read or kNoSlot, slot to write) for each block of the arena (kernels/states.wgsl).
#pragma once

#include <span>
#include <vector>

#include "webgpu/model.h"

namespace rwkvnative::webgpu {

class SequenceTable {
 public:
  static constexpr uint32_t kNoSlot = 0xffffffff;  // a fresh state: zeros

  // covers_state: the program writes all of every state that it is given.
  SequenceTable(std::shared_ptr<const LoadedParts> model, uint32_t most_sequences, bool covers_state);

  // All of these with the arena's lock held, in this order. Sequences were checked; rows[s] is (first row, rows).
  struct Rows {
    uint32_t first, count;
  };
  // Throws InputError if a state that one sequence writes is another's too.
  void prepare(std::span<const Sequence> sequences, std::span<const Rows> rows);
  void encode_copies(WGPUCommandEncoder encoder) const;
  // Blocks in use: a dispatch for each.
  size_t blocks() const { return blocks_.size(); }
  void bind(WGPUComputePassEncoder pass, size_t block, uint32_t layer) const;
  void submitted();
  uint64_t device_bytes() const { return buffer_.size; }

 private:
  void make_room(size_t blocks);

  struct Use {
    DeviceState* out = nullptr;
    const DeviceState* in = nullptr;  // null: fresh
    uint32_t block = 0;  // index into blocks_
  };
  bool copies(const Use& use) const;

  std::shared_ptr<const LoadedParts> model_;
  uint32_t section_bytes_;
  bool covers_state_;
  std::vector<Use> uses_;
  std::vector<uint32_t> blocks_;  // numbers in the arena
  std::vector<uint32_t> table_, written_;
  Buffer buffer_;
  BindGroupHandle group_;
};

}  // namespace rwkvnative::webgpu
