#include "metal/state.h"

#include <algorithm>

#include "core/error.h"
#include "core/state_order.h"

namespace rwkvnative::metal {
namespace {

constexpr uint64_t kPartFloats = 64;             // alignment of a part
constexpr uint64_t kFirstBlockBytes = 64 << 20;  // the first block holds at most so much, or one state
constexpr uint64_t kBlockBytes = 1ull << 30;
constexpr uint64_t kMaxPerBlock = 64;

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

StateLayout::StateLayout(const Plan& plan) : n_layer_(plan.n_layer) {
  for (const StatePart& source : plan.state_parts) parts_.push_back({.values = static_cast<uint32_t>(source.values())});
  for (const Op& op : plan.ops) {
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) {
      Part& part = parts_.at(wkv7->state_part);
      part.head_size = plan.head_size;
      part.heads = plan.n_head;
    }
  }
  for (Part& part : parts_) {
    const uint64_t floats = round_up(part.values, kPartFloats);
    part.offset = layer_floats_;
    part.side_stride = part.head_size == 0 ? floats : 0;
    layer_floats_ += floats + part.side_stride;
  }
}

size_t StateLayout::host_values() const {
  size_t values = 0;
  for (const Part& part : parts_) values += part.values;
  return values * n_layer_;
}

StatePool::Place StatePool::take() {
  const std::scoped_lock lock(mutex_);
  for (uint32_t b = 0; b < blocks_.size(); ++b) {
    std::vector<bool>& taken = blocks_[b].taken;
    const auto free = std::find(taken.begin(), taken.end(), false);
    if (free == taken.end()) continue;
    *free = true;
    return {blocks_[b].buffer.get(), b, static_cast<uint32_t>(free - taken.begin())};
  }
  const uint64_t wish = blocks_.empty() ? 8 : 2 * blocks_.back().taken.size();
  const uint64_t room =
      std::min(blocks_.empty() ? kFirstBlockBytes : kBlockBytes, device_->max_buffer()) / layout_.bytes();
  Block block;
  for (uint64_t n = std::max<uint64_t>(1, std::min({wish, room, kMaxPerBlock}));; n /= 2) {
    try {
      block = {device_->create_buffer(message("states ", blocks_.size()), n * layout_.bytes()), std::vector<bool>(n)};
      break;
    } catch (const OutOfDeviceMemory&) {
      if (n == 1) throw;
    }
  }
  block.taken[0] = true;
  blocks_.push_back(std::move(block));
  return {blocks_.back().buffer.get(), static_cast<uint32_t>(blocks_.size() - 1), 0};
}

void StatePool::give_back(const Place& place) {
  const std::scoped_lock lock(mutex_);
  blocks_.at(place.block).taken.at(place.index) = false;
}

uint64_t StatePool::bytes() const {
  const std::scoped_lock lock(mutex_);
  uint64_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.buffer.size;
  return bytes;
}

DeviceState::DeviceState(std::shared_ptr<StatePool> pool) : pool_(std::move(pool)), place_(pool_->take()) {
  try {
    clear();
  } catch (...) {
    pool_->give_back(place_);
    throw;
  }
}

void DeviceState::clear() {
  @autoreleasepool {
    // After what the GPU still does with the state that was here before.
    const CommandBuffer commands = pool_->device().create_command_buffer("state, new");
    id<MTLBlitCommandEncoder> encoder = [commands.get() blitCommandEncoder];
    [encoder fillBuffer:place_.buffer range:NSMakeRange(offset_bytes(), pool_->layout().bytes()) value:0];
    [encoder endEncoding];
    pool_->device().commit_unattended(commands);
  }
}

DeviceState::~DeviceState() { pool_->give_back(place_); }

std::unique_ptr<State> DeviceState::clone() const {
  auto copy = std::make_unique<DeviceState>(pool_);
  copy->assign(*this);
  return copy;
}

void DeviceState::assign(const State& other) {
  const auto& from = static_cast<const DeviceState&>(other);
  @autoreleasepool {
    const CommandBuffer commands = pool_->device().create_command_buffer("state, copy");
    id<MTLBlitCommandEncoder> encoder = [commands.get() blitCommandEncoder];
    [encoder copyFromBuffer:from.place_.buffer
               sourceOffset:from.offset_bytes()
                   toBuffer:place_.buffer
          destinationOffset:offset_bytes()
                       size:pool_->layout().bytes()];
    [encoder endEncoding];
    pool_->device().commit_unattended(commands);
  }
  side_ = from.side_;
}

float* DeviceState::contents() const {
  return reinterpret_cast<float*>(static_cast<std::byte*>([place_.buffer contents]) + offset_bytes());
}

void DeviceState::read(std::span<float> out) const {
  const StateLayout& layout = pool_->layout();
  if (out.size() != layout.host_values())
    throw InputError(message("[metal] state: expected ", layout.host_values(), " values, got room for ", out.size()));
  pool_->device().wait_idle();
  float* host = out.data();
  for (uint32_t layer = 0; layer < layout.n_layer(); ++layer) {
    for (uint32_t p = 0; p < layout.n_parts(); ++p) {
      const float* part = contents() + layout.offset(layer, p, side_);
      for_each_state_value(layout.part(p), [&](uint32_t host_at, uint32_t device_at) { host[host_at] = part[device_at]; });
      host += layout.part(p).values;
    }
  }
}

void DeviceState::write(std::span<const float> in) {
  const StateLayout& layout = pool_->layout();
  if (in.size() != layout.host_values())
    throw InputError(message("[metal] state: expected ", layout.host_values(), " values, got ", in.size()));
  pool_->device().wait_idle();
  const float* host = in.data();
  for (uint32_t layer = 0; layer < layout.n_layer(); ++layer) {
    for (uint32_t p = 0; p < layout.n_parts(); ++p) {
      float* part = contents() + layout.offset(layer, p, side_);
      for_each_state_value(layout.part(p), [&](uint32_t host_at, uint32_t device_at) { part[device_at] = host[host_at]; });
      host += layout.part(p).values;
    }
  }
}

}  // namespace rwkvnative::metal
