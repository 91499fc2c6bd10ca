// The backend's own classes behind core/backend.h.
#pragma once

#include <memory>

#include "core/backend.h"
#include "core/magnitude.h"
#include "webgpu/device.h"
#include "webgpu/pipelines.h"
#include "webgpu/state.h"
#include "webgpu/stream.h"
#include "webgpu/weight_tiles.h"
#include "webgpu/weights.h"

namespace rwkvnative::webgpu {

struct ProgramSize;  // program.h

// What programs and states of one model share; it lives until the last of them is gone.
struct LoadedParts {
  std::shared_ptr<const Device> device;
  std::shared_ptr<Pipelines> pipelines;
  const Plan* plan = nullptr;
  bool int8 = true;  // how activations meet quantized weights
  std::shared_ptr<StateArena> states;
  std::unique_ptr<const Weights> weights;
  // Tokens of a chunk of a prompt: as many as suit the device, and as many as a budget leaves room for.
  uint32_t usual_rows = 0, prefill_rows = 0;
  uint32_t usual_logits_rows = 0, logits_rows = 0;  // the same where logits of all are wanted
  uint32_t layout = 1;                   // of the weights: Tuning::layout
  std::unique_ptr<WeightStream> stream;  // null if everything stays on the device
  std::unique_ptr<TileStore> tiles = std::make_unique<TileStore>();
  std::vector<Magnitude> magnitudes;     // of each tensor, where the device has float16: core/magnitude.h

  const Magnitude& magnitude(TensorId id) const { return magnitudes.at(static_cast<size_t>(id)); }
  float half_scale(TensorId id) const { return rwkvnative::half_scale(plan->tensor(id), magnitude(id)); }
};

class DeviceModel final : public LoadedModel {
 public:
  DeviceModel(std::shared_ptr<const Device> device, std::shared_ptr<Pipelines> pipelines, const Plan& plan,
              const LoadOptions& options);

  std::unique_ptr<State> create_state() override;
  std::unique_ptr<Program> compile(const Shape& shape) override;
  uint32_t prefill_rows() const override { return parts_->prefill_rows; }
  uint32_t logits_rows() const override { return parts_->logits_rows; }
  std::vector<uint32_t> short_rows() const override;
  uint64_t device_bytes() const override {
    return parts_->weights ? parts_->weights->device_bytes() + parts_->tiles->kept_bytes() : 0;
  }
  MemoryUse memory() const override;
  uint32_t most_drawn() const override;
  bool short_of_room() const override;
  bool reads_file() const override { return parts_->stream && parts_->stream->reads_file(); }
  bool wants_reload() const override { return parts_->device->options().tuned.all.layout != parts_->layout; }
  void reload() override;
  void use_tuning() override;
  std::vector<uint32_t> prefill_choices() const override;

 private:
  uint32_t usual_rows() const;
  std::vector<uint32_t> short_rows(uint32_t below) const;  // than so many rows of a chunk
  uint32_t most_rows() const;  // that usual_rows() gives, where they fit a binding
  ProgramSize chunk_size(uint32_t rows) const;
  uint64_t chunk_bytes(uint32_t rows, uint32_t logits_rows) const;
  uint64_t working_bytes(uint32_t rows, uint32_t logits_rows) const;
  void choose_rows();
  bool fits(uint32_t rows) const;  // a chunk, beside the weights
  void load_weights(const LoadOptions& options);
  std::shared_ptr<LoadedParts> parts_;
  LoadOptions options_;  // what reload() takes
  uint64_t budget_ = 0;  // bytes: the caller's, or what the device has
  uint32_t asked_rows_ = 0;  // of a chunk, by the environment; 0: chosen
  uint32_t loaded_usual_rows_ = 0, loaded_rows_ = 0;  // LoadedParts' as load_weights() chose them
  bool has_room_ = true;  // for the weights and Programs of every length
};

class DeviceBackend final : public Backend {
 public:
  explicit DeviceBackend(const std::string& device);
  const DeviceInfo& info() const override { return device_->info(); }
  std::unique_ptr<LoadedModel> load(const Plan& plan, const LoadOptions& options) override;
  Ceilings measure_ceilings() override;

  const Device& device() const { return *device_; }
  size_t kernels() const { return pipelines_->size(); }  // compiled so far
  std::multimap<std::string, double> compile_seconds() const { return pipelines_->seconds(); }  // of each, by label
  void set_tuning(const std::string& text) override { device_->set_tuning(parse_tuning(text)); }
  std::vector<std::string> tuning_variants() const override { return webgpu::tuning_variants(device_->matrix().has_value()); }
  std::string kernels_id() const override;

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<Pipelines> pipelines_;
};

}  // namespace rwkvnative::webgpu
