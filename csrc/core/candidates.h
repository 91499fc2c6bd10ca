// From a vocabulary of logits to the few that a sampler needs.
#pragma once

#include <cstdint>
#include <span>

namespace rwkvnative {

// The index of the highest logit, the lowest index among equals; -1 if that is infinite, or all are NaN. NaN never wins.
int32_t argmax(std::span<const float> logits);

// log(sum(exp(logits))); NaN where one of them is, -infinity where all are.
float log_sum_exp(std::span<const float> logits);

// The ids.size() highest logits, by falling logit, then by rising id. ids and values have one size, at most logits.size().
void top_candidates(std::span<const float> logits, std::span<int32_t> ids, std::span<float> values);

// logits[ids[i]] += values[i]. Throws InputError for an id out of range.
void add_bias(std::span<float> logits, std::span<const int32_t> ids, std::span<const float> values);

}  // namespace rwkvnative
