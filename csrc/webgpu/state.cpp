#include "webgpu/state.h"

#include "core/error.h"

namespace rwkvnative::webgpu {
namespace {

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// One layer's part between the host's [head][value][key] and the device's [head][key][value]; the map is its own inverse.
template <class Copy>
void for_each_value(const StateLayout::Part& part, Copy copy) {
  if (part.head_size == 0) {
    for (uint32_t i = 0; i < part.values; ++i) copy(i, i);
    return;
  }
  const uint32_t n = part.head_size;
  for (uint32_t head = 0; head < part.heads; ++head) {
    for (uint32_t value = 0; value < n; ++value) {
      for (uint32_t key = 0; key < n; ++key) copy((head * n + value) * n + key, (head * n + key) * n + value);
    }
  }
}

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

DeviceState::DeviceState(std::shared_ptr<const Device> device, std::shared_ptr<const StateLayout> layout,
                         std::shared_ptr<const Pipelines> pipelines)
    : device_(std::move(device)), layout_(std::move(layout)), pipelines_(std::move(pipelines)) {
  allocate(0);
}

void DeviceState::allocate(uint32_t index) {
  buffers_[index] = device_->create_buffer("state", layout_->bytes(),
                                           WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst);
  constexpr uint32_t kNumber = 0;
  for (uint32_t part = 0; part < layout_->n_parts(); ++part) {
    const Pipelines::Range range{buffers_[index].get(), 0, layout_->part(part).bytes};
    groups_[index].push_back(
        pipelines_->bind("state", pipelines_->state_layout(), std::span(&kNumber, 1), std::span(&range, 1)));
    read_groups_[index].push_back(
        pipelines_->bind("state, read", pipelines_->other_state_layout(), std::span(&kNumber, 1), std::span(&range, 1)));
  }
}

WGPUBindGroup DeviceState::back_group(uint32_t part) {
  if (!buffers_[1 - front_]) allocate(1 - front_);
  return groups_[1 - front_].at(part).get();
}

std::unique_ptr<State> DeviceState::clone() const {
  auto copy = std::make_unique<DeviceState>(device_, layout_, pipelines_);
  copy->assign(*this);
  return copy;
}

void DeviceState::assign(const State& other) {
  EncoderHandle encoder = device_->create_encoder("state copy");
  dawn().CommandEncoderCopyBufferToBuffer(encoder.get(), static_cast<const DeviceState&>(other).buffer(), 0, buffer(), 0,
                                          bytes());
  device_->submit(std::move(encoder));
  device_->check();
}

void DeviceState::read(std::span<float> out) const {
  if (out.size() != layout_->host_values())
    throw InputError(message("[webgpu] state: expected ", layout_->host_values(), " values, got room for ", out.size()));
  std::vector<float> raw(bytes() / sizeof(float));
  device_->read(buffer(), 0, std::as_writable_bytes(std::span(raw)));
  float* host = out.data();
  for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer) {
    for (uint32_t p = 0; p < layout_->n_parts(); ++p) {
      const float* part = raw.data() + layout_->offset(layer, p) / sizeof(float);
      for_each_value(layout_->part(p), [&](uint32_t host_at, uint32_t device_at) { host[host_at] = part[device_at]; });
      host += layout_->part(p).values;
    }
  }
}

void DeviceState::write(std::span<const float> in) {
  if (in.size() != layout_->host_values())
    throw InputError(message("[webgpu] state: expected ", layout_->host_values(), " values, got ", in.size()));
  std::vector<float> raw(bytes() / sizeof(float));
  const float* host = in.data();
  for (uint32_t layer = 0; layer < layout_->n_layer(); ++layer) {
    for (uint32_t p = 0; p < layout_->n_parts(); ++p) {
      float* part = raw.data() + layout_->offset(layer, p) / sizeof(float);
      for_each_value(layout_->part(p), [&](uint32_t host_at, uint32_t device_at) { part[device_at] = host[host_at]; });
      host += layout_->part(p).values;
    }
  }
  device_->write(buffer(), 0, std::as_bytes(std::span(raw)));
}

}  // namespace rwkvnative::webgpu
