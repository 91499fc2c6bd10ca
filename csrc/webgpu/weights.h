// The weights of a plan on the device: packed (pack.h), and grouped so that each dispatch needs one binding.
#pragma once

#include <functional>
#include <vector>

#include "core/plan.h"
#include "core/residency.h"
#include "webgpu/device.h"

namespace rwkvnative::webgpu {

// Some rows of a tensor within a group.
struct PlacedRows {
  TensorId tensor = kNone;
  uint32_t first_row = 0, rows = 0;
  uint32_t at = 0;         // vec4 of the first row within the group's binding
  uint32_t row_vec4s = 0;  // of a row, and from row to row where they lie one behind the other
  uint32_t abreast = 1;    // rows that lie side by side (core/pack.h)
};

// What one dispatch binds.
struct WeightGroup {
  std::vector<PlacedRows> rows;
  uint32_t buffer = 0;
  uint64_t offset = 0, bytes = 0;
  uint32_t unit = kNoUnit;  // what it stays or streams with
};

// What loading may use.
struct WeightLimits {
  uint64_t budget = 0;         // bytes on the device for everything; 0: no limit
  uint64_t working = 0;        // of them for what is not weights
  uint64_t staging = 16 << 20;  // bytes of a staging buffer
  uint32_t layout = 1;          // of matrices: Tuning::layout
};

class Weights {
 public:
  // Places the tensors of each op: all of an op's tensors in one group where they fit a binding; matrices of Embed, Linear
  // and Head that do not are split by rows over several groups. Decides what streams (residency.h), then packs and uploads
  // the rest, telling `progress` bytes of the file. Throws OutOfDeviceMemory if the device has no room, InputError if the
  // budget is too small.
  Weights(const Device& device, const Plan& plan, const WeightLimits& limits,
          const std::function<void(uint64_t, uint64_t)>& progress);

  // Bytes that everything takes in the device's layout but the embedding table, which the host may keep, and whole units take.
  static uint64_t bytes_without_table(const Device& device, const Plan& plan, uint32_t layout);

  // Groups of an op: [0] the vectors of Embed and Head, everything of ShiftMix and Wkv7; then the pieces of matrices.
  // ShiftMix, Linear and perhaps Wkv7 in a row share one group where it fits a binding: see merged(). Embed has no pieces if
  // table_on_host().
  std::span<const WeightGroup> groups(size_t op) const { return ops_.at(op); }
  // How many ops from op on share one group; 0 where it is not the first of several.
  size_t merged(size_t op) const { return merged_.at(op); }
  // What a dispatch binds for a group: of a streamed unit, its slot.
  WGPUBuffer buffer(const WeightGroup& group) const { return buffers_.at(group.buffer).get(); }
  WGPUBuffer slot(uint32_t number) const { return buffers_.at(first_slot_ + number).get(); }
  uint64_t device_bytes() const;

  const std::vector<Unit>& units() const { return units_; }
  bool streams() const;
  bool table_on_host() const { return table_on_host_; }
  // Every group once, in the order of the ops.
  std::vector<const WeightGroup*> each_group() const;

 private:
  explicit Weights(const Device& device) : device_(device) {}
  void group(const Plan& plan, uint64_t head_limit, uint32_t layout);
  Demand demand(uint64_t working) const;
  void place();
  void place_in_buffer(WeightGroup& group);
  void upload(const Plan& plan, uint64_t staging_bytes, const std::function<void(uint64_t, uint64_t)>& progress);

  const Device& device_;
  std::vector<std::vector<WeightGroup>> ops_;
  std::vector<size_t> merged_;  // of the first op of a shared group: how many share it
  std::vector<bool> embeds_;  // whether the op is an Embed
  std::vector<Unit> units_;
  bool table_on_host_ = false;
  std::vector<uint64_t> buffer_bytes_;
  std::vector<Buffer> buffers_;
  uint32_t first_slot_ = 0;  // of the buffers; they are the last
};

// Where a tensor lies in a group that holds all of it.
const PlacedRows& placed(const WeightGroup& group, TensorId tensor);

}  // namespace rwkvnative::webgpu
