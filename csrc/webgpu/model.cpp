#include "webgpu/model.h"

#include <algorithm>

#include "webgpu/ceilings.h"
#include "webgpu/program.h"
#include "webgpu/webgpu.h"

namespace rwkvnative::webgpu {

DeviceModel::DeviceModel(std::shared_ptr<const Device> device, std::shared_ptr<Pipelines> pipelines, const Plan& plan,
                         const LoadOptions& options)
    : parts_(std::make_shared<LoadedParts>()) {
  parts_->device = std::move(device);
  parts_->pipelines = std::move(pipelines);
  parts_->plan = &plan;
  parts_->int8 = options.numerics != Numerics::F32;
  parts_->states =
      std::make_shared<StateArena>(parts_->device, parts_->pipelines, std::make_shared<StateLayout>(plan));
  parts_->weights = std::make_unique<Weights>(*parts_->device, plan, options.progress);
}

std::unique_ptr<State> DeviceModel::create_state() {
  return std::make_unique<DeviceState>(parts_->states);
}

std::unique_ptr<Program> DeviceModel::compile(const Shape& shape) { return std::make_unique<DeviceProgram>(parts_, shape); }

uint32_t DeviceModel::prefill_rows() const {
  // All logits of a chunk and its activations must fit a binding, with room to spare.
  uint64_t widths = parts_->plan->n_vocab;
  for (const Slot& slot : parts_->plan->slots) widths += slot.width;
  const uint64_t fit = parts_->device->max_binding() / 2 / std::max<uint64_t>(1, widths * 6);
  return static_cast<uint32_t>(std::clamp<uint64_t>(fit / 8 * 8, 8, 128));
}

DeviceBackend::DeviceBackend(const std::string& device)
    : device_(std::make_shared<Device>(choose_adapter(device), Options::from_environment())),
      pipelines_(std::make_shared<Pipelines>(*device_)) {}

std::unique_ptr<LoadedModel> DeviceBackend::load(const Plan& plan, const LoadOptions& options) {
  return std::make_unique<DeviceModel>(device_, pipelines_, plan, options);
}

Ceilings DeviceBackend::measure_ceilings() { return webgpu::measure_ceilings(*device_, *pipelines_); }

}  // namespace rwkvnative::webgpu

namespace rwkvnative {

std::unique_ptr<Backend> open_webgpu(const std::string& device) { return std::make_unique<webgpu::DeviceBackend>(device); }

}  // namespace rwkvnative
