#include "webgpu/state_arena.h"

#include <algorithm>

#include "core/error.h"

namespace rwkvnative::webgpu {
namespace {

// A block grows by half, by no more slots than this, and gives half of itself back when three quarters are empty.
constexpr uint32_t kMostGrowth = 64;
constexpr uint32_t kLeastShrunk = 8;
// Old buffers of a block that is moved may wait for the device to be done with them, up to so many bytes.
constexpr uint64_t kMostWaiting = 256 << 20;

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

StateLayout::StateLayout(const Plan& plan) : n_layer_(plan.n_layer) {
  for (const StatePart& source : plan.state_parts) {
    Part part;
    part.offset = layer_bytes_;
    part.values = static_cast<uint32_t>(source.values());
    part.bytes = round_up(part.values * sizeof(float), 16);
    layer_bytes_ += round_up(part.bytes, 256);
    parts_.push_back(part);
  }
  for (const Op& op : plan.ops) {
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
      Part& part = parts_.at(wkv7->state_part);
      part.head_size = plan.head_size;
      part.heads = plan.n_head;
    }
  }
}

size_t StateLayout::host_values() const {
  size_t values = 0;
  for (const Part& part : parts_) values += part.values;
  return values * n_layer_;
}

StateArena::StateArena(std::shared_ptr<const Device> device, std::shared_ptr<const Pipelines> pipelines,
                       std::shared_ptr<const StateLayout> layout)
    : device_(std::move(device)), pipelines_(std::move(pipelines)), layout_(std::move(layout)) {
  if (layout_->layer_bytes() > device_->max_binding()) {
    throw DeviceError(message("[webgpu] ", device_->info().name, ": a state needs a binding of ", layout_->layer_bytes(),
                              " bytes, the device allows ", device_->max_binding()));
  }
  most_slots_ = static_cast<uint32_t>(device_->max_binding() / std::max<uint64_t>(layout_->layer_bytes(), 1));
}

const StateArena::Slot* StateArena::acquire() {
  for (uint32_t block = 0; block < blocks_.size(); ++block) {
    if (blocks_[block].used < blocks_[block].capacity) return place_in(block);
  }
  const auto growing = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.capacity < most_slots_; });
  const auto block = static_cast<uint32_t>(growing - blocks_.begin());
  if (growing == blocks_.end()) blocks_.emplace_back();
  const uint32_t now = blocks_[block].capacity;
  const uint32_t wanted = std::min(now + std::clamp(now / 2, 1u, kMostGrowth), most_slots_);
  try {
    resize(block, wanted);
  } catch (const DeviceError&) {
    if (now == 0) blocks_[block] = {};
    if (wanted == now + 1) throw;
    resize(block, now + 1);
  }
  return place_in(block);
}

const StateArena::Slot* StateArena::place_in(uint32_t block) {
  Block& b = blocks_[block];
  const auto free = std::find(b.slots.begin(), b.slots.end(), nullptr);
  *free = std::make_unique<Slot>(Slot{block, static_cast<uint32_t>(free - b.slots.begin())});
  ++b.used;
  return free->get();
}

void StateArena::release(const Slot* slot) noexcept {
  if (slot == nullptr) return;
  Block& block = blocks_[slot->block];
  const uint32_t number = slot->block;
  block.slots[slot->index].reset();
  --block.used;
  if (block.used == 0) {
    block = {};
  } else if (block.capacity >= kLeastShrunk && block.used <= block.capacity / 4) {
    try {
      resize(number, block.capacity / 2);
    } catch (const std::exception&) {  // it stays as it is
    }
  }
}

StateArena::Layer StateArena::make_layer(uint32_t capacity) const {
  constexpr uint32_t kNumber = 0;
  const auto bind = [&](const char* label, WGPUBindGroupLayout group_layout, const Pipelines::Range& range) {
    return pipelines_->bind(label, group_layout, std::span(&kNumber, 1), std::span(&range, 1));
  };
  Layer layer;
  layer.memory = device_->create_buffer(message("states of ", capacity, " sequences, a layer"),
                                        capacity * layout_->layer_bytes(),
                                        WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst);
  layer.all = bind("states", pipelines_->states_layout(), {layer.memory.get()});
  for (uint32_t part = 0; part < layout_->n_parts(); ++part) {
    const Pipelines::Range range{layer.memory.get(), 0, layout_->part(part).bytes};
    layer.parts.push_back(bind("state", pipelines_->state_layout(), range));
    layer.other_parts.push_back(bind("other state", pipelines_->other_state_layout(), range));
  }
  return layer;
}

