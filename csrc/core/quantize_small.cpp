// Quantizers of the plain types and of the blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL.

#include <cstring>
#include <limits>

#include "core/quantize.h"
#include "core/quantize_search.h"

namespace rwkvnative {
namespace {

using namespace quantize_search;

// A peak may be clipped if that serves the other values, so the grids start below the largest level.
using Levels4 = IntegerLevels<-8, 7, 5, 10, 31>;
using Levels5 = IntegerLevels<-16, 15, 12, 18, 31>;
using Levels8 = IntegerLevels<-127, 127, 124, 128, 17>;  // not -128: int8 kernels negate codes
using Grid4 = AffineGrid<15, 13, 17, 17, 4>;
using Grid5 = AffineGrid<31, 29, 33, 17, 3>;

/// The binary16 scale with the least error around the best real one (its neighbours matter where binary16 is
/// subnormal), and the codes for it.
template <class Levels>
half_bits quantize_symmetric(const float* x, const float* w, std::uint8_t* codes) {
  const float fitted = fit_scale<Levels, 32>(x, w);
  half_bits best = 0;
  float best_error = std::numeric_limits<float>::infinity();
  for_each_near_half(fitted, [&](half_bits candidate) {
    const float error = error_at<Levels, 32>(x, w, half_to_float(candidate));
    if (error < best_error) best = candidate, best_error = error;
  });
  const float scale = half_to_float(best);
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(Levels::code(x[i] * inverse));
  return best;
}

struct HalfScaleMin {
  half_bits d, m;
};

/// Scale and offset m = -min in binary16, and the codes for them.
template <class Grid>
HalfScaleMin quantize_affine(const float* x, const float* w, std::uint8_t* codes) {
  const ScaleMin fitted = fit_scale_min<Grid, 32, MinSign::Any>(x, w);
  float weight = 0.0f;
  for (int i = 0; i < 32; ++i) weight += w[i];

  HalfScaleMin best{};
  float best_error = std::numeric_limits<float>::infinity();
  for_each_near_half(fitted.scale, [&](half_bits d) {
    // Rounding the scale moves the best minimum: also try the least-squares one for the codes of the rounded pair.
    half_bits m = finite_half(-fitted.min);
    for (int step = 0; step < 2; ++step) {
      const AffineError error = affine_error_at<Grid::kQMax, 32>(x, w, {half_to_float(d), -half_to_float(m)});
      if (error.squared < best_error) best = {d, m}, best_error = error.squared;
      m = finite_half(-error.min_weight / weight);
    }
  });

  const float scale = half_to_float(best.d), m = half_to_float(best.m);
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(round_within((x[i] - m) * inverse, 0, Grid::kQMax));
  return best;
}

/// The fifth bits of 32 codes, as a little-endian 32-bit word.
void pack_fifth_bits(const std::uint8_t* codes, std::uint8_t* qh) {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int i = 0; i < 8; ++i) bits |= (codes[8 * byte + i] >> 4 & 1) << i;
    qh[byte] = static_cast<std::uint8_t>(bits);
  }
}

}  // namespace

void quantize_f32(const float* in, void* blocks, std::size_t n_values, const float*) {
  std::memcpy(blocks, in, n_values * sizeof(float));
}

void quantize_f16(const float* in, void* blocks, std::size_t n_values, const float*) {
  auto* out = static_cast<std::uint16_t*>(blocks);
  for (std::size_t i = 0; i < n_values; ++i) out[i] = float_to_half(in[i]);
}

void quantize_bf16(const float* in, void* blocks, std::size_t n_values, const float*) {
  auto* out = static_cast<std::uint16_t*>(blocks);
  for (std::size_t i = 0; i < n_values; ++i) out[i] = float_to_bfloat(in[i]);
}

void quantize_q4_0(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q4_0, 32>(in, blocks, n_values, importance,
                                 [](block_q4_0& block, const float* x, const float* w) {
                                   std::uint8_t codes[32];
                                   block.d = quantize_symmetric<Levels4>(x, w, codes);
                                   pack_nibbles(codes, block.qs);
                                 });
}

void quantize_q4_1(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q4_1, 32>(in, blocks, n_values, importance,
                                 [](block_q4_1& block, const float* x, const float* w) {
                                   std::uint8_t codes[32];
                                   const HalfScaleMin fit = quantize_affine<Grid4>(x, w, codes);
                                   block.d = fit.d;
                                   block.m = fit.m;
                                   pack_nibbles(codes, block.qs);
                                 });
}

void quantize_q5_0(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q5_0, 32>(in, blocks, n_values, importance,
                                 [](block_q5_0& block, const float* x, const float* w) {
                                   std::uint8_t codes[32];
                                   block.d = quantize_symmetric<Levels5>(x, w, codes);
                                   pack_fifth_bits(codes, block.qh);
                                   pack_nibbles(codes, block.qs);
                                 });
}

void quantize_q5_1(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q5_1, 32>(in, blocks, n_values, importance,
                                 [](block_q5_1& block, const float* x, const float* w) {
                                   std::uint8_t codes[32];
                                   const HalfScaleMin fit = quantize_affine<Grid5>(x, w, codes);
                                   block.d = fit.d;
                                   block.m = fit.m;
                                   pack_fifth_bits(codes, block.qh);
                                   pack_nibbles(codes, block.qs);
                                 });
}

void quantize_q8_0(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_q8_0, 32>(in, blocks, n_values, importance,
                                 [](block_q8_0& block, const float* x, const float* w) {
                                   std::uint8_t codes[32];
                                   block.d = quantize_symmetric<Levels8>(x, w, codes);
                                   for (int i = 0; i < 32; ++i) block.qs[i] = static_cast<std::int8_t>(codes[i] - 127);
                                 });
}

void quantize_iq4_nl(const float* in, void* blocks, std::size_t n_values, const float* importance) {
  for_each_block<block_iq4_nl, 32>(in, blocks, n_values, importance,
                                   [](block_iq4_nl& block, const float* x, const float* w) {
                                     std::uint8_t codes[32];
                                     block.d = quantize_symmetric<Iq4Levels>(x, w, codes);
                                     pack_nibbles(codes, block.qs);
                                   });
}

}  // namespace rwkvnative
