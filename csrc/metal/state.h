// The recurrent state of sequences in device memory.
//
// Device layout of a state, in floats: layers in order, each layer's parts in order, every part at a multiple of 64.
// The part that Wkv7 uses is stored [H][key][value], so that neighbouring threads (values) read neighbouring floats;
// the host sees [H][value][key]. Other parts (the token shifts) are read by threads that do not write them while others
// do: they are there twice, and a submit reads one side and writes the other.
//
// States of one model lie in a few large blocks, so that one dispatch serves many sequences.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/backend.h"
#include "metal/device.h"
#include "metal/kernels/arguments.h"

namespace rwkvnative::metal {

class StateLayout {
 public:
  explicit StateLayout(const Plan& plan);

  struct Part {
    uint64_t offset = 0;  // within a layer
    uint32_t values = 0;
    uint64_t side_stride = 0;           // of a part that is there twice; 0 otherwise
    uint32_t heads = 0, head_size = 0;  // of the part that is stored transposed; 0 otherwise
  };
  const Part& part(uint32_t index) const { return parts_.at(index); }
  size_t n_parts() const { return parts_.size(); }
  uint32_t n_layer() const { return n_layer_; }
  uint64_t floats() const { return layer_floats_ * n_layer_; }
  uint64_t bytes() const { return floats() * sizeof(float); }
  uint64_t offset(uint32_t layer, uint32_t part, uint32_t side) const {
    return layer * layer_floats_ + parts_.at(part).offset + side * parts_.at(part).side_stride;
  }
  StatePlace place(uint32_t layer, uint32_t part) const {
    return {floats(), offset(layer, part, 0), parts_.at(part).side_stride};
  }
  size_t host_values() const;

 private:
  std::vector<Part> parts_;
  uint64_t layer_floats_ = 0;
  uint32_t n_layer_ = 0;
};

// The blocks. Thread-safe.
class StatePool {
 public:
  StatePool(std::shared_ptr<const Device> device, const Plan& plan) : device_(std::move(device)), layout_(plan) {}

  struct Place {
    id<MTLBuffer> buffer = nil;
    uint32_t block = 0, index = 0;  // index: number of the state within the block
  };
  // Throws DeviceError if the device has no room. What was there before is still there.
  Place take();
  void give_back(const Place& place);

  uint64_t bytes() const;  // of all blocks

  const Device& device() const { return *device_; }
  const StateLayout& layout() const { return layout_; }

 private:
  struct Block {
    Buffer buffer;
    std::vector<bool> taken;
  };
  std::shared_ptr<const Device> device_;
  const StateLayout layout_;
  mutable std::mutex mutex_;
  std::vector<Block> blocks_;
};

class DeviceState final : public State {
 public:
  // Zero.
  explicit DeviceState(std::shared_ptr<StatePool> pool);
  ~DeviceState() override;

  std::unique_ptr<State> clone() const override;
  void assign(const State& other) override;
  void read(std::span<float> out) const override;
  void write(std::span<const float> in) override;

  const StatePool* pool() const { return pool_.get(); }
  const StatePool::Place& place() const { return place_; }
  uint64_t offset_bytes() const { return place_.index * pool_->layout().bytes(); }
  // The side that holds the token shifts now; a submit writes the other one and then calls flip().
  uint32_t side() const { return side_; }
  void flip() { side_ = 1 - side_; }

 private:
  void clear();
  float* contents() const;

  std::shared_ptr<StatePool> pool_;
  StatePool::Place place_;
  uint32_t side_ = 0;
};

}  // namespace rwkvnative::metal
