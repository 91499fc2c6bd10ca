// The backend's own classes behind core/backend.h.
#pragma once

#include <memory>

#include "core/backend.h"
#include "metal/device.h"
#include "metal/pipelines.h"
#include "metal/state.h"
#include "metal/stream.h"
#include "metal/weights.h"

namespace rwkvnative::metal {

// What programs and states of one model share; it lives until the last of them is gone.
struct LoadedParts {
  std::shared_ptr<const Device> device;
  std::shared_ptr<Pipelines> pipelines;
  const Plan* plan = nullptr;
  bool half_products = true;  // mat-mat rounds quantized weights to halves, mat-vec mixes where Tuning::half says so
  std::vector<std::vector<float>> mix_scales;  // of the plan (mix_scales.h)
  std::shared_ptr<StatePool> states;
  std::unique_ptr<const Weights> weights;
  uint32_t prefill_rows = 0;  // tokens of a chunk of a prompt: as many as suit the device and a budget
  uint32_t logits_rows = 0;   // the same where logits of all are wanted
  std::unique_ptr<WeightStream> stream;  // null if everything stays
};

class DeviceModel final : public LoadedModel {
 public:
  DeviceModel(std::shared_ptr<const Device> device, std::shared_ptr<Pipelines> pipelines, const Plan& plan,
              const LoadOptions& options);

  std::unique_ptr<State> create_state() override;
  std::unique_ptr<Program> compile(const Shape& shape) override;
  uint32_t prefill_rows() const override { return parts_->prefill_rows; }
  uint32_t logits_rows() const override { return parts_->logits_rows; }
  uint64_t device_bytes() const override { return parts_->weights->device_bytes(); }
  MemoryUse memory() const override;
  bool short_of_room() const override;
  bool reads_file() const override { return parts_->weights->reads_file(); }
  void use_tuning() override;
  std::vector<uint32_t> prefill_choices() const override;

 private:
  void load_weights(const LoadOptions& options);
  bool fits(uint32_t rows) const;  // a chunk, beside the weights

  std::shared_ptr<LoadedParts> parts_;
  uint64_t budget_ = 0;       // bytes: the caller's, or what the system recommends
  uint32_t loaded_rows_ = 0;  // of a chunk, as load_weights() chose
};

class DeviceBackend final : public Backend {
 public:
  explicit DeviceBackend(const std::string& device);
  const DeviceInfo& info() const override { return device_->info(); }
  std::unique_ptr<LoadedModel> load(const Plan& plan, const LoadOptions& options) override;

  Ceilings measure_ceilings() override;
  void set_tuning(const std::string& text) override { device_->set_tuning(parse_tuning(text)); }
  std::vector<std::string> tuning_variants() const override { return metal::tuning_variants(); }
  std::string kernels_id() const override { return metal::kernels_id(); }

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<Pipelines> pipelines_;
};

}  // namespace rwkvnative::metal
