// The recurrent state of one sequence in device memory.
//
// Device layout: layers in order, each layer's parts in order, every part at a multiple of 256 bytes. A part that Wkv7 uses
// is stored [H][key][value], so that neighbouring threads (values) read neighbouring floats; the host sees [H][value][key].
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "webgpu/device.h"
#include "webgpu/pipelines.h"

namespace rwkvnative::webgpu {

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
  size_t n_parts() const { return parts_.size(); }
  uint32_t n_layer() const { return n_layer_; }
  uint64_t bytes() const { return layer_bytes_ * n_layer_; }
  uint64_t offset(uint32_t layer, uint32_t part) const { return layer * layer_bytes_ + parts_.at(part).offset; }
  size_t host_values() const;

 private:
  std::vector<Part> parts_;
  uint64_t layer_bytes_ = 0;
  uint32_t n_layer_ = 0;
};

class DeviceState final : public State {
 public:
  DeviceState(std::shared_ptr<const Device> device, std::shared_ptr<const StateLayout> layout,
              std::shared_ptr<const Pipelines> pipelines);

  std::unique_ptr<State> clone() const override;
  void assign(const State& other) override;
  void read(std::span<float> out) const override;
  void write(std::span<const float> in) override;

  // What the state is now. A program for one token reads one state's buffer() and writes the other's back(), which flip()
  // then makes its buffer(): so a state may be read and written at once, and none is copied.
  WGPUBuffer buffer() const { return buffers_[front_].get(); }
  void flip() { front_ = 1 - front_; }
  uint64_t bytes() const { return layout_->bytes(); }
  const StateLayout* layout() const { return layout_.get(); }
  // Bind group 1 of a kernel that uses the part; its dynamic offset is StateLayout::offset().
  WGPUBindGroup group(uint32_t part) const { return groups_[front_].at(part).get(); }
  // The same for the buffer that is not the state now; made when first asked for.
  WGPUBindGroup back_group(uint32_t part);
  // Bind group 2 of a kernel that reads the part of this state and writes another's.
  WGPUBindGroup read_group(uint32_t part) const { return read_groups_[front_].at(part).get(); }

 private:
  std::shared_ptr<const Device> device_;
  std::shared_ptr<const StateLayout> layout_;
  std::shared_ptr<const Pipelines> pipelines_;
  void allocate(uint32_t index);

  Buffer buffers_[2];
  std::vector<BindGroupHandle> groups_[2], read_groups_[2];
  uint32_t front_ = 0;
};

}  // namespace rwkvnative::webgpu
