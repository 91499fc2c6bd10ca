// From logits to a drawn token: kernels/draw*.wgsl.
#include <algorithm>
#include <bit>

#include "core/cost.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kHistoryWorkgroup = 256;
constexpr uint32_t kWorkgroup = 256;  // of draw_keys and draw_sums
constexpr uint32_t kSlice = 1024;     // logits of a workgroup of draw_keys
constexpr uint32_t kMostSequences = 256;
constexpr uint32_t kMostCollected = 128;

// Into how many intervals the range of logits is cut, and what kernels/draw.wgsl keeps of a sequence.
struct Intervals {
  uint32_t padded, slices, count, pick_workgroup;

  uint64_t keys_bytes() const { return uint64_t{6} * padded + 16 * ceil_div(2 * slices, 4); }
  uint64_t sums_bytes() const { return uint64_t{20} * count; }
};

constexpr uint64_t kUsedBytes = 16;  // of a token of a sequence that is entered into its history; and of the head of all

Intervals intervals_of(const Device& device, uint32_t n_vocab) {
  // draw_pick's threads keep 44 bytes each in workgroup memory.
  const WGPULimits& limits = device.limits();
  const uint32_t most_threads = std::min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX);
  const bool roomy = limits.maxComputeWorkgroupStorageSize >= 32768 && most_threads >= 512;
  const uint32_t pick_workgroup = roomy ? 512 : 256;
  return {.padded = ceil_div(n_vocab, 8) * 8,
          .slices = ceil_div(n_vocab, kSlice),
          .count = 4 * pick_workgroup,
          .pick_workgroup = pick_workgroup};
}

}  // namespace

uint32_t most_drawn(const Device& device, uint32_t n_vocab) {
  const Intervals intervals = intervals_of(device, n_vocab);
  const uint64_t a_sequence = std::max({intervals.keys_bytes(), intervals.sums_bytes(), kUsedBytes * n_vocab});
  return static_cast<uint32_t>(std::min<uint64_t>(kMostSequences, (device.max_binding() - kUsedBytes) / a_sequence));
}

void Compiler::add_draw() {
  if (shape_.sequences > most_drawn(device_, plan_.n_vocab)) {
    throw InputError(message("[webgpu] compile: tokens of at most ", most_drawn(device_, plan_.n_vocab),
                             " sequences are drawn at once, got ", shape_.sequences));
  }
  const SlotPlace& logits = slot(compiled_.logits_slot);
  const Intervals intervals = intervals_of(device_, plan_.n_vocab);
  const bool penalties = shape_.candidates != 0;
  const auto buffer = [&](const char* label, uint64_t bytes) {
    return device_.create_buffer(label, bytes, WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
  };
  compiled_.entries = buffer("keys of logits", intervals.keys_bytes() * shape_.sequences);
  compiled_.intervals = buffer("intervals of logits", intervals.sums_bytes() * shape_.sequences);
  compiled_.draws = buffer("draws", 48 * uint64_t{shape_.sequences});
  if (penalties) {
    compiled_.history = buffer("used tokens", 8 * uint64_t{plan_.n_vocab} * shape_.sequences);
    compiled_.used = buffer("used tokens to enter", kUsedBytes * (1 + uint64_t{plan_.n_vocab} * shape_.sequences));
  }
  const auto begin = [&](uint32_t workgroup) {
    ShaderText text;
    text.constant("kWorkgroup", workgroup).constant("kVocabulary", plan_.n_vocab).constant("kPenalties", penalties);
    text.constant("kLogits", 4 * logits.values).constant("kLogitsStride", logits.padded).constant("kPadded", intervals.padded);
    text.constant("kSlice", kSlice).constant("kSlices", intervals.slices).constant("kIntervals", intervals.count);
    return text.file("logit_keys").file("draw");
  };
  const auto add = [&](const char* label, const ShaderText& text, Grid grid, uint32_t x, const Buffer& draws) {
    const Pipelines::Range ranges[] = {
        {compiled_.activations.buffer().get()}, {compiled_.tokens.get()}, {compiled_.entries.get()}, {draws.get()},
        {compiled_.intervals.get()}, {penalties ? compiled_.history.get() : compiled_.dummy.get()}};
    dispatch(label, text.str(), Bindings::Draw, model_.pipelines->bind(label, Bindings::Draw, ranges), grid, x);
  };
  add_bias();
  if (penalties) add("draw_history", begin(kHistoryWorkgroup).file("draw_history"), Grid::History, kHistoryWorkgroup, compiled_.used);
  cost_ = choice_cost(plan_);
  add("draw_keys", begin(kWorkgroup).file("draw_keys"), Grid::Sequences, intervals.slices, compiled_.draws);
  add("draw_sums", begin(kWorkgroup).file("draw_scale").file("draw_sums"), Grid::Sequences,
      ceil_div(intervals.padded / 2, kWorkgroup), compiled_.draws);
  ShaderText pick = begin(intervals.pick_workgroup).constant("kMost", kMostCollected);
  add("draw_pick", pick.file("draw_scale").file("draw_pick"), Grid::Sequences, 1, compiled_.draws);
}

}  // namespace rwkvnative::webgpu
