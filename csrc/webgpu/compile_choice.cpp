// From logits to a token or to sorted candidates, on the device.
#include <algorithm>
#include <bit>

#include "core/cost.h"
#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kWorkgroup = 256;
constexpr uint32_t kSlice = 1024;               // logits or entries that one workgroup takes at once
constexpr uint32_t kMostTopKThreads = 1024;
constexpr uint32_t kMaxDeviceCandidates = 512;  // half of what a workgroup sorts: see kernels/top_k.wgsl

}  // namespace

void Compiler::add_choice() {
  if (shape_.readout == Readout::Candidates && shape_.candidates == 0)
    throw InputError("[webgpu] compile: Candidates needs a number of candidates, got 0");
  if (shape_.readout == Readout::Argmax) add_argmax();
  if (shape_.readout == Readout::Candidates) add_candidates();
  if (shape_.readout == Readout::Draw) add_draw();
}

// The constants that kernels/candidates.wgsl's users share, and their buffers.
static ShaderText choice_text(const SlotPlace& logits, uint32_t workgroup = kWorkgroup) {
  ShaderText text;
  text.constant("kWorkgroup", workgroup).constant("kLogits", 4 * logits.values).constant("kLogitsStride", logits.padded);
  text.file("logit_keys").file("candidates");
  return text;
}

// Takes compiled_.entries, which are made already.
BindGroupHandle Compiler::bind_choice(const char* label) const {
  const Pipelines::Range ranges[] = {{compiled_.activations.buffer().get()},
                                     {compiled_.tokens.get()},
                                     {compiled_.entries.get()},
                                     {compiled_.bias.get()}};
  return model_.pipelines->bind(label, Bindings::Choice, ranges);
}

void Compiler::add_bias() {
  ShaderText text = choice_text(slot(compiled_.logits_slot));
  dispatch("add_bias", text.file("add_bias").str(), Bindings::Choice, bind_choice("add_bias"), Grid::Bias, kWorkgroup);
}

void Compiler::add_argmax() {
  const SlotPlace& logits = slot(compiled_.logits_slot);
  const uint32_t slices = ceil_div(plan_.n_vocab, kSlice);
  compiled_.entries = device_.create_buffer("entries", uint64_t{8} * slices * shape_.sequences, WGPUBufferUsage_Storage);
  add_bias();
  for (bool first : {true, false}) {
    ShaderText text = choice_text(logits);
    text.constant("kFirst", first)
        .constant("kSlice", kSlice)
        .constant("kVocabulary", plan_.n_vocab)
        .constant("kCount", slices)
        .file("argmax");
    if (first) cost_ = choice_cost(plan_);
    dispatch(first ? "argmax of slices" : "argmax", text.str(), Bindings::Choice, bind_choice("argmax"), Grid::Sequences,
             first ? slices : 1);
  }
}

void Compiler::add_candidates() {
  const SlotPlace& logits = slot(compiled_.logits_slot);
  const uint32_t k = std::min(shape_.candidates, plan_.n_vocab);
  compiled_.candidates_on_host = k > kMaxDeviceCandidates;
  compiled_.result_stride = 1 + k;
  const uint64_t entries = compiled_.candidates_on_host ? 2 : uint64_t{compiled_.result_stride} * shape_.sequences;
  compiled_.entries = device_.create_buffer("entries", 8 * entries, WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc);
  add_bias();
  if (compiled_.candidates_on_host) return;
  ShaderText text = choice_text(logits, std::bit_floor(std::min(kMostTopKThreads, max_threads_)));
  text.constant("kSlice", kSlice).constant("kKeep", k).constant("kVocabulary", plan_.n_vocab);
  text.constant("kResultStride", compiled_.result_stride).file("sort").file("top_k");
  cost_ = choice_cost(plan_);
  dispatch("top_k", text.str(), Bindings::Choice, bind_choice("top_k"), Grid::Sequences, 1);
}

}  // namespace rwkvnative::webgpu
