// The search shared by the quantizers: for one group of 16 or 32 values, the scale (and minimum) whose best codes leave
// the least weighted squared error.
//
// A group is approximated by scale * level (symmetric formats) or scale * q - min (affine formats). For fixed codes the
// best scale and minimum are a linear least-squares problem with a closed solution; for a fixed scale and minimum the
// best code of every value is the nearest one. The error has many local minima in between, so a grid of starting points
// is tried, each with its least-squares solution, and the best is refined by alternating the two steps (Lloyd's
// algorithm) until it stops improving.
//
// The loops write arrays that are summed by halving, so that a compiler may use vector registers without reordering
// float additions.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/half.h"
#include "core/quant_blocks.h"

namespace rwkvnative::quantize_search {

inline constexpr int kLloydSteps = 4;

/// Groups whose largest magnitude is below half of binary16's smallest number become zeros.
inline constexpr float kVanishing = 0x1p-25f;

/// Sum by halving: the order of additions is fixed, and each half is a vector addition.
template <int N>
float sum(float* terms) {
  for (int half = N / 2; half >= 4; half /= 2) {
    for (int i = 0; i < half; ++i) terms[i] += terms[i + half];
  }
  return (terms[0] + terms[2]) + (terms[1] + terms[3]);
}

/// Rounding by adding 1.5 * 2^23 leaves no fraction bits (ties to even): two additions on every target.
inline constexpr float kNoFraction = 0x1.8p23f;

/// v clamped to [low, high] and rounded to the nearest integer.
inline float round_within(float v, float low, float high) {
  v = v < low ? low : v;
  v = v > high ? high : v;
  return (v + kNoFraction) - kNoFraction;
}

/// The same for N values in place. Two loops, because GCC turns both clamps in one loop into branches.
template <int N>
void round_within(float* v, float low, float high) {
  for (int i = 0; i < N; ++i) v[i] = v[i] < low ? low : v[i];
  for (int i = 0; i < N; ++i) v[i] = ((v[i] > high ? high : v[i]) + kNoFraction) - kNoFraction;
}

/// The integers Low..High. The grid of fit_scale tries scales that map the largest magnitude of the group to
/// First, First + Step, ... Last.
template <int Low, int High, auto GridFirst, auto GridLast, auto GridSteps>
struct IntegerLevels {
  static constexpr float kFirst = GridFirst, kLast = GridLast;
  static constexpr int kSteps = GridSteps;
  template <int N>
  static void to_nearest(float* v) {
    round_within<N>(v, Low, High);
  }
  static int code(float v) { return static_cast<int>(round_within(v, Low, High)) - Low; }
};

/// The codebook of IQ4_NL and IQ4_XS.
struct Iq4Levels {
  static constexpr float kFirst = 90, kLast = 150;
  static constexpr int kSteps = 25;
  template <int N>
  static void to_nearest(float* v) {
    for (int i = 0; i < N; ++i) v[i] = kLevel[slot(v[i])];
  }
  static int code(float v) { return kCode[slot(v)]; }

 private:
  // The midpoints between levels are multiples of 1/2, so the nearest level is constant in every interval of that
  // width.
  static constexpr int kSlots = 2 * (113 + 127) + 1;
  static int slot(float v) {
    v = v < -127.0f ? -127.0f : v;
    v = v > 113.0f ? 113.0f : v;
    return static_cast<int>(2.0f * (v + 127.0f));
  }
  static constexpr std::array<std::uint8_t, kSlots> kCode = [] {
    std::array<std::uint8_t, kSlots> codes{};
    for (int slot = 0, code = 0; slot < kSlots; ++slot) {
      const int quadrupled = 2 * slot + 1 - 4 * 127;  // 4 times the middle of the interval
      while (code < 15 && quadrupled > 2 * (kIq4Codebook[code] + kIq4Codebook[code + 1])) ++code;
      codes[static_cast<std::size_t>(slot)] = static_cast<std::uint8_t>(code);
    }
    return codes;
  }();
  static constexpr std::array<float, kSlots> kLevel = [] {
    std::array<float, kSlots> levels{};
    for (std::size_t slot = 0; slot < kSlots; ++slot) levels[slot] = kIq4Codebook[kCode[slot]];
    return levels;
  }();
};

// ---- symmetric: x ~ scale * level

/// sum w x l and sum w l^2 with l the level nearest to x * inverse.
struct Moments {
  float xl, ll;
};

template <class Levels, int N>
Moments moments_at(const float* x, const float* w, float inverse) {
  float level[N], xl[N], ll[N];
  for (int i = 0; i < N; ++i) level[i] = x[i] * inverse;
  Levels::template to_nearest<N>(level);
  for (int i = 0; i < N; ++i) {
    xl[i] = w[i] * level[i] * x[i];
    ll[i] = w[i] * level[i] * level[i];
  }
  return {sum<N>(xl), sum<N>(ll)};
}

/// sum w (x - scale * l)^2 with the nearest levels.
template <class Levels, int N>
float error_at(const float* x, const float* w, float scale) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  float level[N], error[N];
  for (int i = 0; i < N; ++i) level[i] = x[i] * inverse;
  Levels::template to_nearest<N>(level);
  for (int i = 0; i < N; ++i) {
    const float e = x[i] - scale * level[i];
    error[i] = w[i] * e * e;
  }
  return sum<N>(error);
}

