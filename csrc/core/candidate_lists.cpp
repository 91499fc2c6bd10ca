#include "core/candidate_lists.h"

#include <bit>

#include "core/candidates.h"

namespace rwkvnative {
namespace {

float key_logit(uint32_t key) { return std::bit_cast<float>((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key); }

}  // namespace

void CandidateLists::reset(size_t sequences, uint32_t k) {
  k_ = k;
  ids_.resize(sequences * k);
  logits_.resize(sequences * k);
  lists_.resize(sequences);
  for (size_t s = 0; s < sequences; ++s) lists_[s] = {ids(s), logits(s), 0};
}

void CandidateLists::from_device(size_t sequence, const uint32_t* pairs) {
  lists_[sequence].log_sum_exp = std::bit_cast<float>(pairs[0]);
  for (size_t i = 0; i < k_; ++i) {
    logits(sequence)[i] = key_logit(pairs[2 * (1 + i)]);
    ids(sequence)[i] = static_cast<int32_t>(pairs[2 * (1 + i) + 1]);
  }
}

void CandidateLists::from_logits(size_t sequence, std::span<const float> logits) {
  top_candidates(logits, ids(sequence), this->logits(sequence));
  lists_[sequence].log_sum_exp = log_sum_exp(logits);
}

}  // namespace rwkvnative
