#include "cpu/model.h"

#include <algorithm>

#include "core/chunk.h"
#include "core/error.h"
#include "cpu/ceilings.h"
#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "cpu/program.h"

namespace rwkvnative {
namespace cpu {
namespace {

constexpr uint32_t kUsualRows = 128;  // of a chunk of a prompt, and of a crowd

uint32_t round_up_16(uint32_t n) { return (n + 15) / 16 * 16; }

}  // namespace

// ---- state -------------------------------------------------------------------------------------------------------------

CpuState::CpuState(const Plan& plan) : plan_(plan), values_(plan.state_values(), 0.0f) {}

std::unique_ptr<State> CpuState::clone() const { return std::make_unique<CpuState>(*this); }

void CpuState::read(std::span<float> out) const {
  if (out.size() != values_.size())
    throw InputError(message("state: expected room for ", values_.size(), " values, got ", out.size()));
  std::copy(values_.begin(), values_.end(), out.begin());
  transpose_heads(out);
}

void CpuState::write(std::span<const float> in) {
  if (in.size() != values_.size())
    throw InputError(message("state: expected ", values_.size(), " values, got ", in.size()));
  std::copy(in.begin(), in.end(), values_.begin());
  transpose_heads(values_);
}

// [value][key] <-> [key][value] in every head of every part of the shape [heads][N][N].
void CpuState::transpose_heads(std::span<float> values) const {
  for (uint32_t layer = 0; layer < plan_.n_layer; ++layer)
    for (uint32_t index = 0; index < plan_.state_parts.size(); ++index) {
      const std::vector<uint32_t>& shape = plan_.state_parts[index].shape;
      if (shape.size() != 3) continue;
      const uint32_t n = shape[1];
      for (uint32_t head = 0; head < shape[0]; ++head) {
        float* matrix = values.data() + offset(layer, index) + size_t{head} * n * n;
        for (uint32_t i = 0; i < n; ++i)
          for (uint32_t j = 0; j < i; ++j) std::swap(matrix[i * n + j], matrix[j * n + i]);
      }
    }
}

// ---- workspace ---------------------------------------------------------------------------------------------------------

Workspace::Workspace(const Plan& plan, uint32_t n_rows, uint32_t workers, Numerics numerics, const Kernels& kernels)
    : rows(n_rows) {
  size_t tile_bytes = 0, widest = 0;
  std::vector<bool> quantized(plan.slots.size());
  const auto reads = [&](TensorId weight, SlotId in) {
    if (weight == kNone) return;
    const Tensor& tensor = plan.tensor(weight);
    widest = std::max<size_t>(widest, tensor.ne0);
    if (numerics == Numerics::Int8 && traits(tensor.type).block_values > 1) {
      if (in != kNone) quantized[static_cast<size_t>(in)] = true;
      tile_bytes = std::max(tile_bytes, kernels.tile_int8_bytes(tensor.type, tensor.ne0));
    } else {
      tile_bytes = std::max(tile_bytes, size_t{tensor.ne0} * kTileRows * sizeof(float));
    }
  };
  for (const Op& op : plan.ops) {
    if (const auto* linear = std::get_if<LinearOp>(&op))
      for (const LinearPart& part : linear->parts) reads(part.weight, part.in);
    if (const auto* wkv = std::get_if<Wkv7Op>(&op)) {
      reads(wkv->w2, wkv->w_hidden);
      reads(wkv->a2, wkv->a_hidden);
      reads(wkv->v2, wkv->v_hidden);
      reads(wkv->g2, wkv->g_hidden);
    }
    if (const auto* head = std::get_if<HeadOp>(&op)) reads(head->weight, kNone);
  }
  for (size_t i = 0; i < plan.slots.size(); ++i) {
    const uint32_t width = plan.slots[i].width;
    SlotBuffer buffer{.stride = round_up_16(width), .values = Buffer<float>(size_t{round_up_16(width)} * rows), .blocks = {}};
    if (quantized[i]) buffer.blocks = Buffer<Int8Block>(size_t{int8_blocks(width)} * rows);
    slots.push_back(std::move(buffer));
  }
  for (uint32_t i = 0; i < workers; ++i)
    scratch.push_back({Buffer<std::byte>(tile_bytes), Buffer<float>(widest), Buffer<float>(size_t{rows} * kTileRows)});
  h = Buffer<float>(size_t{rows} * plan.n_embd);
  previous = Buffer<float>(size_t{rows} * plan.n_embd);
  for (Buffer<float>& out : lora) out = Buffer<float>(size_t{rows} * plan.n_embd);
  zero_state = Buffer<float>(plan.state_values_per_layer());
  std::fill_n(zero_state.data(), zero_state.size(), 0.0f);
}

size_t Workspace::bytes() const {
  size_t bytes = h.bytes() + previous.bytes() + logits.bytes() + zero_state.bytes();
  for (const SlotBuffer& slot : slots) bytes += slot.values.bytes() + slot.blocks.bytes();
  for (const Scratch& s : scratch) bytes += s.tile.bytes() + s.decoded.bytes() + s.products.bytes();
  for (const Buffer<float>& out : lora) bytes += out.bytes();
  return bytes;
}

// ---- model and backend -------------------------------------------------------------------------------------------------

CpuModel::CpuModel(const Plan& the_plan, const LoadOptions& options, ThreadPool& the_pool, const Kernels& the_kernels,
                   const Tuning& tuning)
    : plan(the_plan),
      pool(the_pool),
      kernels(the_kernels),
      numerics(options.numerics == Numerics::F32 ? Numerics::F32 : Numerics::Int8),
      workspace(plan, kUsualRows, pool.size(), numerics, kernels),
      tuning_(tuning),
      prefill_rows_(kUsualRows) {
  if (options.max_device_memory != 0) {
    if (options.file == nullptr) throw InputError("[cpu] max_device_memory: expected a model that is a mapped file");
    pages = std::make_unique<Pages>(plan, options.file, options.max_device_memory);
  }
  use_tuning();
}

std::unique_ptr<Program> CpuModel::compile(const Shape& shape) {
  if (shape.rows == 0 || shape.rows > workspace.rows || shape.sequences == 0 || shape.sequences > shape.rows)
    throw InputError(message("program shape: expected 1 to ", workspace.rows, " rows and at most as many sequences, got ",
                             shape.rows, " rows and ", shape.sequences, " sequences"));
  return std::make_unique<CpuProgram>(*this, shape);
}

uint32_t CpuModel::logits_rows() const { return kUsualRows; }

void CpuModel::use_tuning() {
  if (memory().streamed_bytes != 0) return;
  const uint32_t rows = tuning_.prefill_rows != 0 ? tuning_.prefill_rows : kUsualRows;
  if (const uint32_t wanted = std::max(rows, kUsualRows); wanted != workspace.rows) {
    try {
      workspace = Workspace(plan, wanted, pool.size(), numerics, kernels);
    } catch (const std::bad_alloc&) {
      throw OutOfDeviceMemory(message("[cpu] ", kPrefillRows, "=", rows, ": no memory for a chunk of so many tokens, ",
                                      workspace_bytes(wanted) >> 20, " MiB"));
    }
  }
  prefill_rows_ = rows;
}

// From above: what does not grow with the rows is counted as if it did.
uint64_t CpuModel::workspace_bytes(uint32_t rows) const {
  const uint64_t bytes = workspace.bytes() - workspace.logits.bytes();
  return bytes / workspace.rows * std::max(rows, kUsualRows) + bytes % workspace.rows;
}

std::vector<uint32_t> CpuModel::prefill_choices() const {
  if (memory().streamed_bytes != 0) return {};
  return chunk_lengths(
      kUsualRows / 4, kUsualRows * 4, [&](uint32_t rows) { return workspace_bytes(rows); }, [](uint32_t) { return true; });
}

MemoryUse CpuModel::memory() const {
  if (pages) return pages->use();
  MemoryUse use;
  use.layers = use.resident_layers = plan.n_layer + 1;
  return use;
}

namespace {

DeviceInfo describe(const std::string& device, const Kernels& kernels, uint32_t n_threads) {
  return {.id = device,
          .name = message(n_threads, n_threads == 1 ? " thread" : " threads", ", ", kernels.name),
          .backend = "cpu",
          .driver = {},
          .kind = DeviceKind::Cpu,
          .memory_bytes = 0,
          .n_threads = n_threads,
          .features = {kernels.name}};
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const std::string& device, const Kernels& kernels, uint32_t n_threads)
      : kernels_(kernels),
        pool_(n_threads != 0 ? n_threads : available_processors()),
        info_(describe(device, kernels, pool_.size())) {}

