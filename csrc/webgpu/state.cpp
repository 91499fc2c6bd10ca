#include "webgpu/state.h"

#include <algorithm>

#include "core/error.h"
#include "core/state_order.h"

namespace rwkvnative::webgpu {

DeviceState::DeviceState(std::shared_ptr<StateArena> arena) : arena_(std::move(arena)) {
  const auto lock = arena_->lock();
  slots_[0] = arena_->acquire();
}

DeviceState::~DeviceState() {
  const auto lock = arena_->lock();
  for (const Slot* slot : slots_) arena_->release(slot);
}

void DeviceState::acquire_back() {
  if (slots_[1 - front_] == nullptr) slots_[1 - front_] = arena_->acquire();
}

std::unique_ptr<State> DeviceState::clone() const {
  auto copy = std::make_unique<DeviceState>(arena_);
  copy->assign(*this);
  return copy;
}

void DeviceState::assign(const State& other) {
  const auto& from = static_cast<const DeviceState&>(other);
  if (&from == this) return;
  const auto lock = arena_->lock();
  if (from.fresh_) {
    fresh_ = true;
    return;
  }
  EncoderHandle encoder = arena_->device().create_encoder("state copy");
  arena_->copy(encoder.get(), from.slot(), slot());
  arena_->device().submit(std::move(encoder));
  fresh_ = false;
  arena_->device().check();
}

void DeviceState::read(std::span<float> out) const {
  const StateLayout& layout = arena_->layout();
  if (out.size() != layout.host_values())
    throw InputError(message("[webgpu] state: expected ", layout.host_values(), " values, got room for ", out.size()));
  const auto lock = arena_->lock();
  if (fresh_) {
    std::fill(out.begin(), out.end(), 0.0f);
    return;
  }
  const std::vector<float> raw = arena_->read(slot());
  float* host = out.data();
  for (uint32_t layer = 0; layer < layout.n_layer(); ++layer) {
    for (uint32_t p = 0; p < layout.n_parts(); ++p) {
      const float* part = raw.data() + (layer * layout.layer_bytes() + layout.part(p).offset) / sizeof(float);
      for_each_state_value(layout.part(p), [&](uint32_t host_at, uint32_t device_at) { host[host_at] = part[device_at]; });
      host += layout.part(p).values;
    }
  }
}

void DeviceState::write(std::span<const float> in) {
  const StateLayout& layout = arena_->layout();
  if (in.size() != layout.host_values())
    throw InputError(message("[webgpu] state: expected ", layout.host_values(), " values, got ", in.size()));
  std::vector<float> raw(layout.bytes() / sizeof(float));
  const float* host = in.data();
  for (uint32_t layer = 0; layer < layout.n_layer(); ++layer) {
    for (uint32_t p = 0; p < layout.n_parts(); ++p) {
      float* part = raw.data() + (layer * layout.layer_bytes() + layout.part(p).offset) / sizeof(float);
      for_each_state_value(layout.part(p), [&](uint32_t host_at, uint32_t device_at) { part[device_at] = host[host_at]; });
      host += layout.part(p).values;
    }
  }
  const auto lock = arena_->lock();
  arena_->write(slot(), raw);
  fresh_ = false;
}

}  // namespace rwkvnative::webgpu
