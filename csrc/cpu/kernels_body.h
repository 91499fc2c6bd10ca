// Every CPU kernel, written once over the 16-lane vocabulary of simd_*.h. The including file has chosen the instruction set
// and includes its vocabulary first. Only plain loops and vocabulary in here: a function of the standard library that is
// instantiated under special compiler flags could be the copy that the linker keeps for every processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/quant_blocks.h"
#include "cpu/kernels.h"

namespace {

using namespace rwkvnative;
using rwkvnative::cpu::Int8Block;
using rwkvnative::cpu::kInt8BlockValues;
using rwkvnative::cpu::kTileRows;
using rwkvnative::cpu::kVanishing;
using rwkvnative::cpu::MixArgs;
using rwkvnative::cpu::Wkv7Args;

#if defined(_MSC_VER)
#define RWKVNATIVE_INLINE __forceinline
#define RWKVNATIVE_LAMBDA_INLINE
#else
#define RWKVNATIVE_INLINE inline __attribute__((always_inline))
#define RWKVNATIVE_LAMBDA_INLINE __attribute__((always_inline))
#endif

// A hint to bring the line at p into the first or second cache; p need not be memory that may be read.
template <int cache>
RWKVNATIVE_INLINE void prefetch(const void* p) {
  static_assert(cache == 1 || cache == 2);
#if defined(_MSC_VER) && defined(_M_X64)
  _mm_prefetch(static_cast<const char*>(p), cache == 1 ? _MM_HINT_T0 : _MM_HINT_T1);
#elif !defined(_MSC_VER)
  __builtin_prefetch(p, 0, 4 - cache);
#endif
}

constexpr uint32_t blocks_of(uint32_t n) { return (n + kInt8BlockValues - 1) / kInt8BlockValues; }

// ---- elementwise functions ---------------------------------------------------------------------------------------------

// Of two operands x86's max and min give the second where one is NaN: the value whose NaN must stay comes second.

// exp with a relative error of about 2e-7: exp(x) = 2^n exp(r), |r| <= ln(2) / 2, exp(r) as its Taylor polynomial.
RWKVNATIVE_INLINE F32x16 exp(F32x16 x) {
  x = min(set1(88.0f), max(set1(-87.0f), x));
  const F32x16 n = round(mul(x, set1(1.44269504f)));
  F32x16 r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  F32x16 p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return ldexp(p, n);
}

RWKVNATIVE_INLINE F32x16 sigmoid(F32x16 x) { return div(set1(1.0f), add(set1(1.0f), exp(sub(zero(), x)))); }
// 1 - 2 / (1 + exp(2x)): absolute error about 1e-7.
RWKVNATIVE_INLINE F32x16 tanh(F32x16 x) {
  return sub(set1(1.0f), div(set1(2.0f), add(set1(1.0f), exp(add(x, x)))));
}
RWKVNATIVE_INLINE F32x16 relu_squared(F32x16 x) {
  const F32x16 positive = max(zero(), x);
  return mul(positive, positive);
}

template <F32x16 (*function)(F32x16)>
void map(float* x, uint32_t n) {
  uint32_t i = 0;
  for (; i + 16 <= n; i += 16) store(x + i, function(load(x + i)));
  if (i < n) {
    float tail[16] = {};
    std::memcpy(tail, x + i, (n - i) * sizeof(float));
    store(tail, function(load(tail)));
    std::memcpy(x + i, tail, (n - i) * sizeof(float));
  }
}

// ---- int8 activations --------------------------------------------------------------------------------------------------

void quantize(const float* x, uint32_t n, Int8Block* out) {
  for (uint32_t block = 0; block < blocks_of(n); ++block, ++out) {
    for (uint32_t g = 0; g < 8; ++g) {
      const uint32_t at = block * kInt8BlockValues + g * 32;
      F32x16 a = zero(), b = zero();
      if (at + 32 <= n) {
        a = load(x + at);
        b = load(x + at + 16);
      } else if (at < n) {
        float padded[32] = {};
        std::memcpy(padded, x + at, (n - at) * sizeof(float));
        a = load(padded);
        b = load(padded + 16);
      }
      const float largest = highest(max(abs(a), abs(b)));
      const bool vanishes = largest < kVanishing;
      const F32x16 inverse = set1(vanishes ? 0.0f : 127.0f / largest);
      const F32x16 qa = round(mul(a, inverse)), qb = round(mul(b, inverse));
      store_bytes(out->q + g * 32, qa);
      store_bytes(out->q + g * 32 + 16, qb);
      const float codes_a = sum(qa), codes_b = sum(qb);
      // A largest of values does not see each NaN, their sum does; infinity times `inverse` is one.
      const float d = (vanishes ? 0.0f : largest / 127.0f) + 0.0f * (codes_a + codes_b);
      const float sum_a = -d * codes_a, sum_b = -d * codes_b;
      out->d_sum32[g] = d;
      out->d_sum32[8 + g] = sum_a + sum_b;
      out->d16[2 * g] = out->d16[2 * g + 1] = d;
      out->sum16[2 * g] = sum_a;
      out->sum16[2 * g + 1] = sum_b;
    }
  }
}

}  // namespace

