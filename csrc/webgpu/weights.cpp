#include "webgpu/weights.h"

#include <algorithm>

#include "core/error.h"
#include "core/pack.h"
#include "webgpu/staging.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint64_t kAlignment = 256;           // of a binding; the largest that WebGPU allows a device to ask for
constexpr uint64_t kBufferBytes = 1ull << 30;  // of one buffer of weights, unless a single group is larger

// The tensors of an op that must share one binding, and those that may be split by rows.
struct OpTensors {
  std::vector<TensorId> together, matrices;
};

struct CollectTensors {
  OpTensors operator()(const EmbedOp& op) const { return {{op.norm_weight, op.norm_bias}, {op.table}}; }
  OpTensors operator()(const ShiftMixOp& op) const { return {{op.norm_weight, op.norm_bias, op.lerp}, {}}; }
  OpTensors operator()(const LinearOp& op) const {
    OpTensors tensors;
    for (const LinearPart& part : op.parts) tensors.matrices.push_back(part.weight);
    return tensors;
  }
  OpTensors operator()(const Wkv7Op& op) const {
    OpTensors tensors;
    for (TensorId id :
         {op.w2, op.a2, op.v2, op.g2, op.w0, op.a0, op.v0, op.k_k, op.k_a, op.r_k, op.norm_weight, op.norm_bias}) {
      if (id != kNone) tensors.together.push_back(id);
    }
    return tensors;
  }
  OpTensors operator()(const HeadOp& op) const { return {{op.norm_weight, op.norm_bias}, {op.weight}}; }
};

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The matrices that kernels find rows of by row_at() (kernels/layout_*.wgsl), and which thus can have another layout: all but the
// table of embeddings, of which a workgroup reads one row.
std::vector<bool> multiplied(const Plan& plan) {
  std::vector<bool> multiplied(plan.tensors.size(), false);
  const auto mark = [&](TensorId id) {
    if (id != kNone) multiplied.at(static_cast<size_t>(id)) = true;
  };
  for (const Op& op : plan.ops) {
    if (const auto* linear = std::get_if<LinearOp>(&op))
      for (const LinearPart& part : linear->parts) mark(part.weight);
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op))
      for (TensorId id : {wkv7->w2, wkv7->a2, wkv7->v2, wkv7->g2}) mark(id);
    if (const auto* head = std::get_if<HeadOp>(&op)) mark(head->weight);
  }
  return multiplied;
}

void append(WeightGroup& group, const Tensor& tensor, TensorId id, uint32_t first_row, uint32_t rows, uint32_t layout) {
  const uint64_t row_bytes = packed_row_bytes(tensor.type, tensor.ne0);
  group.rows.push_back({id, first_row, rows, static_cast<uint32_t>(group.bytes / 16), static_cast<uint32_t>(row_bytes / 16),
                        abreast(layout, rows)});
  group.bytes += row_bytes * rows;
}

}  // namespace

const PlacedRows& placed(const WeightGroup& group, TensorId tensor) {
  for (const PlacedRows& rows : group.rows) {
    if (rows.tensor == tensor) return rows;
  }
  throw DeviceError(message("[webgpu] tensor ", tensor, " is not in its group"));
}

Weights::Weights(const Device& device, const Plan& plan, const WeightLimits& limits,
                 const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device) {
  group(plan, UINT64_MAX, limits.layout);
  if (limits.budget != 0) {
    Demand wanted = demand(limits.working);
    uint64_t all = wanted.always + wanted.table + wanted.working, layer = 0;
    for (const Unit& unit : units_) {
      all += unit.bytes;
      if (!unit.of_head) layer = std::max(layer, unit.bytes);
    }
    if (all > limits.budget && layer != 0) {
      group(plan, layer, limits.layout);
      wanted = demand(limits.working);
    }
    table_on_host_ = !choose_residency("webgpu", units_, wanted, limits.budget);
  }
  place();
  for (size_t i = 0; i < buffer_bytes_.size(); ++i) {
    buffers_.push_back(
        device.create_buffer(message("weights ", i), buffer_bytes_[i], WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst));
  }
  upload(plan, limits.staging, progress);
}

uint64_t Weights::bytes_without_table(const Device& device, const Plan& plan, uint32_t layout) {
  Weights weights(device);
  weights.group(plan, UINT64_MAX, layout);
  uint64_t bytes = weights.demand(0).always;
  for (const Unit& unit : weights.units_) bytes += unit.bytes;
  return bytes;
}

