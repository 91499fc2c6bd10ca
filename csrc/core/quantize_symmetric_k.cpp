// Quantizers of the super-blocks without minimum: Q3_K, Q6_K, IQ4_XS. y = d * s * level, s an integer per group.

#include <limits>

#include "core/quantize.h"
#include "core/quantize_search.h"

namespace rwkvnative {
namespace {

using namespace quantize_search;

/// A format: its levels, the values of a group, the range of the integer scales, and the search effort.
template <class LevelSet, int GroupValues, int Low, int High, int Starts, int Reach>
struct SymmetricFormat {
  using Levels = LevelSet;
  static constexpr int kGroupValues = GroupValues;
  static constexpr int kGroups = kSuperBlockValues / GroupValues;
  static constexpr int kScaleLow = Low, kScaleHigh = High;
  static constexpr int kStarts = Starts;  // super-scales tried: the largest group scale is mapped to Low, Low + 1, ...
  static constexpr int kReach = Reach;    // integer scales tried on both sides of the rounded one
};

using FormatQ3K = SymmetricFormat<IntegerLevels<-4, 3, 2, 5, 25>, 16, -32, 31, 3, 2>;
using FormatQ6K = SymmetricFormat<IntegerLevels<-32, 31, 28, 34, 25>, 16, -128, 127, 2, 1>;
using FormatIq4Xs = SymmetricFormat<Iq4Levels, 32, -32, 31, 4, 2>;

template <class Format>
struct SymmetricFit {
  half_bits d = 0;
  std::array<int, Format::kGroups> scales{};
  float error = std::numeric_limits<float>::infinity();
};

/// The integer scales of least error for a given d.
template <class Format>
SymmetricFit<Format> fit_integer_scales(const float* x, const float* w,
                                        const std::array<float, Format::kGroups>& wanted, half_bits d_bits) {
  using Levels = typename Format::Levels;
  constexpr int n = Format::kGroupValues;
  const float d = half_to_float(d_bits);
  SymmetricFit<Format> fit{.d = d_bits, .scales = {}, .error = 0.0f};
  for (int group = 0; group < Format::kGroups; ++group) {
    const auto center = static_cast<int>(round_within(wanted[group] / d, Format::kScaleLow, Format::kScaleHigh));
    float best_error = std::numeric_limits<float>::infinity();
    for (int s = std::max(center - Format::kReach, Format::kScaleLow);
         s <= std::min(center + Format::kReach, Format::kScaleHigh); ++s) {
      const float error = error_at<Levels, n>(x + group * n, w + group * n, d * static_cast<float>(s));
      if (error < best_error) best_error = error, fit.scales[group] = s;
    }
    fit.error += best_error;
  }
  return fit;
}

/// The least-squares d for the integer scales and codes of a fit.
template <class Format>
half_bits least_squares_d(const float* x, const float* w, const SymmetricFit<Format>& fit) {
  using Levels = typename Format::Levels;
  constexpr int n = Format::kGroupValues;
  const float d = half_to_float(fit.d);
  float numerator = 0.0f, denominator = 0.0f;
  for (int group = 0; group < Format::kGroups; ++group) {
    if (fit.scales[group] == 0) continue;
    const auto s = static_cast<float>(fit.scales[group]);
    const Moments m = moments_at<Levels, n>(x + group * n, w + group * n, 1.0f / (d * s));
    numerator += s * m.xl;
    denominator += s * s * m.ll;
  }
  return denominator > 0.0f ? nonzero_half(numerator / denominator) : fit.d;
}

template <class Format>
SymmetricFit<Format> fit_super_block(const float* x, const float* w) {
  constexpr int kRounds = 4;
  std::array<float, Format::kGroups> wanted;
  float peak = 0.0f;
  for (int group = 0; group < Format::kGroups; ++group) {
    const int first = group * Format::kGroupValues;
    wanted[group] = fit_scale<typename Format::Levels, Format::kGroupValues>(x + first, w + first);
    if (std::fabs(wanted[group]) > std::fabs(peak)) peak = wanted[group];
  }
  if (peak == 0.0f) return {};

  SymmetricFit<Format> best;
  for (int start = 0; start < Format::kStarts; ++start) {
    half_bits d = half_at_least(peak / static_cast<float>(Format::kScaleLow + start));
    for (int round = 0; round < kRounds; ++round) {
      const SymmetricFit<Format> fit = fit_integer_scales<Format>(x, w, wanted, d);
      if (fit.error >= best.error) break;
      best = fit;
      d = least_squares_d<Format>(x, w, fit);
      if (d == fit.d) break;
    }
  }
  return best;
}

/// The codes (level number, 0 the lowest level) of all 256 values.
template <class Format>
std::array<std::uint8_t, kSuperBlockValues> codes_of(const float* x, const SymmetricFit<Format>& fit) {
  std::array<std::uint8_t, kSuperBlockValues> codes;
  const float d = half_to_float(fit.d);
  for (int i = 0; i < kSuperBlockValues; ++i) {
    const float scale = d * static_cast<float>(fit.scales[i / Format::kGroupValues]);
    codes[i] = static_cast<std::uint8_t>(Format::Levels::code(scale == 0.0f ? 0.0f : x[i] / scale));
  }
  return codes;
}

}  // namespace

void quantize_q3_k(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q3_k, kSuperBlockValues>(
      in, blocks, n_values, importance, [](block_q3_k& block, const float* x, const float* w) {
        const auto fit = fit_super_block<FormatQ3K>(x, w);
        const auto codes = codes_of(x, fit);
        block = {};
        block.d = fit.d;
        for (int j = 0; j < 16; ++j) {
          const int s = fit.scales[j] + 32;
          block.scales[j % 8] |= static_cast<std::uint8_t>((s & 15) << (j / 8 * 4));
          block.scales[8 + j % 4] |= static_cast<std::uint8_t>(s >> 4 << (j / 4 * 2));
        }
        for (int i = 0; i < kSuperBlockValues; ++i) {
          block.qs[i / 128 * 32 + i % 32] |= static_cast<std::uint8_t>((codes[i] & 3) << (i % 128 / 32 * 2));
          block.hmask[i % 32] |= static_cast<std::uint8_t>(codes[i] >> 2 << (i / 32));
        }
      });
}

void quantize_q6_k(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q6_k, kSuperBlockValues>(
      in, blocks, n_values, importance, [](block_q6_k& block, const float* x, const float* w) {
        const auto fit = fit_super_block<FormatQ6K>(x, w);
        const auto codes = codes_of(x, fit);
        block = {};
        block.d = fit.d;
        for (int j = 0; j < 16; ++j) block.scales[j] = static_cast<std::int8_t>(fit.scales[j]);
        for (int i = 0; i < kSuperBlockValues; ++i) {
          const int n = i / 128, j = i % 128 / 32, l = i % 32;
          block.ql[64 * n + 32 * (j % 2) + l] |= static_cast<std::uint8_t>((codes[i] & 15) << (j / 2 * 4));
          block.qh[32 * n + l] |= static_cast<std::uint8_t>(codes[i] >> 4 << (2 * j));
        }
      });
}

void quantize_iq4_xs(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_iq4_xs, kSuperBlockValues>(
      in, blocks, n_values, importance, [](block_iq4_xs& block, const float* x, const float* w) {
        const auto fit = fit_super_block<FormatIq4Xs>(x, w);
        const auto codes = codes_of(x, fit);
        block = {};
        block.d = fit.d;
        for (int j = 0; j < 8; ++j) {
          const int s = fit.scales[j] + 32;
          block.scales_l[j / 2] |= static_cast<std::uint8_t>((s & 15) << (j % 2 * 4));
          block.scales_h = static_cast<std::uint16_t>(block.scales_h | s >> 4 << (2 * j));
          pack_nibbles(codes.data() + 32 * j, block.qs + 16 * j);
        }
      });
}

}  // namespace rwkvnative
