#include "metal/model.h"

#include "core/chunk.h"
#include "core/error.h"
#include "metal/ceilings.h"
#include "metal/metal.h"
#include "metal/mix_scales.h"
#include "metal/program.h"

namespace rwkvnative::metal {

namespace {

constexpr uint32_t kUsualRows = 128;                // of a chunk of a prompt
constexpr uint32_t kLeastRows = 8, kGoodRows = 64;  // of one that a budget cuts

// What a program for `rows` tokens takes beside the weights, estimated from above.
uint64_t program_bytes(const Plan& plan, uint64_t rows, uint64_t logits_rows) {
  const auto padded = [](uint64_t width) { return (width + 31) / 32 * 32; };
  uint64_t values = 5 * padded(plan.n_embd);  // hidden, the LoRAs' outputs
  for (const Slot& slot : plan.slots) values += padded(slot.width);
  const uint64_t table_row = uint64_t{plan.n_embd} * 4;
  const uint64_t choice = uint64_t{plan.n_vocab} * 24;    // bias, the lists of a top-k
  const uint64_t arguments = plan.ops.size() * 4096;      // a few dispatches an op, of less than 1 KiB each
  const uint64_t logits = logits_rows * padded(plan.n_vocab) * 4;
  return rows * (values * 4 + table_row + 64) + logits + choice + arguments + (64 << 10);
}

uint64_t working_bytes(const Plan& plan, uint32_t rows, uint32_t logits_rows, uint64_t state_bytes) {
  return program_bytes(plan, 1, 1) + program_bytes(plan, rows, logits_rows) + state_reserve(state_bytes);
}

}  // namespace

// Apple GPUs have no int8 dot product that would make codes faster, so Numerics::Int8 would only be less exact and means Auto.
// Auto and F32 differ in mat-mat, halves of weights or floats; and with Tuning::half in mat-vec, halves of activations.
DeviceModel::DeviceModel(std::shared_ptr<const Device> device, std::shared_ptr<Pipelines> pipelines, const Plan& plan,
                         const LoadOptions& options)
    : parts_(std::make_shared<LoadedParts>()) {
  parts_->device = std::move(device);
  parts_->pipelines = std::move(pipelines);
  parts_->plan = &plan;
  parts_->half_products = options.numerics != Numerics::F32;
  parts_->mix_scales = mix_scales(plan);
  parts_->states = std::make_shared<StatePool>(parts_->device, plan);
  // Without a budget of the caller's: what the system recommends.
  const DeviceInfo& info = parts_->device->info();
  budget_ = options.max_device_memory != 0 ? options.max_device_memory : info.memory_bytes;
  try {
    load_weights(options);
  } catch (const BudgetTooSmall& error) {
    if (options.max_device_memory != 0) throw;
    throw DeviceError(message("[metal] ", info.name, ": the model's weights need ", plan.weight_bytes() >> 20,
                              " MiB, the GPU may use ", info.memory_bytes >> 20,
                              " MiB, too little even for a layer at a time; take a smaller model or type (", error.what(), ")"));
  }
}

void DeviceModel::load_weights(const LoadOptions& options) {
  const uint64_t budget = budget_;
  const Device& device = *parts_->device;
  const Plan& plan = *parts_->plan;
  device.memory().set_budget(options.max_device_memory);
  device.memory().reset_peak();
  const auto working = [&](uint32_t rows) { return working_bytes(plan, rows, rows, parts_->states->layout().bytes()); };
  // Where weights must stream, a chunk takes no more than a quarter of the budget from them; and where even two slots do not
  // fit beside it, it is cut further.
  uint32_t& rows = parts_->prefill_rows;
  const uint32_t asked = device.options().tuning.prefill_rows;
  rows = asked != 0 ? asked : kUsualRows;
  const auto halve = [&] { rows = std::min(rows, std::max(kLeastRows, rows / 2 / 8 * 8)); };
  if (budget != 0 && plan.weight_bytes() + plan.weight_bytes() / 32 + working(rows) > budget) {
    while (rows > kGoodRows && working(rows) > budget / 4) halve();
  }
  for (;; halve()) {
    try {
      const WeightLimits limits{.budget = budget, .working = working(rows)};
      parts_->weights = std::make_unique<Weights>(device, plan, limits, options.progress);
      break;
    } catch (const BudgetTooSmall&) {
      if (rows <= kLeastRows) throw;
    }
  }
  loaded_rows_ = parts_->logits_rows = rows;
  if (!parts_->weights->streams()) return;
  device.memory().set_budget(budget);
  parts_->stream = std::make_unique<WeightStream>(device, plan, *parts_->weights, options.file);
}

bool DeviceModel::fits(uint32_t rows) const {
  const Plan& plan = *parts_->plan;
  const uint64_t needed = working_bytes(plan, rows, 1, parts_->states->layout().bytes());
  return program_bytes(plan, rows, 1) <= parts_->device->max_buffer() &&
         (budget_ == 0 || plan.weight_bytes() + plan.weight_bytes() / 32 + needed <= budget_);
}

void DeviceModel::use_tuning() {
  if (parts_->weights->streams()) return;
  const uint32_t rows = parts_->device->options().tuning.prefill_rows;
  if (rows != 0 && !fits(rows)) {
    throw OutOfDeviceMemory(message("[metal] ", parts_->device->info().name, ": ", kPrefillRows, "=", rows,
                                    ": a chunk of so many tokens needs ", program_bytes(*parts_->plan, rows, 1),
                                    " bytes in one buffer, beside ", parts_->plan->weight_bytes() >> 20,
                                    " MiB of weights; the GPU may use ", budget_ >> 20, " MiB and allows buffers of ",
                                    parts_->device->max_buffer(), " bytes"));
  }
  parts_->prefill_rows = rows != 0 ? rows : loaded_rows_;
}

std::vector<uint32_t> DeviceModel::prefill_choices() const {
  if (parts_->weights->streams()) return {};
  return chunk_lengths(
      kUsualRows / 2, kUsualRows * 16, [&](uint32_t rows) { return program_bytes(*parts_->plan, rows, 1); },
      [&](uint32_t rows) { return fits(rows); });
}

std::unique_ptr<State> DeviceModel::create_state() { return std::make_unique<DeviceState>(parts_->states); }

std::unique_ptr<Program> DeviceModel::compile(const Shape& shape) {
  return std::make_unique<DeviceProgram>(parts_, shape);
}

MemoryUse DeviceModel::memory() const {
  const MemoryAccount& account = parts_->device->memory();
  MemoryUse use{.budget = account.budget(), .used = account.used(), .peak = account.peak()};
  count_units(use, parts_->weights->units());
  return use;
}

bool DeviceModel::short_of_room() const {
  const MemoryAccount& account = parts_->device->memory();
  if (account.budget() == 0) return parts_->device->under_pressure();
  const uint64_t kept = state_reserve(parts_->states->layout().bytes()), taken = parts_->states->bytes();
  return account.budget() - account.used() < kept - std::min(kept, taken);
}

DeviceBackend::DeviceBackend(const std::string& device)
    : device_(std::make_shared<Device>(device, Options::from_environment())),
      pipelines_(std::make_shared<Pipelines>(*device_)) {}

std::unique_ptr<LoadedModel> DeviceBackend::load(const Plan& plan, const LoadOptions& options) {
  return std::make_unique<DeviceModel>(device_, pipelines_, plan, options);
}

Ceilings DeviceBackend::measure_ceilings() {
  // The budget is the model's; what is measured with is gone afterwards.
  struct Lifted {
    MemoryAccount& memory;
    uint64_t budget = memory.budget();
    explicit Lifted(MemoryAccount& account) : memory(account) { memory.set_budget(0); }
    ~Lifted() { memory.set_budget(budget); }
  };
  const Lifted lifted(device_->memory());
  return metal::measure_ceilings(*device_, *pipelines_);
}

}  // namespace rwkvnative::metal

namespace rwkvnative {

std::unique_ptr<Backend> open_metal(const std::string& device) {
  return std::make_unique<metal::DeviceBackend>(device);
}

}  // namespace rwkvnative