inline float largest_magnitude(const float* x, int n) {
  float peak = 0.0f;
  for (int i = 0; i < n; ++i) peak = std::max(peak, std::fabs(x[i]));
  return peak;
}

/// The scale (of either sign) that minimizes error_at, as far as the grid finds it; 0 for a vanishing group.
template <class Levels, int N>
float fit_scale(const float* x, const float* w) {
  const float peak = largest_magnitude(x, N);
  if (peak < kVanishing) return 0.0f;
  // For the least-squares scale the error is sum w x^2 - gain, gain = xl^2 / ll.
  float best_gain = 0.0f, best_scale = 0.0f;
  const auto consider = [&](float inverse) {
    const Moments m = moments_at<Levels, N>(x, w, inverse);
    if (m.ll <= 0.0f || m.xl * m.xl <= best_gain * m.ll) return false;
    best_gain = m.xl * m.xl / m.ll;
    best_scale = m.xl / m.ll;
    return true;
  };
  for (int step = 0; step < Levels::kSteps; ++step) {
    const float target =
        Levels::kFirst + (Levels::kLast - Levels::kFirst) * static_cast<float>(step) / (Levels::kSteps - 1);
    consider(target / peak);
    consider(-target / peak);
  }
  for (int step = 0; step < kLloydSteps && best_scale != 0.0f; ++step) {
    if (!consider(1.0f / best_scale)) break;
  }
  return best_scale;
}

// ---- affine: x ~ scale * q - min, q in 0..QMax

struct ScaleMin {
  float scale = 0.0f, min = 0.0f;
};

/// sum w q, sum w q^2, sum w x q with q the code nearest to (x + min) * inverse.
struct AffineMoments {
  float q, qq, xq;
};

template <int QMax, int N>
AffineMoments affine_moments_at(const float* x, const float* w, float inverse, float min) {
  float code[N], q[N], qq[N], xq[N];
  for (int i = 0; i < N; ++i) code[i] = (x[i] + min) * inverse;
  round_within<N>(code, 0, QMax);
  for (int i = 0; i < N; ++i) {
    q[i] = w[i] * code[i];
    qq[i] = w[i] * code[i] * code[i];
    xq[i] = w[i] * code[i] * x[i];
  }
  return {sum<N>(q), sum<N>(qq), sum<N>(xq)};
}

/// Squared error of the best codes, and sum w (scale * q - x): the least-squares minimum for these codes times sum w.
struct AffineError {
  float squared, min_weight;
};

template <int QMax, int N>
AffineError affine_error_at(const float* x, const float* w, ScaleMin fit) {
  const float inverse = fit.scale == 0.0f ? 0.0f : 1.0f / fit.scale;
  float code[N], squared[N], shift[N];
  for (int i = 0; i < N; ++i) code[i] = (x[i] + fit.min) * inverse;
  round_within<N>(code, 0, QMax);
  for (int i = 0; i < N; ++i) {
    const float e = fit.scale * code[i] - x[i];
    const float rest = e - fit.min;
    squared[i] = w[i] * rest * rest;
    shift[i] = w[i] * e;
  }
  return {sum<N>(squared), sum<N>(shift)};
}

enum class MinSign { NonNegative, Any };

/// Grid of starting points: the range of the group is spread over First..Last codes, its low end clipped by
/// 0, 1, ... (Clips - 1) quarters of a code.
template <int QMax, auto GridFirst, auto GridLast, auto GridSteps, auto GridClips>
struct AffineGrid {
  static constexpr int kQMax = QMax;
  static constexpr float kFirst = GridFirst, kLast = GridLast;
  static constexpr int kSteps = GridSteps, kClips = GridClips;
};

