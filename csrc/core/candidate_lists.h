// The candidates that a submit on a device brings back: Readout::Candidates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

class CandidateLists {
 public:
  // Forgets all there were; then each sequence's list must come from one of the two below.
  void reset(size_t sequences, uint32_t k);
  // What the device chose: pairs of words, first the log of the sum (a float) with anything beside it, then k times a key and an
  // id, best first. Keys stand for logits in the order of unsigned numbers: the bits of what is not negative with the first bit
  // set, all bits of what is negative inverted.
  void from_device(size_t sequence, const uint32_t* pairs);
  // Chosen here, of a whole vocabulary.
  void from_logits(size_t sequence, std::span<const float> logits);
  // Views into this, valid until reset().
  const std::vector<CandidateList>& lists() const { return lists_; }

 private:
  std::span<int32_t> ids(size_t sequence) { return std::span(ids_).subspan(sequence * k_, k_); }
  std::span<float> logits(size_t sequence) { return std::span(logits_).subspan(sequence * k_, k_); }

  uint32_t k_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> logits_;
  std::vector<CandidateList> lists_;
};

}  // namespace rwkvnative