void StateArena::resize(uint32_t number, uint32_t capacity) {
  Block& block = blocks_[number];
  std::vector<std::pair<uint32_t, uint32_t>> runs;  // first slot and their number, of neighbours in use
  std::vector<uint32_t> used;
  for (uint32_t i = 0; i < block.capacity; ++i) {
    if (!block.slots[i]) continue;
    used.push_back(i);
    if (!runs.empty() && runs.back().first + runs.back().second == i) {
      ++runs.back().second;
    } else {
      runs.push_back({i, 1});
    }
  }
  // Growing, slots keep their places: layers are replaced one by one, so that no two blocks are held at once, and a growth
  // that stops half-way leaves every layer usable. Shrinking, places change: all layers are replaced or none.
  const bool shrinks = capacity < block.capacity;
  const uint64_t bytes = layout_->layer_bytes();
  std::vector<Layer> layers(block.layers.size());
  block.layers.resize(layout_->n_layer());
  layers.resize(layout_->n_layer());
  uint64_t waiting = 0;
  for (uint32_t i = 0; i < layers.size(); ++i) {
    layers[i] = make_layer(capacity);
    if (!used.empty()) {
      EncoderHandle encoder = device_->create_encoder("states, moved");
      uint32_t to = 0;
      for (const auto& [from, count] : runs) {
        dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), block.layers[i].memory.get(), from * bytes,
                                                layers[i].memory.get(), (shrinks ? to : from) * bytes, count * bytes);
        to += count;
      }
      device_->submit(std::move(encoder));
    }
    if (shrinks) continue;
    block.layers[i] = std::move(layers[i]);
    layers[i] = {};
    waiting += block.capacity * bytes;
    if (waiting >= kMostWaiting) {
      device_->wait_idle();
      waiting = 0;
    }
  }
  if (shrinks) {
    block.layers = std::move(layers);
    std::vector<std::unique_ptr<Slot>> slots(capacity);
    for (uint32_t to = 0; to < used.size(); ++to) {
      slots[to] = std::move(block.slots[used[to]]);
      slots[to]->index = to;
    }
    block.slots = std::move(slots);
  } else {
    block.slots.resize(capacity);
  }
  block.capacity = capacity;
}

void StateArena::clear(WGPUCommandEncoder encoder, const Slot& slot) const {
  for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer)
    dawn().CommandEncoderClearBuffer(encoder, buffer(slot, layer), offset(slot), layout_->layer_bytes());
}

// WebGPU copies nothing within a buffer: a copy within a block goes by way of other memory.
void StateArena::copy(WGPUCommandEncoder encoder, const Slot& from, const Slot& to) {
  const uint64_t bytes = layout_->layer_bytes();
  const bool direct = from.block != to.block;
  if (!direct && !between_) {
    between_ = device_->create_buffer("a state between two places", layout_->bytes(),
                                      WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst);
  }
  for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer) {
    dawn().CommandEncoderCopyBufferToBuffer(encoder, buffer(from, layer), offset(from),
                                            direct ? buffer(to, layer) : between_.get(), direct ? offset(to) : layer * bytes,
                                            bytes);
  }
  for (uint32_t layer = 0; layer < layout_->n_layer() && !direct; ++layer) {
    dawn().CommandEncoderCopyBufferToBuffer(encoder, between_.get(), layer * bytes, buffer(to, layer), offset(to), bytes);
  }
}

std::vector<float> StateArena::read(const Slot& slot) const {
  std::vector<float> values(layout_->bytes() / sizeof(float));
  try {
    read_at_once(slot, std::as_writable_bytes(std::span(values)));
  } catch (const OutOfDeviceMemory&) {  // layer by layer then
    const uint64_t bytes = layout_->layer_bytes();
    for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer)
      device_->read(buffer(slot, layer), offset(slot), std::as_writable_bytes(std::span(values)).subspan(layer * bytes, bytes));
  }
  return values;
}

void StateArena::read_at_once(const Slot& slot, std::span<std::byte> out) const {
  const Buffer all = device_->create_buffer("a state, read back", layout_->bytes(),
                                            WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst);
  EncoderHandle encoder = device_->create_encoder("state read-back");
  const uint64_t bytes = layout_->layer_bytes();
  for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer)
    dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), buffer(slot, layer), offset(slot), all.get(), layer * bytes, bytes);
  device_->submit(std::move(encoder));
  device_->read(all.get(), 0, out);
}

void StateArena::write(const Slot& slot, std::span<const float> values) const {
  const uint64_t bytes = layout_->layer_bytes();
  for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer)
    device_->write(buffer(slot, layer), offset(slot), std::as_bytes(values).subspan(layer * bytes, bytes));
}

WGPUBindGroup StateArena::part_group(const Slot& slot, uint32_t layer, uint32_t part) const {
  return blocks_[slot.block].layers[layer].parts[part].get();
}

WGPUBindGroup StateArena::other_part_group(const Slot& slot, uint32_t layer, uint32_t part) const {
  return blocks_[slot.block].layers[layer].other_parts[part].get();
}

uint64_t StateArena::device_bytes() const {
  uint64_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.capacity * layout_->bytes();
  return bytes;
}

}  // namespace rwkvnative::webgpu
