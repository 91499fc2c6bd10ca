// From logits to a token or to sorted candidates, on the device: kernels/choice.metal.
#include <algorithm>

#include "core/cost.h"
#include "core/error.h"
#include "metal/compile.h"

namespace rwkvnative::metal {
namespace {

constexpr uint32_t kThreads = 256;  // of choice.metal
constexpr uint32_t kSlice = 1024;   // likewise: logits that one threadgroup sorts
constexpr uint64_t kEntryBytes = 8;

}  // namespace

void Compiler::add_choice() {
  if (shape_.readout == Readout::Candidates && shape_.candidates == 0)
    throw InputError("[metal] compile: Candidates needs a number of candidates, got 0");
  if (shape_.readout != Readout::Argmax && shape_.readout != Readout::Candidates) return;
  const SlotPlace& logits = slot(logits_slot_);
  const bool in_results = logits_are_results();
  const ChoiceArguments arguments{.logits = in_results ? 0 : offset(logits),
                                  .logits_stride = in_results ? plan_.n_vocab : logits.stride,
                                  .count = plan_.n_vocab,
                                  .in = 0,
                                  .in_stride = 0,
                                  .out = 0,
                                  .out_stride = 0,
                                  .sums = 0,
                                  .sums_stride = 0,
                                  .n_sums = 0};
  begin_stage();
  Dispatch& d = dispatch(
      "add_bias", "choice", "add_bias", Constants(), kThreads, arguments,
      {of_submit(BUFFER_SUBMIT, Source::Submit), in_results ? of_submit(BUFFER_OUT, Source::Results) : act(BUFFER_OUT),
       of_submit(BUFFER_BIAS, Source::Bias)});
  d.grid = Grid::Bias;
  d.x = kThreads;
  if (shape_.readout == Readout::Argmax) add_argmax();
  if (shape_.readout == Readout::Candidates && !compiled_.candidates_on_host) add_candidates();
}

void Compiler::add_argmax() {
  const SlotPlace& logits = slot(logits_slot_);
  const uint32_t slices = ceil_div(plan_.n_vocab, kSlice);
  compiled_.entries = device_.create_buffer("entries", kEntryBytes * slices * shape_.sequences);
  for (bool first : {true, false}) {
    const ChoiceArguments arguments{.logits = offset(logits),
                                    .logits_stride = logits.stride,
                                    .count = first ? plan_.n_vocab : slices,
                                    .in = 0,
                                    .in_stride = slices,
                                    .out = 0,
                                    .out_stride = slices,
                                    .sums = 0,
                                    .sums_stride = 0,
                                    .n_sums = 0};
    begin_stage();
    if (first) cost_ = choice_cost(plan_);
    Dispatch& d = dispatch(first ? "argmax of slices" : "argmax", "choice", "argmax",
                           Constants().set(CONSTANT_FIRST, first), kThreads, arguments,
                           {act(BUFFER_IN),
                            of_submit(BUFFER_OUT, Source::Results),
                            {BUFFER_TOKENS, Source::Fixed, compiled_.tokens.get(), 0},
                            {BUFFER_ENTRIES, Source::Fixed, compiled_.entries.get(), 0}});
    d.grid = Grid::Sequences;
    d.x = first ? slices : 1;
  }
}

void Compiler::add_candidates() {
  const SlotPlace& logits = slot(logits_slot_);
  const uint32_t k = std::min(shape_.candidates, plan_.n_vocab);
  const uint32_t slices = ceil_div(plan_.n_vocab, kSlice);
  // Entries: the slices' sums, and two lists that passes read and write in turn; for each sequence.
  const uint32_t list_stride = slices * k;
  const uint32_t lists[2] = {slices * shape_.sequences, (slices + list_stride) * shape_.sequences};
  compiled_.entries =
      device_.create_buffer("entries", kEntryBytes * (lists[1] + uint64_t{list_stride} * shape_.sequences));
  uint32_t count = plan_.n_vocab;
  for (uint32_t pass = 0;; ++pass) {
    const uint32_t groups = ceil_div(count, kSlice);
    const bool last = groups == 1;
    const ChoiceArguments arguments{.logits = offset(logits),
                                    .logits_stride = logits.stride,
                                    .count = count,
                                    .in = lists[(pass + 1) % 2],
                                    .in_stride = list_stride,
                                    .out = lists[pass % 2],
                                    .out_stride = list_stride,
                                    .sums = 0,
                                    .sums_stride = slices,
                                    .n_sums = slices};
    const Constants constants =
        Constants().set(CONSTANT_KEEP, k).set(CONSTANT_FIRST, pass == 0).set(CONSTANT_LAST, last);
    begin_stage();
    if (pass == 0) cost_ = choice_cost(plan_);
    Dispatch& d = dispatch(message("top_k ", count), "choice", "top_k", constants, kThreads, arguments,
                           {act(BUFFER_IN),
                            of_submit(BUFFER_OUT, Source::Results),
                            {BUFFER_ENTRIES, Source::Fixed, compiled_.entries.get(), 0}});
    d.grid = Grid::Sequences;
    d.x = groups;
    if (last) return;
    count = groups * k;
  }
}

}  // namespace rwkvnative::metal