/// The scale >= 0 and minimum that minimize affine_error_at, as far as the grid finds them.
template <class Grid, int N, MinSign Sign>
ScaleMin fit_scale_min(const float* x, const float* w) {
  float low = x[0], high = x[0], sw = 0.0f, swx = 0.0f;
  for (int i = 0; i < N; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sw += w[i];
    swx += w[i] * x[i];
  }
  if (Sign == MinSign::NonNegative) low = std::min(low, 0.0f);
  const float range = high - low;
  if (range < kVanishing) return {0.0f, Sign == MinSign::Any ? -swx / sw : std::max(0.0f, -swx / sw)};

  // For the least-squares solution the error is sum w x^2 - gain, gain = scale * xq - min * swx.
  float best_gain = -1.0f;
  ScaleMin best{0.0f, 0.0f};
  const auto consider = [&](float inverse, float min) {
    const AffineMoments m = affine_moments_at<Grid::kQMax, N>(x, w, inverse, min);
    const float determinant = sw * m.qq - m.q * m.q;
    if (determinant <= 1e-6f * sw * m.qq) return false;  // all codes equal
    ScaleMin fit{(sw * m.xq - swx * m.q) / determinant, (m.q * m.xq - swx * m.qq) / determinant};
    if (Sign == MinSign::NonNegative && fit.min < 0.0f) fit = {m.xq / m.qq, 0.0f};
    const float gain = fit.scale * m.xq - fit.min * swx;
    if (fit.scale <= 0.0f || gain <= best_gain) return false;
    best_gain = gain;
    best = fit;
    return true;
  };
  for (int step = 0; step < Grid::kSteps; ++step) {
    const float codes = Grid::kFirst + (Grid::kLast - Grid::kFirst) * static_cast<float>(step) / (Grid::kSteps - 1);
    for (int clip = 0; clip < Grid::kClips; ++clip)
      consider(codes / range, -(low + 0.25f * static_cast<float>(clip) * range / codes));
  }
  if (best_gain < 0.0f) return {range / Grid::kQMax, -low};
  for (int step = 0; step < kLloydSteps; ++step) {
    if (!consider(1.0f / best.scale, best.min)) break;
  }
  return best;
}

// ---- rows

/// `value` rounded to the nearest finite binary16: a least-squares solution may lie a little beyond the range.
inline half_bits finite_half(float value) { return float_to_half(std::clamp(value, -65504.0f, 65504.0f)); }

/// The same, but never zero unless `value` is: a scale of zero would lose the whole block.
inline half_bits nonzero_half(float value) {
  const half_bits bits = finite_half(value);
  return (bits & 0x7fffu) == 0 && value != 0.0f ? static_cast<half_bits>(bits | 1u) : bits;
}

/// The same, rounded away from zero: with a super-scale that was rounded down the largest group scale would not be
/// reached. It matters for small weights, whose super-scales are a few units of binary16's fixed spacing below 2^-14.
inline half_bits half_at_least(float value) {
  const half_bits bits = nonzero_half(value);
  const bool is_short = std::fabs(half_to_float(bits)) < std::fabs(value) && (bits & 0x7fffu) < 0x7bffu;
  return is_short ? static_cast<half_bits>(bits + 1) : bits;
}

/// Calls consider(h) for the binary16 nearest to `value` and its two neighbours of the same sign.
template <class Consider>
void for_each_near_half(float value, Consider consider) {
  const half_bits nearest = nonzero_half(value);
  for (const int step : {0, -1, 1}) {
    const int magnitude = (nearest & 0x7fff) + step;
    if (magnitude >= 0 && magnitude < 0x7c00) consider(static_cast<half_bits>((nearest & 0x8000) | magnitude));
  }
}

/// Calls quantize(block, x, w) for every block of a row. w is the block's importance scaled to a largest weight of 1,
/// with a floor that keeps columns of no importance from being forgotten; all ones for null.
template <class Block, int N, class Quantize>
void for_each_block(const float* in, void* blocks, std::size_t n_values, const float* importance, Quantize quantize) {
  constexpr float kFloor = 1e-5f;
  std::array<float, N> w;
  w.fill(1.0f);
  auto* block = static_cast<Block*>(blocks);
  for (std::size_t start = 0; start < n_values; start += N, ++block) {
    if (importance != nullptr) {
      const float largest = largest_magnitude(importance + start, N);
      for (std::size_t i = 0; i < N; ++i)
        w[i] = largest > 0.0f ? std::max(importance[start + i] / largest, kFloor) : 1.0f;
    }
    quantize(*block, in + start, w.data());
  }
}

/// Packs 32 four-bit codes: values 0..15 in the low nibbles, 16..31 in the high ones.
inline void pack_nibbles(const std::uint8_t* codes, std::uint8_t* qs) {
  for (int i = 0; i < 16; ++i) qs[i] = static_cast<std::uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
}

}  // namespace rwkvnative::quantize_search
