// What a submit tells the kernels that draw tokens: how, and what came before.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "webgpu/program.h"

namespace rwkvnative::webgpu {
namespace {

// As kernels/draw.wgsl has them.
constexpr uint32_t kHasMinP = 1, kHasOccurrence = 2, kHasRepeat = 4, kAcceptsToken = 8;
constexpr size_t kWordsPerDraw = 12;
constexpr float kTopPOff = 2.0f;
constexpr float kMostInverseTemperature = 1e30f;
constexpr float kNoMinP = -3e38f;  // kHasMinP for the sake of banned tokens alone

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }

}  // namespace

void DeviceProgram::prepare_draws(std::span<const Sequence> sequences, Work& work) {
  draws_.assign(kWordsPerDraw * sequences.size(), 0u);
  used_.assign(4, 0u);
  const Draw any{.top_k = 1};
  for (uint32_t s = 0; s < sequences.size(); ++s) {
    const Draw& draw = sequences[s].draw == nullptr ? any : *sequences[s].draw;
    if (draw.has_penalties() && !compiled_.history) throw InputError("[webgpu] submit: a draw with penalties in a Program without");
    uint32_t flags = 0;
    if (draw.min_p > 0 || draw.bans) flags |= kHasMinP;
    if (draw.has_occurrence()) flags |= kHasOccurrence;
    if (draw.repeat != 1) flags |= kHasRepeat;
    if (draw.has_penalties() && draw.used == nullptr) flags |= kAcceptsToken;
    const uint32_t words[kWordsPerDraw] = {bits(draw.u),
                                           draw.top_k,
                                           bits(draw.top_p < 1 ? draw.top_p : kTopPOff),
                                           bits(draw.min_p > 0 ? std::log(draw.min_p) : kNoMinP),
                                           bits(std::min(1 / draw.temperature, kMostInverseTemperature)),
                                           flags,
                                           draw.place,
                                           draw.repeat_last_n,
                                           bits(draw.presence),
                                           bits(draw.frequency),
                                           bits(draw.decay),
                                           bits(draw.repeat)};
    std::copy_n(words, kWordsPerDraw, draws_.begin() + static_cast<ptrdiff_t>(kWordsPerDraw * s));
    if (draw.used == nullptr || !draw.has_penalties()) continue;
    for (const Draw::Used& used : *draw.used) {
      if (used.id < 0 || static_cast<uint32_t>(used.id) >= model_->plan->n_vocab)
        throw InputError(message("[webgpu] submit: used token ", used.id, ", expected ids below ", model_->plan->n_vocab));
      used_.insert(used_.end(), {static_cast<uint32_t>(used.id), bits(used.count), 2 * used.place + (used.generated ? 1 : 0), s});
    }
  }
  const auto write = [&](const Buffer& buffer, const std::vector<uint32_t>& words) {
    dawn().QueueWriteBuffer(model_->device->queue(), buffer.get(), 0, words.data(), words.size() * sizeof(uint32_t));
  };
  write(compiled_.draws, draws_);
  work.used = static_cast<uint32_t>(used_.size() / 4 - 1);
  if (work.used == 0) return;
  if (used_.size() * sizeof(uint32_t) > compiled_.used.size) throw InputError("[webgpu] submit: a used token is given twice");
  used_[0] = work.used;
  write(compiled_.used, used_);
}

// Before the used tokens of a sequence are entered, there are none.
void DeviceProgram::forget_histories(WGPUCommandEncoder encoder, std::span<const Sequence> sequences) const {
  const uint64_t bytes = uint64_t{8} * model_->plan->n_vocab;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Draw* draw = sequences[s].draw;
    if (draw != nullptr && draw->used != nullptr && draw->has_penalties())
      dawn().CommandEncoderClearBuffer(encoder, compiled_.history.get(), s * bytes, bytes);
  }
}

}  // namespace rwkvnative::webgpu
