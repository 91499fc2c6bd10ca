#include "core/candidates.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"

namespace rwkvnative {
namespace {

constexpr size_t kMostBlock = 64, kLeastBlock = 16;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Lanes that have nothing to do with each other, so that compilers make vectors of them. 32: the loop over 16 is unrolled by
// GCC before it looks for vectors.
constexpr size_t kLanes = 32;

// The highest; NaN never wins.
float highest_of(std::span<const float> values) {
  float highest = kLowest;
  size_t i = 0;
  if (values.size() >= 2 * kLanes) {
    float lanes[kLanes];
    std::fill_n(lanes, kLanes, kLowest);
    for (; i + kLanes <= values.size(); i += kLanes)
      for (size_t j = 0; j < kLanes; ++j) lanes[j] = values[i + j] > lanes[j] ? values[i + j] : lanes[j];
    highest = *std::max_element(lanes, lanes + kLanes);
  }
  for (; i < values.size(); ++i) highest = values[i] > highest ? values[i] : highest;
  return highest;
}

// exp for x <= 0, relative error 3e-7: 2^n times a polynomial of the rest.
inline float exp_of(float x) {
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, in its lowest bits
  x = std::max(x, -87.0f);
  const float shifted = x * 1.44269504f + kToInteger, n = shifted - kToInteger;
  const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127) << 23);
}

std::vector<float> block_maxima(std::span<const float> logits, size_t block) {
  std::vector<float> maxima((logits.size() + block - 1) / block);
  for (size_t b = 0; b < maxima.size(); ++b) {
    const size_t begin = b * block;
    maxima[b] = highest_of(logits.subspan(begin, std::min(block, logits.size() - begin)));
  }
  return maxima;
}

}  // namespace

int32_t argmax(std::span<const float> logits) {
  constexpr size_t block = kMostBlock;
  const std::vector<float> maxima = block_maxima(logits, block);
  const float highest = highest_of(maxima);
  if (!std::isfinite(highest)) return -1;
  for (size_t b = 0; b < maxima.size(); ++b) {
    if (maxima[b] != highest) continue;
    const size_t end = std::min(logits.size(), (b + 1) * block);
    for (size_t i = b * block; i < end; ++i)
      if (logits[i] == highest) return static_cast<int32_t>(i);
  }
  return -1;
}

float log_sum_exp(std::span<const float> logits) {
  const float highest = highest_of(logits);
  if (!std::isfinite(highest)) return highest;
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += 1024) {
    const size_t end = std::min(logits.size(), begin + 1024);
    float lanes[kLanes] = {};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (size_t j = 0; j < kLanes; ++j) lanes[j] += exp_of(logits[i + j] - highest);
    for (; i < end; ++i) lanes[0] += exp_of(logits[i] - highest);
    for (float lane : lanes) total += lane;
  }
  return highest + static_cast<float>(std::log(total));
}

void top_candidates(std::span<const float> logits, std::span<int32_t> ids, std::span<float> values) {
  const size_t k = ids.size();
  if (k == 0) return;
  // At least k blocks reach the k-th highest block maximum, so at least k logits do: nothing below it can be wanted.
  float threshold = kLowest;
  const size_t block = std::clamp(logits.size() / (8 * k), kLeastBlock, kMostBlock);  // some times as many blocks as k
  const std::vector<float> maxima = block_maxima(logits, block);
  if (k < maxima.size()) {
    std::vector<float> order = maxima;
    std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(k - 1), order.end(), std::greater<>());
    threshold = order[k - 1];
  }
  std::vector<int32_t> found;
  for (size_t b = 0; b < maxima.size(); ++b) {
    if (!(maxima[b] >= threshold)) continue;
    const size_t end = std::min(logits.size(), (b + 1) * block);
    for (size_t i = b * block; i < end; ++i)
      if (!(logits[i] < threshold)) found.push_back(static_cast<int32_t>(i));
  }
  const auto key = [&](int32_t id) {
    const float value = logits[static_cast<size_t>(id)];
    return std::isnan(value) ? kLowest : value;
  };
  const auto before = [&](int32_t a, int32_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; };
  std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(k), found.end(), before);
  for (size_t i = 0; i < k; ++i) {
    ids[i] = found[i];
    values[i] = logits[static_cast<size_t>(found[i])];
  }
}

void add_bias(std::span<float> logits, std::span<const int32_t> ids, std::span<const float> values) {
  if (ids.size() != values.size())
    throw InputError(message("bias: expected as many values as ids, got ", values.size(), " and ", ids.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= logits.size())
      throw InputError(message("bias: expected token ids below ", logits.size(), ", got ", ids[i]));
    logits[static_cast<size_t>(ids[i])] += values[i];
  }
}

}  // namespace rwkvnative
