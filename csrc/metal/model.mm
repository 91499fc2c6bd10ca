#include "metal/model.h"

#include "core/error.h"
#include "metal/metal.h"
#include "metal/program.h"

namespace rwkvnative::metal {

// Activations are float32 whatever is asked for: Apple GPUs have no int8 dot product that would make codes faster, so
// Numerics::Int8 would only be less exact and means Auto. Auto and F32 differ in mat-mat alone: halves of weights, or
// floats.
DeviceModel::DeviceModel(std::shared_ptr<const Device> device, std::shared_ptr<Pipelines> pipelines, const Plan& plan,
                         const LoadOptions& options)
    : parts_(std::make_shared<LoadedParts>()) {
  // A Mac's GPU works in the memory of its CPU: a file larger than that is paged, by the system.
  if (options.max_device_memory != 0) {
    throw InputError(message("[metal] ", device->info().name, ": max_device_memory: expected 0, got ",
                             options.max_device_memory,
                             "; the GPU shares the CPU's memory, and weights cannot be streamed here"));
  }
  parts_->device = std::move(device);
  parts_->pipelines = std::move(pipelines);
  parts_->plan = &plan;
  parts_->half_products = options.numerics != Numerics::F32;
  parts_->states = std::make_shared<StatePool>(parts_->device, plan);
  parts_->weights = std::make_unique<Weights>(*parts_->device, plan, options.progress);
}

std::unique_ptr<State> DeviceModel::create_state() { return std::make_unique<DeviceState>(parts_->states); }

std::unique_ptr<Program> DeviceModel::compile(const Shape& shape) {
  return std::make_unique<DeviceProgram>(parts_, shape);
}

// Buffers are never given back before the model is, so that what is used now is the most that was. Everything is resident.
MemoryUse DeviceModel::memory() const {
  const uint64_t bytes = parts_->weights->device_bytes() + parts_->states->bytes();
  const uint32_t layers = parts_->plan->n_layer + 1;
  return {.used = bytes, .peak = bytes, .layers = layers, .resident_layers = layers};
}

uint32_t DeviceModel::prefill_rows() const { return parts_->device->options().tuning.prefill_rows; }

DeviceBackend::DeviceBackend(const std::string& device)
    : device_(std::make_shared<Device>(device, Options::from_environment())),
      pipelines_(std::make_shared<Pipelines>(*device_)) {}

std::unique_ptr<LoadedModel> DeviceBackend::load(const Plan& plan, const LoadOptions& options) {
  return std::make_unique<DeviceModel>(device_, pipelines_, plan, options);
}

std::string DeviceBackend::kernels_id() const {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto add = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  };
  for (const auto& [name, text] : kernel_sources()) add(name), add(text);
  return std::to_string(hash);
}

}  // namespace rwkvnative::metal

namespace rwkvnative {

std::unique_ptr<Backend> open_metal(const std::string& device) {
  return std::make_unique<metal::DeviceBackend>(device);
}

}  // namespace rwkvnative
