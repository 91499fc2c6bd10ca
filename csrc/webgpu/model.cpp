#include "webgpu/model.h"

#include <algorithm>
#include <future>

#include "core/chunk.h"
#include "core/error.h"
#include "core/magnitude.h"
#include "webgpu/ceilings.h"
#include "webgpu/program.h"
#include "webgpu/shader.h"
#include "webgpu/watchdog.h"
#include "webgpu/webgpu.h"

namespace rwkvnative::webgpu {
namespace {

// Of a chunk of a prompt. Good ones are more than the largest Program for short prompts has: sums of so few rows are then cut into the
// same pieces with a budget and without.
constexpr uint32_t kLeastRows = 8, kGoodRows = 72;

// Whole tiles of products, if there is more than one.
uint32_t whole_rows(uint32_t rows) { return std::max(kLeastRows, rows > 64 ? rows / 64 * 64 : rows / 8 * 8); }

uint32_t shorter(uint32_t rows) { return std::max(rows > kGoodRows ? kGoodRows : kLeastRows, rows / 2 / 8 * 8); }

uint64_t staging_bytes(const Plan& plan) {
  return std::clamp<uint64_t>(plan.weight_bytes() / 256 / 256 * 256, 64 << 10, 16 << 20);
}

// Of each tensor that float16 rows are made with: vectors, and matrices, which may have a single row (a LoRA of rank 1).
std::vector<Magnitude> magnitudes(const Plan& plan) {
  std::vector<Magnitude> all;
  for (const Tensor& tensor : plan.tensors) all.push_back(magnitude_bound(tensor));
  return all;
}

}  // namespace

DeviceModel::DeviceModel(std::shared_ptr<const Device> device, std::shared_ptr<Pipelines> pipelines, const Plan& plan,
                         const LoadOptions& options)
    : parts_(std::make_shared<LoadedParts>()) {
  parts_->device = std::move(device);
  parts_->pipelines = std::move(pipelines);
  parts_->plan = &plan;
  parts_->int8 = options.numerics != Numerics::F32;
  parts_->states =
      std::make_shared<StateArena>(parts_->device, parts_->pipelines, std::make_shared<StateLayout>(plan));
  // Without a budget of the caller's: what the device has, less what its driver and others keep.
  const uint64_t total = std::min(parts_->device->info().memory_bytes, parts_->device->memory().pretended_total());
  budget_ = options.max_device_memory != 0 ? options.max_device_memory : total / 16 * 15;
  options_ = options;
  options_.progress = nullptr;
  parts_->layout = parts_->device->options().tuned.all.layout;
  asked_rows_ = parts_->device->options().tuned.all.prefill_rows;
  // While the weights are uploaded: reading them for that takes as long.
  std::future<std::vector<Magnitude>> sizes;
  if (parts_->device->half()) sizes = std::async(std::launch::async | std::launch::deferred, [&plan] { return magnitudes(plan); });
  for (;;) {
    try {
      load_weights(options);
      if (sizes.valid()) parts_->magnitudes = sizes.get();
      return;
    } catch (const BudgetTooSmall& error) {
      if (options.max_device_memory != 0) throw;
      throw DeviceError(message("[webgpu] ", parts_->device->info().name, ": the model's weights need ",
                                plan.weight_bytes() >> 20, " MiB of device memory, the device has ", total >> 20,
                                " MiB, too little even for a layer at a time; take a smaller model or type (", error.what(),
                                ")"));
    } catch (const OutOfDeviceMemory&) {
      // Others hold a part of the device: what could be had is the budget then.
      const uint64_t had = parts_->device->memory().peak();
      parts_->weights = nullptr;
      parts_->stream = nullptr;
      if (options.max_device_memory != 0 || had == 0 || had >= budget_) throw;
      budget_ = had / 16 * 15;
    }
  }
}

void DeviceModel::reload() {
  const auto load = [&](uint32_t layout) {
    parts_->stream = nullptr;
    parts_->weights = nullptr;
    parts_->layout = layout;
    try {
      load_weights(options_);
    } catch (...) {
      parts_->weights = nullptr;  // of those that stream it has no use without the rest: see compile()
      throw;
    }
  };
  parts_->device->wait_idle();
  const uint32_t before = parts_->layout;
  try {
    load(parts_->device->options().tuned.all.layout);
  } catch (...) {
    load(before);
    throw;
  }
}

void DeviceModel::load_weights(const LoadOptions& options) {
  const uint64_t budget = budget_;
  const Device& device = *parts_->device;
  const Plan& plan = *parts_->plan;
  device.memory().set_budget(options.max_device_memory);
  device.memory().reset_peak();
  WeightLimits limits{.budget = budget, .layout = parts_->layout};
  limits.staging = staging_bytes(plan);
  uint32_t& rows = parts_->prefill_rows;
  uint32_t& logits_rows = parts_->logits_rows;
  rows = parts_->usual_rows = usual_rows();
  logits_rows = parts_->usual_logits_rows = std::min(rows, whole_rows(most_head_rows(*parts_->device, plan)));
  if (asked_rows_ != 0) rows = parts_->usual_rows = asked_rows_;
  choose_rows();
  const auto working = [&] { return working_bytes(rows, logits_rows); };
  const auto halve = [&] {
    rows = shorter(rows);
    logits_rows = std::min(logits_rows, rows);
  };
  for (;; halve()) {
    limits.working = working();
    try {
      parts_->weights = std::make_unique<Weights>(device, plan, limits, options.progress);
      break;
    } catch (const BudgetTooSmall&) {
      if (rows <= kLeastRows) throw;
    }
  }
  loaded_usual_rows_ = parts_->usual_rows;
  loaded_rows_ = rows;
  if (!parts_->weights->streams() && !parts_->weights->table_on_host()) return;
  device.memory().set_budget(budget);
  parts_->stream =
      std::make_unique<WeightStream>(device, plan, *parts_->weights, limits.staging, options.progress);
}

// ---- chunks of a prompt

// Of one Program of a chunk, without what it reads out.
ProgramSize DeviceModel::chunk_size(uint32_t rows) const {
  return program_size(*parts_, {.rows = rows, .sequences = 1, .readout = Readout::None});
}

// Of the Programs of a prompt: two for chunks, as its end reads results, and the shorter ones; or one for the logits of all.
uint64_t DeviceModel::chunk_bytes(uint32_t rows, uint32_t logits_rows) const {
  const bool has_head = std::any_of(parts_->plan->ops.begin(), parts_->plan->ops.end(), [](const Op& op) { return std::holds_alternative<HeadOp>(op); });
  const auto bytes = [&](uint32_t n, Readout readout) {
    return program_size(*parts_, {.rows = n, .sequences = 1, .readout = has_head ? readout : Readout::None}).bytes;
  };
  uint64_t prompt = 2 * bytes(rows, Readout::LastLogits);
  for (const uint32_t n : short_rows(rows)) prompt += bytes(n, Readout::LastLogits);
  return std::max(prompt, bytes(logits_rows, Readout::AllLogits)) + 2 * bytes(1, has_head ? Readout::Argmax : Readout::None);
}

uint64_t DeviceModel::working_bytes(uint32_t rows, uint32_t logits_rows) const {
  return chunk_bytes(rows, logits_rows) + state_reserve(parts_->states->layout().bytes()) + 3 * staging_bytes(*parts_->plan);
}

// Under a budget. A layer that streams costs every token, a shorter chunk only prompts: everything stays if it can with any good
// number of rows; and where it cannot, longer chunks take no more from the layers than an eighth of what streams anyway.
void DeviceModel::choose_rows() {
  uint32_t& rows = parts_->prefill_rows;
  uint32_t& logits_rows = parts_->logits_rows;
  const Plan& plan = *parts_->plan;
  has_room_ = true;
  if (budget_ == 0 || plan.weight_bytes() + plan.weight_bytes() / 32 + working_bytes(rows, logits_rows) <= budget_) return;
  has_room_ = false;
  logits_rows = std::min(logits_rows, kGoodRows);  // as many bytes as all the rest, and few calls want many
  const uint64_t weights = Weights::bytes_without_table(*parts_->device, plan, parts_->layout);
  const auto wanted = [&](uint32_t n) { return weights + working_bytes(n, std::min(n, logits_rows)); };
  const uint32_t least = std::min(rows, kGoodRows);
  const uint64_t least_wanted = wanted(least);
  const uint64_t most = least_wanted <= budget_ ? budget_ : least_wanted + (least_wanted - budget_) / 8;
  while (rows > least && wanted(rows) > most) rows = std::max(least, shorter(rows));
  logits_rows = std::min(logits_rows, rows);
}

bool DeviceModel::fits(uint32_t rows) const {
  const Plan& plan = *parts_->plan;
  return chunk_size(rows).binding <= parts_->device->max_binding() &&
         (budget_ == 0 || plan.weight_bytes() + plan.weight_bytes() / 32 + working_bytes(rows, 1) <= budget_);
}

void DeviceModel::use_tuning() {
  if (!parts_->weights || parts_->weights->streams()) return;
  const uint32_t rows = parts_->device->options().tuned.all.prefill_rows;
  if (rows != 0 && !fits(rows)) {
    throw OutOfDeviceMemory(message("[webgpu] ", parts_->device->info().name, ": ", kPrefillRows, "=", rows,
                                    ": a chunk of so many tokens needs ", chunk_size(rows).binding,
                                    " bytes in one binding, beside ", parts_->plan->weight_bytes() >> 20,
                                    " MiB of weights; the device has ", budget_ >> 20, " MiB and allows bindings of ",
                                    parts_->device->max_binding(), " bytes"));
  }
  parts_->usual_rows = rows != 0 ? rows : loaded_usual_rows_;
  parts_->prefill_rows = rows != 0 ? rows : loaded_rows_;
}

std::vector<uint32_t> DeviceModel::prefill_choices() const {
  if (!parts_->weights || parts_->weights->streams()) return {};
  const uint32_t usual = most_rows(), most = std::max(usual, most_layer_rows(*parts_->device, *parts_->plan));
  return chunk_lengths(
      usual / 8, std::min(usual * 4, most), [&](uint32_t rows) { return chunk_size(rows).bytes; },
      [&](uint32_t rows) { return fits(rows); });
}

std::unique_ptr<State> DeviceModel::create_state() {
  return std::make_unique<DeviceState>(parts_->states);
}

std::unique_ptr<Program> DeviceModel::compile(const Shape& shape) {
  if (!parts_->weights) throw DeviceError(message("[webgpu] ", parts_->device->info().name, ": the model's weights could not be reloaded"));
  return std::make_unique<DeviceProgram>(parts_, shape);
}

MemoryUse DeviceModel::memory() const {
  const MemoryAccount& account = parts_->device->memory();
  MemoryUse use{.budget = account.budget(), .used = account.used(), .peak = account.peak()};
  if (!parts_->weights) return use;  // see compile()
  count_units(use, parts_->weights->units());
  if (parts_->stream) use.host_bytes = parts_->stream->host_bytes();
  return use;
}

uint32_t DeviceModel::most_drawn() const { return webgpu::most_drawn(*parts_->device, parts_->plan->n_vocab); }

bool DeviceModel::short_of_room() const {
  const MemoryAccount& account = parts_->device->memory();
  if (account.budget() == 0) return false;
  const auto lock = parts_->states->lock();
  const uint64_t kept = state_reserve(parts_->states->layout().bytes()), taken = parts_->states->device_bytes();
  return account.budget() - account.used() < kept - std::min(kept, taken);
}

uint32_t DeviceModel::usual_rows() const {
  // All logits of a chunk and its activations must fit a binding, with room to spare.
  uint64_t widths = parts_->plan->n_vocab;
  for (const Slot& slot : parts_->plan->slots) widths += slot.width;
  const uint64_t fit = parts_->device->max_binding() / 2 / std::max<uint64_t>(1, widths * 6);
  return static_cast<uint32_t>(std::clamp<uint64_t>(fit / 8 * 8, kLeastRows, most_rows()));
}

// Tiles of matrix products want many rows; mat-vecs gain nothing beyond a few.
uint32_t DeviceModel::most_rows() const {
  if (parts_->device->info().kind == DeviceKind::Software) return 128;
  return std::min(1024u, whole_rows(most_layer_rows(*parts_->device, *parts_->plan)));
}

std::vector<uint32_t> DeviceModel::short_rows() const { return short_rows(parts_->prefill_rows); }

std::vector<uint32_t> DeviceModel::short_rows(uint32_t below) const {
  // A chunk's Program takes 15 ms for 3 tokens (H200, 2.9B Q4_K_M): its tiles have 128 rows and its workgroups share none. These
  // are the last rows for which other kernels are chosen: mat-vecs of several columns (6 ms for 16 rows) and tiles of 64 (7 ms); and
  // where tiles of 128 rows are two or four times as few as in a chunk (9 and 13 ms, where it has 17 and 18). Others gain less than
  // they cost to compile. The two largest cost a layer or two, so not where memory is short.
  constexpr uint32_t kFew = 16 + 64, kMore = 128 + 256;
  const uint32_t wish = parts_->device->options().tuned.all.short_rows;
  // A software device's kernels are the same for any number of rows.
  const bool software = parts_->device->info().kind == DeviceKind::Software;
  const uint32_t chosen = wish != 0 ? wish : software ? 0 : has_room_ ? kFew + kMore : kFew;
  std::vector<uint32_t> rows;
  for (uint32_t n = 2; n < below; n *= 2)
    if ((chosen & n) != 0) rows.push_back(n);
  return rows;
}

DeviceBackend::DeviceBackend(const std::string& device)
    : device_(std::make_shared<Device>(choose_adapter(device), Options::from_environment())),
      pipelines_(std::make_shared<Pipelines>(*device_)) {}

std::unique_ptr<LoadedModel> DeviceBackend::load(const Plan& plan, const LoadOptions& options) {
  return std::make_unique<DeviceModel>(device_, pipelines_, plan, options);
}

// A hash (FNV-1a) of every kernel's text.
std::string DeviceBackend::kernels_id() const {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  };
  for (const auto& [name, text] : kernel_sources()) add(name), add(text);
  return std::to_string(hash);
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
  return webgpu::measure_ceilings(*device_, *pipelines_);
}

}  // namespace rwkvnative::webgpu

namespace rwkvnative {

std::unique_ptr<Backend> open_webgpu(const std::string& device) { return std::make_unique<webgpu::DeviceBackend>(device); }

}  // namespace rwkvnative