Demand Weights::demand(uint64_t working) const {
  Demand demand{.always = 0, .table = 0, .working = working};
  for (size_t op = 0; op < ops_.size(); ++op) {
    for (size_t g = 0; g < ops_[op].size(); ++g) {
      const WeightGroup& group = ops_[op][g];
      if (group.unit == kNoUnit) (embeds_[op] && g != 0 ? demand.table : demand.always) += round_up(group.bytes, kAlignment);
    }
  }
  return demand;
}

// Groups the tensors of each op, and the groups into units. Pieces of the head take at most `head_limit` bytes.
void Weights::group(const Plan& plan, uint64_t head_limit, uint32_t layout) {
  ops_.clear();
  units_.clear();
  merged_.assign(plan.ops.size(), 0);
  embeds_.assign(plan.ops.size(), false);
  const std::vector<bool> is_multiplied = multiplied(plan);
  const auto layout_of = [&](TensorId id) { return is_multiplied[static_cast<size_t>(id)] ? layout : 1; };
  uint32_t unit = kNoUnit, layer = UINT32_MAX;
  const auto enter_layer = [&](const Op& op) {
    const auto* mix = std::get_if<ShiftMixOp>(&op);
    const auto* wkv7 = std::get_if<Wkv7Op>(&op);
    const uint32_t now = mix != nullptr ? mix->layer : wkv7 != nullptr ? wkv7->layer : layer;
    if (now == layer) return;
    layer = now;
    unit = static_cast<uint32_t>(units_.size());
    units_.push_back({.name = message("layer ", layer)});
  };
  const auto join = [&](WeightGroup& group) {
    group.bytes = std::max<uint64_t>(round_up(group.bytes, 16), 16);
    group.unit = unit;
    if (unit != kNoUnit) units_[unit].bytes += round_up(group.bytes, kAlignment);
  };
  for (size_t i = 0; i < plan.ops.size(); ++i) {
    const Op& op = plan.ops[i];
    enter_layer(op);
    if (i + 1 < plan.ops.size() && std::holds_alternative<ShiftMixOp>(op) &&
        std::holds_alternative<LinearOp>(plan.ops[i + 1])) {
      const size_t n = i + 2 < plan.ops.size() && std::holds_alternative<Wkv7Op>(plan.ops[i + 2]) ? 3 : 2;
      WeightGroup group;
      for (size_t j = i; j < i + n; ++j) {
        const OpTensors tensors = std::visit(CollectTensors{}, plan.ops[j]);
        for (const auto* ids : {&tensors.together, &tensors.matrices}) {
          for (TensorId id : *ids) append(group, plan.tensor(id), id, 0, plan.tensor(id).ne1, layout_of(id));
        }
      }
      if (group.bytes <= device_.max_binding()) {
        join(group);
        merged_[i] = n;
        ops_.insert(ops_.end(), n, {group});
        i += n - 1;
        continue;
      }
    }
    const bool of_head = std::holds_alternative<HeadOp>(op);
    embeds_[i] = std::holds_alternative<EmbedOp>(op);
    if (of_head || embeds_[i]) unit = kNoUnit;
    const uint64_t limit = device_.max_binding();
    const OpTensors tensors = std::visit(CollectTensors{}, op);
    std::vector<WeightGroup> groups;
    if (!tensors.together.empty()) {
      WeightGroup group;
      for (TensorId id : tensors.together) append(group, plan.tensor(id), id, 0, plan.tensor(id).ne1, layout_of(id));
      if (group.bytes > limit) {
        throw DeviceError(message("[webgpu] ", device_.info().name, ": ", plan.tensor(tensors.together.front()).name,
                                  " and its companions need a binding of ", group.bytes, " bytes, the device allows ",
                                  limit));
      }
      groups.push_back(std::move(group));
    }
    const size_t vectors = groups.size();
    const uint64_t piece_limit = of_head ? std::min(limit, head_limit) : limit;
    bool open = false;  // whether the last group takes more matrices
    for (TensorId id : tensors.matrices) {
      const Tensor& tensor = plan.tensor(id);
      const uint64_t row_bytes = packed_row_bytes(tensor.type, tensor.ne0);
      for (uint32_t row = 0; row < tensor.ne1;) {
        const uint64_t wanted = tensor.ne1 - row;
        uint64_t room = open ? (piece_limit - groups.back().bytes) / row_bytes : 0;
        if (room < wanted) {  // rather a new group than a split
          groups.emplace_back();
          open = true;
          room = piece_limit / row_bytes;
          if (of_head) room = std::min(std::max<uint64_t>(room, 32), limit / row_bytes);
        }
        // Pieces start at multiples of 32 rows, the block of a quantized output.
        const uint32_t rows = static_cast<uint32_t>(room < wanted ? room / 32 * 32 : wanted);
        if (rows == 0) {
          throw DeviceError(message("[webgpu] ", device_.info().name, ": ", tensor.name, ": 32 rows of ", row_bytes,
                                    " bytes do not fit a binding of ", limit, " bytes"));
        }
        append(groups.back(), tensor, id, row, rows, embeds_[i] ? 1 : layout_of(id));
        row += rows;
      }
    }
    for (size_t g = 0; g < groups.size(); ++g) {
      if (of_head && g >= vectors) {
        const PlacedRows& rows = groups[g].rows.front();
        unit = static_cast<uint32_t>(units_.size());
        units_.push_back(
            {.name = message("head, rows ", rows.first_row, " to ", rows.first_row + rows.rows - 1), .of_head = true});
      }
      join(groups[g]);
    }
    ops_.push_back(std::move(groups));
  }
}