#include "cpu/kernels_decode.h"
#include "cpu/kernels_dot.h"
#include "cpu/kernels_tile.h"

namespace {

// ---- norms and mixes ---------------------------------------------------------------------------------------------------

void norm_statistics(const float* x, uint32_t n, float epsilon, float* mean, float* scale) {
  F32x16 total = zero();
  for (uint32_t i = 0; i < n; i += 16) total = add(total, load(x + i));
  *mean = sum(total) / static_cast<float>(n);
  F32x16 squares = zero();
  for (uint32_t i = 0; i < n; i += 16) {
    const F32x16 centred = sub(load(x + i), set1(*mean));
    squares = fma(centred, centred, squares);
  }
  *scale = 1.0f / square_root(sum(squares) / static_cast<float>(n) + epsilon);
}

RWKVNATIVE_INLINE F32x16 normalized(const float* x, F32x16 mean, F32x16 scale, const float* weight, const float* bias) {
  return fma(mul(sub(load(x), mean), scale), load(weight), load(bias));
}

void normalize(const float* x, uint32_t n, float mean, float scale, const float* weight, const float* bias, float* out) {
  for (uint32_t i = 0; i < n; i += 16) store(out + i, normalized(x + i, set1(mean), set1(scale), weight + i, bias + i));
}

void mix(const MixArgs& a) {
  for (uint32_t i = a.begin; i < a.end; i += 16) {
    const F32x16 h = normalized(a.x + i, set1(a.mean), set1(a.scale), a.norm_weight + i, a.norm_bias + i);
    const F32x16 step = sub(load(a.previous + i), h);
    if (a.h) store(a.h + i, h);
    for (uint32_t z = 0; z < a.n_out; ++z)
      store(a.out[z] + i, fma(step, load(a.lerp + size_t{z} * a.lerp_stride + i), h));
  }
}

// ---- wkv7 --------------------------------------------------------------------------------------------------------------
// Per token, with S[key j][value i] and lanes over i:
//   sa[i] = sum_j S[j][i] (-kk[j]);   S[j][i] = S[j][i] w[j] + sa[i] (kk a)[j] + v[i] k[j];   y[i] = sum_j S[j][i] r[j]

constexpr uint32_t kMaxHeadSize = 256;

template <uint32_t columns>  // registers of 16 values at once
RWKVNATIVE_INLINE void wkv7_columns(uint32_t N, const float* in, float* out, const float* w, const float* minus_kk,
                                    const float* b, const float* k, const float* r, const float* v, float* y) {
  F32x16 sa[columns], total[columns], value[columns];
  for (uint32_t c = 0; c < columns; ++c) {
    sa[c] = total[c] = zero();
    value[c] = load(v + 16 * c);
  }
  for (uint32_t j = 0; j < N; ++j)
    for (uint32_t c = 0; c < columns; ++c) sa[c] = fma(load(in + j * N + 16 * c), set1(minus_kk[j]), sa[c]);
  for (uint32_t j = 0; j < N; ++j)
    for (uint32_t c = 0; c < columns; ++c) {
      F32x16 s = mul(load(in + j * N + 16 * c), set1(w[j]));
      s = fma(sa[c], set1(b[j]), s);
      s = fma(value[c], set1(k[j]), s);
      store(out + j * N + 16 * c, s);
      total[c] = fma(s, set1(r[j]), total[c]);
    }
  for (uint32_t c = 0; c < columns; ++c) store(y + 16 * c, total[c]);
}

void wkv7(const Wkv7Args& a) {
  const uint32_t N = a.head_size;
  alignas(64) float w[kMaxHeadSize], minus_kk[kMaxHeadSize], b[kMaxHeadSize], k[kMaxHeadSize], v[kMaxHeadSize], y[kMaxHeadSize];
  const float* state = a.state_in;
  for (uint32_t t = 0; t < a.tokens; ++t) {
    const size_t at = size_t{t} * a.stride;
    F32x16 length = zero(), bonus = zero();
    for (uint32_t i = 0; i < N; i += 16) {
      const F32x16 key = load(a.k + at + i), kk = mul(key, load(a.k_k + i));
      store(minus_kk + i, kk);
      length = fma(kk, kk, length);
      const F32x16 rate = sigmoid(add(load(a.a0 + i), load(a.a_lora + at + i)));
      store(b + i, rate);
      const F32x16 new_key = mul(key, fma(sub(rate, set1(1.0f)), load(a.k_a + i), set1(1.0f)));
      store(k + i, new_key);
      bonus = fma(mul(load(a.r + at + i), new_key), load(a.r_k + i), bonus);
      const F32x16 decay = sigmoid(add(load(a.w0 + i), load(a.w_lora + at + i)));
      store(w + i, exp(mul(set1(-0.60653066f), decay)));
      F32x16 value = load(a.v + at + i);
      if (a.v_lora) {
        const F32x16 amount = sigmoid(add(load(a.v0 + i), load(a.v_lora + at + i)));
        value = fma(sub(load(a.v_first + at + i), value), amount, value);
      } else {
        store(a.v_first + at + i, value);
      }
      store(v + i, value);
    }
    const float norm = square_root(sum(length));
    const F32x16 inverse = set1(1.0f / (norm > 1e-12f ? norm : 1e-12f));
    for (uint32_t i = 0; i < N; i += 16) {
      const F32x16 kk = mul(load(minus_kk + i), inverse);
      store(minus_kk + i, sub(zero(), kk));
      store(b + i, mul(kk, load(b + i)));
    }

    uint32_t i = 0;
    for (; i + 64 <= N; i += 64) wkv7_columns<4>(N, state + i, a.state_out + i, w, minus_kk, b, k, a.r + at, v + i, y + i);
    for (; i < N; i += 16) wkv7_columns<1>(N, state + i, a.state_out + i, w, minus_kk, b, k, a.r + at, v + i, y + i);
    state = a.state_out;

    float mean, scale;
    norm_statistics(y, N, a.norm_epsilon, &mean, &scale);
    const F32x16 factor = set1(sum(bonus));
    for (i = 0; i < N; i += 16) {
      const F32x16 normed = normalized(y + i, set1(mean), set1(scale), a.norm_weight + i, a.norm_bias + i);
      store(a.y + at + i, mul(fma(factor, load(v + i), normed), load(a.g_lora + at + i)));
    }
  }
}

// ---- the table ---------------------------------------------------------------------------------------------------------

static_assert(kTileTokensInt8 <= rwkvnative::cpu::kMostDotTokens + 1 && kTileTokensF32 <= rwkvnative::cpu::kMostDotTokens + 1);

constexpr rwkvnative::cpu::Kernels kKernels = {
    .name = kIsaName,
    .quantize = quantize,
    .dot_int8 = dot_int8,
    .dot_f32 = dot_f32,
    .tile_tokens_int8 = kTileTokensInt8,
    .tile_tokens_f32 = kTileTokensF32,
    .tile_int8_bytes = tile_int8_bytes,
    .pack_tile_int8 = pack_tile_int8,
    .multiply_tile_int8 = multiply_tile_int8,
    .pack_tile_f32 = pack_tile_f32,
    .multiply_tile_f32 = multiply_tile_f32,
    .norm_statistics = norm_statistics,
    .normalize = normalize,
    .mix = mix,
    .tanh = map<tanh>,
    .sigmoid = map<sigmoid>,
    .relu_squared = map<relu_squared>,
    .wkv7 = wkv7,
};

}  // namespace
