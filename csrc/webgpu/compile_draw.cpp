// From logits to a drawn token: kernels/draw*.wgsl.
#include <algorithm>
#include <bit>

#include "core/cost.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kHistoryWorkgroup = 256;
constexpr uint32_t kMostSequences = 256;
constexpr uint32_t kPickWorkgroup = 128;  // its work is short: more threads make its barriers slower

// How a vocabulary is cut into runs that are sorted side by side, and how densely these are sampled.
struct Runs {
  uint32_t slice, count, stride;
  uint32_t sort_workgroup, rank_workgroup, pick_workgroup;

  uint64_t entries() const { return uint64_t{slice} * count; }
  uint64_t samples() const { return entries() / stride; }
  // What kernels/draw.wgsl keeps of one sequence.
  uint64_t scratch_bytes() const { return 8 * (2 * entries() + 2 * samples()); }
  uint64_t places_bytes() const { return 4 * samples() * count; }
};

Runs runs_of(const Device& device, uint32_t n_vocab) {
  const WGPULimits& limits = device.limits();
  const uint32_t most_threads = std::bit_floor(std::min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX));
  const bool roomy = limits.maxComputeWorkgroupStorageSize >= 32768;
  Runs runs{};
  runs.slice = std::min(roomy ? 2048u : 1024u, std::max(2 * kHistoryWorkgroup, std::bit_ceil(n_vocab)));
  runs.count = ceil_div(n_vocab, runs.slice);
  runs.stride = std::max(1u, runs.slice / std::bit_ceil(runs.count));
  runs.sort_workgroup = runs.slice / 8;  // kernels/sort.wgsl takes eight entries at once
  runs.rank_workgroup = std::min(most_threads, 1024u);
  runs.pick_workgroup = kPickWorkgroup;
  return runs;
}

}  // namespace

uint32_t most_drawn(const Device& device, uint32_t n_vocab) {
  const Runs runs = runs_of(device, n_vocab);
  // The offsets of all runs and one more are summed by a thread each.
  if (runs.count >= runs.pick_workgroup) return 0;
  const uint64_t a_sequence = std::max({runs.scratch_bytes(), runs.places_bytes(), uint64_t{8} * n_vocab});
  return static_cast<uint32_t>(std::min<uint64_t>(kMostSequences, device.max_binding() / a_sequence));
}

void Compiler::add_draw() {
  if (shape_.sequences > most_drawn(device_, plan_.n_vocab)) {
    throw InputError(message("[webgpu] compile: tokens of at most ", most_drawn(device_, plan_.n_vocab),
                             " sequences are drawn at once, got ", shape_.sequences));
  }
  const SlotPlace& logits = slot(compiled_.logits_slot);
  const Runs runs = runs_of(device_, plan_.n_vocab);
  const bool penalties = shape_.candidates != 0;
  const auto buffer = [&](const char* label, uint64_t bytes) {
    return device_.create_buffer(label, bytes, WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
  };
  compiled_.entries = buffer("sorted runs", runs.scratch_bytes() * shape_.sequences);
  compiled_.places = buffer("places in runs", runs.places_bytes() * shape_.sequences);
  compiled_.draws = buffer("draws", 48 * uint64_t{shape_.sequences});
  if (penalties) {
    compiled_.history = buffer("used tokens", 8 * uint64_t{plan_.n_vocab} * shape_.sequences);
    compiled_.used = buffer("used tokens to enter", 16 * (1 + uint64_t{plan_.n_vocab} * shape_.sequences));
  }
  const auto bind = [&](const char* label, const Buffer& draws) {
    const Pipelines::Range ranges[] = {
        {compiled_.activations.buffer().get()}, {compiled_.tokens.get()}, {compiled_.entries.get()}, {draws.get()},
        {compiled_.places.get()}, {penalties ? compiled_.history.get() : compiled_.dummy.get()}};
    return model_.pipelines->bind(label, Bindings::Draw, ranges);
  };
  const auto begin = [&](uint32_t workgroup) {
    ShaderText text;
    text.constant("kWorkgroup", workgroup).constant("kVocabulary", plan_.n_vocab).constant("kPenalties", penalties);
    text.constant("kLogits", 4 * logits.values).constant("kLogitsStride", logits.padded);
    text.constant("kSlice", runs.slice).constant("kRuns", runs.count).constant("kStride", runs.stride);
    return text.file("logit_keys").file("draw");
  };
  add_bias();
  if (penalties) {
    ShaderText text = begin(kHistoryWorkgroup).file("draw_history");
    dispatch("draw_history", text.str(), Bindings::Draw, bind("draw_history", compiled_.used), Grid::History, kHistoryWorkgroup);
  }
  ShaderText sort = begin(runs.sort_workgroup).file("sort").file("draw_scan").file("draw_sort");
  cost_ = choice_cost(plan_);
  dispatch("draw_sort", sort.str(), Bindings::Draw, bind("draw_sort", compiled_.draws), Grid::Sequences, runs.count);
  const uint32_t lanes = std::min(std::bit_ceil(runs.count), runs.rank_workgroup);
  ShaderText rank = begin(runs.rank_workgroup).constant("kLanes", lanes).file("draw_rank");
  dispatch("draw_rank", rank.str(), Bindings::Draw, bind("draw_rank", compiled_.draws), Grid::Sequences,
           static_cast<uint32_t>((runs.samples() + runs.rank_workgroup / lanes - 1) / (runs.rank_workgroup / lanes)));
  ShaderText pick = begin(runs.pick_workgroup).constant("kRunsPowerOfTwo", std::bit_ceil(runs.count));
  pick.file("sort").file("draw_scan").file("draw_pick");
  dispatch("draw_pick", pick.str(), Bindings::Draw, bind("draw_pick", compiled_.draws), Grid::Sequences, 1);
}

}  // namespace rwkvnative::webgpu
