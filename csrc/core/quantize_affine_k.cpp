// Quantizers of the super-blocks with minimum: Q2_K, Q4_K, Q5_K. y = d * s * q - dmin * m, s and m integers per group.

#include <limits>

#include "core/quantize.h"
#include "core/quantize_search.h"

namespace rwkvnative {
namespace {

using namespace quantize_search;

/// A format: its codes (with the grid of fit_scale_min), the values of a group, the largest s and m, and the search
/// effort.
template <class CodeGrid, int GroupValues, int ScaleMax, int Starts, int Reach>
struct AffineFormat {
  using Grid = CodeGrid;
  static constexpr int kGroupValues = GroupValues;
  static constexpr int kGroups = kSuperBlockValues / GroupValues;
  static constexpr int kScaleMax = ScaleMax;
  static constexpr int kStarts =
      Starts;  // super-scales tried: the largest scale is mapped to ScaleMax, ScaleMax - 1, ...
  static constexpr int kReach = Reach;  // integer scales tried on both sides of the rounded one
};

using FormatQ2K = AffineFormat<AffineGrid<3, 2, 4, 9, 4>, 16, 15, 4, 1>;
using FormatQ4K = AffineFormat<AffineGrid<15, 13, 16, 13, 3>, 32, 63, 2, 2>;
using FormatQ5K = AffineFormat<AffineGrid<31, 29, 33, 17, 3>, 32, 63, 2, 1>;

template <class Format>
struct AffineFit {
  half_bits d = 0, dmin = 0;
  std::array<int, Format::kGroups> scales{}, mins{};
  float error = std::numeric_limits<float>::infinity();
};

struct SuperScales {
  half_bits d, dmin;
  bool operator==(const SuperScales&) const = default;
};

template <class Format>
using GroupFits = std::array<ScaleMin, Format::kGroups>;

/// The integer scales and minimums of least error for given d and dmin.
template <class Format>
AffineFit<Format> fit_integers(const float* x, const float* w, const GroupFits<Format>& wanted, SuperScales super) {
  constexpr int n = Format::kGroupValues, q_max = Format::Grid::kQMax, s_max = Format::kScaleMax;
  constexpr int kMinSteps = 3;
  const float d = half_to_float(super.d), dmin = half_to_float(super.dmin);
  const auto nearest_integer = [](float v) { return static_cast<int>(round_within(v, 0, s_max)); };

  AffineFit<Format> fit{.d = super.d, .dmin = super.dmin, .scales = {}, .mins = {}, .error = 0.0f};
  for (int group = 0; group < Format::kGroups; ++group) {
    const float *gx = x + group * n, *gw = w + group * n;
    float weight = 0.0f;
    for (int i = 0; i < n; ++i) weight += gw[i];
    const int center = d == 0.0f ? 0 : nearest_integer(wanted[group].scale / d);
    const int start_min = dmin == 0.0f ? 0 : nearest_integer(wanted[group].min / dmin);
    float best_error = std::numeric_limits<float>::infinity();
    for (int s = std::max(center - Format::kReach, 0); s <= std::min(center + Format::kReach, s_max); ++s) {
      // The codes of one minimum have a least-squares minimum of their own: follow it while the error falls.
      float error_of_s = std::numeric_limits<float>::infinity();
      for (int m = start_min, step = 0; step < kMinSteps; ++step) {
        const AffineError error =
            affine_error_at<q_max, n>(gx, gw, {d * static_cast<float>(s), dmin * static_cast<float>(m)});
        if (error.squared >= error_of_s) break;
        error_of_s = error.squared;
        if (error_of_s < best_error) best_error = error_of_s, fit.scales[group] = s, fit.mins[group] = m;
        const int next = dmin == 0.0f ? 0 : nearest_integer(error.min_weight / (weight * dmin));
        if (next == m) break;
        m = next;
      }
    }
    fit.error += best_error;
  }
  return fit;
}

/// The least-squares d and dmin for the integers and codes of a fit.
template <class Format>
SuperScales least_squares_super(const float* x, const float* w, const AffineFit<Format>& fit) {
  constexpr int n = Format::kGroupValues;
  const float d = half_to_float(fit.d), dmin = half_to_float(fit.dmin);
  // Normal equations of x ~ d a - dmin b with a = s q, b = m.
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (int group = 0; group < Format::kGroups; ++group) {
    const float *gx = x + group * n, *gw = w + group * n;
    const auto s = static_cast<float>(fit.scales[group]), m = static_cast<float>(fit.mins[group]);
    const float inverse = fit.scales[group] == 0 ? 0.0f : 1.0f / (d * s);
    const AffineMoments moments = affine_moments_at<Format::Grid::kQMax, n>(gx, gw, inverse, dmin * m);
    float sw = 0.0f, swx = 0.0f;
    for (int i = 0; i < n; ++i) sw += gw[i], swx += gw[i] * gx[i];
    aa += s * s * moments.qq;
    ab += s * m * moments.q;
    bb += m * m * sw;
    xa += s * moments.xq;
    xb += m * swx;
  }
  const SuperScales unchanged{fit.d, fit.dmin};
  if (bb == 0) return aa > 0 && xa > 0 ? SuperScales{nonzero_half(static_cast<float>(xa / aa)), fit.dmin} : unchanged;
  const double determinant = aa * bb - ab * ab;
  if (determinant <= 1e-9 * aa * bb) return unchanged;
  const double best_d = (xa * bb - xb * ab) / determinant, best_dmin = (xa * ab - xb * aa) / determinant;
  if (best_d <= 0 || best_dmin <= 0) return unchanged;
  return {nonzero_half(static_cast<float>(best_d)), nonzero_half(static_cast<float>(best_dmin))};
}

template <class Format>
AffineFit<Format> fit_super_block(const float* x, const float* w) {
  constexpr int kRounds = 4;
  GroupFits<Format> wanted;
  float scale = 0.0f, min = 0.0f;
  for (int group = 0; group < Format::kGroups; ++group) {
    const int first = group * Format::kGroupValues;
    wanted[group] =
        fit_scale_min<typename Format::Grid, Format::kGroupValues, MinSign::NonNegative>(x + first, w + first);
    scale = std::max(scale, wanted[group].scale);
    min = std::max(min, wanted[group].min);
  }
  AffineFit<Format> best;
  for (int start = 0; start < Format::kStarts; ++start) {
    const auto largest = static_cast<float>(Format::kScaleMax - start);
    SuperScales super{half_at_least(scale / largest), half_at_least(min / largest)};
    for (int round = 0; round < kRounds; ++round) {
      const AffineFit<Format> fit = fit_integers<Format>(x, w, wanted, super);
      if (fit.error >= best.error) break;
      best = fit;
      super = least_squares_super<Format>(x, w, fit);
      if (super == SuperScales{fit.d, fit.dmin}) break;
    }
  }
  return best;
}

template <class Format>
std::array<std::uint8_t, kSuperBlockValues> codes_of(const float* x, const AffineFit<Format>& fit) {
  std::array<std::uint8_t, kSuperBlockValues> codes;
  const float d = half_to_float(fit.d), dmin = half_to_float(fit.dmin);
  for (int i = 0; i < kSuperBlockValues; ++i) {
    const int group = i / Format::kGroupValues;
    const float scale = d * static_cast<float>(fit.scales[group]), min = dmin * static_cast<float>(fit.mins[group]);
    codes[i] =
        static_cast<std::uint8_t>(scale == 0.0f ? 0.0f : round_within((x[i] + min) / scale, 0, Format::Grid::kQMax));
  }
  return codes;
}

/// Importance for codes of two bits, whose errors are of the size of the weights: large weights count for more,
/// w (1 + |x| / rms), rms over 32 neighbours. The squared error is 2 % larger than with w alone, the model's output
/// better: on the embedded model (llama-perplexity, 40 windows of 512 held-out tokens) the mean KL divergence from F32
/// fell from 0.0157 to 0.0136, its median from 1.33e-4 to 1.12e-4. For Q3_K and Q4_K the same made no difference.
std::array<float, kSuperBlockValues> magnitude_weights(const float* x, const float* w) {
  constexpr int kNeighbours = 32;
  std::array<float, kSuperBlockValues> weights;
  for (int first = 0; first < kSuperBlockValues; first += kNeighbours) {
    float squares = 0.0f;
    for (int i = first; i < first + kNeighbours; ++i) squares += x[i] * x[i];
    const float rms = std::sqrt(squares / kNeighbours);
    for (int i = first; i < first + kNeighbours; ++i) {
      weights[i] = rms > kVanishing ? w[i] * (1.0f + std::fabs(x[i]) / rms) : w[i];
    }
  }
  return weights;
}

/// Sub-block `j` (0..7) into the twelve scale bytes of Q4_K and Q5_K, which start as zeros.
void pack_scale_min(int j, int s, int m, std::uint8_t* scales) {
  if (j < 4) {
    scales[j] |= static_cast<std::uint8_t>(s);
    scales[j + 4] |= static_cast<std::uint8_t>(m);
  } else {
    scales[j + 4] = static_cast<std::uint8_t>((s & 15) | (m & 15) << 4);
    scales[j - 4] |= static_cast<std::uint8_t>(s >> 4 << 6);
    scales[j] |= static_cast<std::uint8_t>(m >> 4 << 6);
  }
}

}  // namespace

void quantize_q2_k(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q2_k, kSuperBlockValues>(
      in, blocks, n_values, importance, [](block_q2_k& block, const float* x, const float* w) {
        const auto fit = fit_super_block<FormatQ2K>(x, magnitude_weights(x, w).data());
        const auto codes = codes_of(x, fit);
        block = {};
        block.d = fit.d;
        block.dmin = fit.dmin;
        for (int j = 0; j < 16; ++j) block.scales[j] = static_cast<std::uint8_t>(fit.scales[j] | fit.mins[j] << 4);
        for (int i = 0; i < kSuperBlockValues; ++i) {
          block.qs[i / 128 * 32 + i % 32] |= static_cast<std::uint8_t>(codes[i] << (i % 128 / 32 * 2));
        }
      });
}

void quantize_q4_k(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q4_k, kSuperBlockValues>(
      in, blocks, n_values, importance, [](block_q4_k& block, const float* x, const float* w) {
        const auto fit = fit_super_block<FormatQ4K>(x, w);
        const auto codes = codes_of(x, fit);
        block = {};
        block.d = fit.d;
        block.dmin = fit.dmin;
        for (int j = 0; j < 8; ++j) pack_scale_min(j, fit.scales[j], fit.mins[j], block.scales);
        for (int i = 0; i < kSuperBlockValues; ++i) {
          block.qs[i / 64 * 32 + i % 32] |= static_cast<std::uint8_t>(codes[i] << (i % 64 / 32 * 4));
        }
      });
}

void quantize_q5_k(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q5_k, kSuperBlockValues>(
      in, blocks, n_values, importance, [](block_q5_k& block, const float* x, const float* w) {
        const auto fit = fit_super_block<FormatQ5K>(x, w);
        const auto codes = codes_of(x, fit);
        block = {};
        block.d = fit.d;
        block.dmin = fit.dmin;
        for (int j = 0; j < 8; ++j) pack_scale_min(j, fit.scales[j], fit.mins[j], block.scales);
        for (int i = 0; i < kSuperBlockValues; ++i) {
          block.qs[i / 64 * 32 + i % 32] |= static_cast<std::uint8_t>((codes[i] & 15) << (i % 64 / 32 * 4));
          block.qh[i % 32] |= static_cast<std::uint8_t>(codes[i] >> 4 << (i / 32));
        }
      });
}

}  // namespace rwkvnative
