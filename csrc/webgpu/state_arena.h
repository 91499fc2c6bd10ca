// The memory of a model's states. States share buffers, so that one dispatch works on those of many sequences: WebGPU has no
// arrays of bindings. A state's memory is a slot of a block; a block has one buffer a layer, [slot][StateLayout's layer]. Blocks
// grow as a vector does, layer by layer, up to what a binding may hold; only then is there a second block. A block that is
// nearly empty shrinks, an empty one is given back.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/plan.h"
#include "webgpu/device.h"
#include "webgpu/pipelines.h"

namespace rwkvnative::webgpu {

// One layer's share of a state: its parts in order, every part at a multiple of 256 bytes. A part that Wkv7 uses is stored
// [H][key][value], so that neighbouring threads (values) read neighbouring floats; the host sees [H][value][key].
class StateLayout {
 public:
  StateLayout(const Plan& plan);

  struct Part {
    uint64_t offset = 0;  // within a layer, in bytes
    uint64_t bytes = 0;   // of one layer, a multiple of 16
    uint32_t values = 0;
    uint32_t heads = 0, head_size = 0;  // of a part that is stored transposed; 0 otherwise
  };
  const Part& part(uint32_t index) const { return parts_.at(index); }
  uint32_t n_parts() const { return static_cast<uint32_t>(parts_.size()); }
  uint32_t n_layer() const { return n_layer_; }
  uint64_t layer_bytes() const { return layer_bytes_; }
  uint64_t bytes() const { return layer_bytes_ * n_layer_; }
  size_t host_values() const;

 private:
  std::vector<Part> parts_;
  uint64_t layer_bytes_ = 0;
  uint32_t n_layer_ = 0;
};

class StateArena {
 public:
  // Throws DeviceError if a layer of one state does not fit a binding.
  StateArena(std::shared_ptr<const Device> device, std::shared_ptr<const Pipelines> pipelines,
             std::shared_ptr<const StateLayout> layout);
  StateArena(const StateArena&) = delete;
  StateArena& operator=(const StateArena&) = delete;

  // Where a state is now; acquire() and release() of any slot may change it.
  struct Slot {
    uint32_t block = 0, index = 0;
  };

  // Everything below is called with this held, and a slot's place is valid no longer.
  std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }

  // Memory for one state, its contents undefined. Throws DeviceError if the device has no room; all other slots stay as
  // they are. What is on the device's queue already works on.
  const Slot* acquire();
  void release(const Slot* slot) noexcept;

  void clear(WGPUCommandEncoder encoder, const Slot& slot) const;
  void copy(WGPUCommandEncoder encoder, const Slot& from, const Slot& to);

  // All layers of a slot, as the device stores them; these block.
  std::vector<float> read(const Slot& slot) const;
  void write(const Slot& slot, std::span<const float> values) const;

  WGPUBuffer buffer(const Slot& slot, uint32_t layer) const { return blocks_[slot.block].layers[layer].memory.get(); }
  uint64_t offset(const Slot& slot) const { return slot.index * layout_->layer_bytes(); }
  // Bind groups of a part, whose dynamic offset is part_offset(): group 1 and group 2 of Bindings::MainState*.
  WGPUBindGroup part_group(const Slot& slot, uint32_t layer, uint32_t part) const;
  WGPUBindGroup other_part_group(const Slot& slot, uint32_t layer, uint32_t part) const;
  uint32_t part_offset(const Slot& slot, uint32_t part) const {
    return static_cast<uint32_t>(offset(slot) + layout_->part(part).offset);
  }
  // Bind group 1 of Bindings::MainStates: a layer of all slots of a block.
  WGPUBindGroup block_group(uint32_t block, uint32_t layer) const { return blocks_[block].layers[layer].all.get(); }

  // A number that no other submit has.
  uint64_t next_submit() { return ++last_submit_; }

  const Device& device() const { return *device_; }
  const StateLayout& layout() const { return *layout_; }
  uint64_t device_bytes() const;

 private:
  struct Layer {
    Buffer memory;
    BindGroupHandle all;
    std::vector<BindGroupHandle> parts, other_parts;
  };
  struct Block {
    uint32_t capacity = 0, used = 0;
    std::vector<std::unique_ptr<Slot>> slots;  // [capacity]; null: free
    std::vector<Layer> layers;
  };

  void read_at_once(const Slot& slot, std::span<std::byte> out) const;
  const Slot* place_in(uint32_t block);
  // Moves the block's slots to the front of buffers for `capacity` of them.
  void resize(uint32_t block, uint32_t capacity);
  Layer make_layer(uint32_t capacity) const;

  std::shared_ptr<const Device> device_;
  std::shared_ptr<const Pipelines> pipelines_;
  std::shared_ptr<const StateLayout> layout_;
  uint32_t most_slots_ = 1;  // of a block
  std::vector<Block> blocks_;
  Buffer between_;  // of copy(), when first needed
  uint64_t last_submit_ = 0;
  mutable std::mutex mutex_;
};

}  // namespace rwkvnative::webgpu