  const DeviceInfo& info() const override { return info_; }
  std::unique_ptr<LoadedModel> load(const Plan& plan, const LoadOptions& options) override {
    if (options.progress) options.progress(plan.weight_bytes(), plan.weight_bytes());
    return std::make_unique<CpuModel>(plan, options, pool_, kernels_, tuning_);
  }
  void set_tuning(const std::string& text) override { tuning_ = parse_tuning(text); }
  Ceilings measure_ceilings() override { return cpu::measure_ceilings(pool_, kernels_); }

 private:
  const Kernels& kernels_;
  ThreadPool pool_;
  DeviceInfo info_;
  Tuning tuning_ = environment_tuning();
};

}  // namespace
}  // namespace cpu

std::vector<std::string> cpu_kernels() {
  std::vector<std::string> names;
  for (const cpu::Kernels* kernels : cpu::runnable_kernels()) names.emplace_back(kernels->name);
  return names;
}

std::vector<DeviceInfo> cpu_devices() {
  return {cpu::describe("cpu", *cpu::runnable_kernels().front(), cpu::available_processors())};
}

std::unique_ptr<Backend> open_cpu(const std::string& device, uint32_t n_threads) {
  constexpr uint32_t kMostThreads = 1024;
  if (n_threads > kMostThreads)
    throw InputError(message("n_threads: expected at most ", kMostThreads, ", got ", n_threads));
  std::string known;
  for (const cpu::Kernels* kernels : cpu::runnable_kernels()) {
    const std::string id = std::string("cpu:") + kernels->name;
    if (device == "cpu" || device == id) return std::make_unique<cpu::CpuBackend>(device, *kernels, n_threads);
    known += ", " + id;
  }
  throw InputError(message("device: this processor runs cpu", known, "; got ", device));
}

}  // namespace rwkvnative