std::vector<const WeightGroup*> Weights::each_group() const {
  std::vector<const WeightGroup*> each;
  for (size_t op = 0; op < ops_.size(); ++op) {
    for (const WeightGroup& group : ops_[op]) each.push_back(&group);
    if (merged_[op] != 0) op += merged_[op] - 1;
  }
  return each;
}

void Weights::place_in_buffer(WeightGroup& group) {
  uint64_t offset = buffer_bytes_.empty() ? 0 : round_up(buffer_bytes_.back(), kAlignment);
  const uint64_t buffer_limit = std::min(std::max(kBufferBytes, group.bytes), device_.limits().maxBufferSize);
  if (buffer_bytes_.empty() || offset + group.bytes > buffer_limit) {
    buffer_bytes_.push_back(0);
    offset = 0;
  }
  group.buffer = static_cast<uint32_t>(buffer_bytes_.size() - 1);
  group.offset = offset;
  buffer_bytes_.back() = offset + group.bytes;
}

// What stays goes into large buffers one behind the other; a streamed unit's groups into its slot, from the start.
void Weights::place() {
  for (size_t op = 0; op < ops_.size(); ++op) {
    if (table_on_host_ && embeds_[op]) ops_[op].resize(1);
    for (WeightGroup& group : ops_[op])
      if (group.unit == kNoUnit || !units_[group.unit].streams()) place_in_buffer(group);
    if (merged_[op] != 0) op += merged_[op] - 1;
  }
  uint64_t slot_bytes = 0;
  for (const Unit& unit : units_) {
    if (unit.streams()) slot_bytes = std::max(slot_bytes, unit.bytes);
  }
  first_slot_ = static_cast<uint32_t>(buffer_bytes_.size());
  if (slot_bytes != 0) buffer_bytes_.insert(buffer_bytes_.end(), kSlots, slot_bytes);
  std::vector<uint64_t> filled(units_.size(), 0);
  for (size_t op = 0; op < ops_.size(); ++op) {
    for (WeightGroup& group : ops_[op]) {
      if (group.unit == kNoUnit || !units_[group.unit].streams()) continue;
      group.buffer = first_slot_ + units_[group.unit].slot;
      group.offset = filled[group.unit];
      filled[group.unit] += round_up(group.bytes, kAlignment);
    }
    for (size_t other = 1; other < merged_[op]; ++other) ops_[op + other] = ops_[op];
    if (merged_[op] != 0) op += merged_[op] - 1;
  }
}

void Weights::upload(const Plan& plan, uint64_t staging_bytes, const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<const WeightGroup*> each = each_group();
  std::erase_if(each, [&](const WeightGroup* group) { return group->unit != kNoUnit && units_[group->unit].streams(); });
  uint64_t total = 0, done = 0;
  for (const WeightGroup* group : each) {
    for (const PlacedRows& rows : group->rows) total += rows.rows * plan.tensor(rows.tensor).row_bytes;
  }
  Staging staging(device_, staging_bytes);
  for (const WeightGroup* group : each) {
    staging.upload(plan, *group, buffers_[group->buffer].get(), group->offset, [&](uint64_t bytes) {
      done += bytes;
      if (progress) progress(done, total);
    });
  }
  device_.wait_idle();
}

bool Weights::streams() const {
  return std::any_of(units_.begin(), units_.end(), [](const Unit& unit) { return unit.streams(); });
}

uint64_t Weights::device_bytes() const {
  uint64_t bytes = 0;
  for (const Buffer& buffer : buffers_) bytes += buffer.size;
  return bytes;
}

}  // namespace rwkvnative::webgpu
