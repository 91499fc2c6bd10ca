// Every CPU kernel, written once over the 16-lane vocabulary of simd_*.h. The including file has chosen the instruction set
// and includes its vocabulary first. Only plain loops and vocabulary in here: a function of the standard library that is
// instantiated under special compiler flags could be the copy that the linker keeps for every processor.
#pragma once

#include <cstdint>
#include <cstring>

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

constexpr uint32_t blocks_of(uint32_t n) { return (n + kInt8BlockValues - 1) / kInt8BlockValues; }

// ---- elementwise functions ---------------------------------------------------------------------------------------------

// exp with a relative error of about 2e-7: exp(x) = 2^n exp(r), |r| <= ln(2) / 2, exp(r) as its Taylor polynomial.
RWKVNATIVE_INLINE F32x16 exp(F32x16 x) {
  x = min(max(x, set1(-87.0f)), set1(88.0f));
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
  const F32x16 positive = max(x, zero());
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
      const float d = vanishes ? 0.0f : largest / 127.0f;
      const F32x16 inverse = set1(vanishes ? 0.0f : 127.0f / largest);
      const F32x16 qa = round(mul(a, inverse)), qb = round(mul(b, inverse));
      store_bytes(out->q + g * 32, qa);
      store_bytes(out->q + g * 32 + 16, qb);
      const float sum_a = -d * sum(qa), sum_b = -d * sum(qb);
      out->d_sum32[g] = d;
      out->d_sum32[8 + g] = sum_a + sum_b;
      out->d16[2 * g] = out->d16[2 * g + 1] = d;
      out->sum16[2 * g] = sum_a;
      out->sum16[2 * g + 1] = sum_b;
    }
  }
}

// ---- one decoder per type ----------------------------------------------------------------------------------------------
// A unit is 256 values: one super-block, or eight blocks of 32. Value = scale * code - minimum per group of 32 or 16.
//   codes<c>(blocks)         codes of values 64c..64c+63, in order; unsigned ones are at most 63, signed ones any int8
//   scales(blocks, s)        group 32: s[0..7] scales, s[8..15] minima
//   scales(blocks, s, m)     group 16: s[0..15] scales, m[0..15] minima

// Sub-block scales (8) and minima (8) of Q4_K and Q5_K, six bits each, as bytes.
RWKVNATIVE_INLINE void six_bit_words(const uint8_t* packed, uint32_t* words) {
  uint32_t a, b, c;
  std::memcpy(&a, packed, 4);
  std::memcpy(&b, packed + 4, 4);
  std::memcpy(&c, packed + 8, 4);
  words[0] = a & 0x3f3f3f3f;
  words[1] = (c & 0x0f0f0f0f) | ((a >> 2) & 0x30303030);
  words[2] = b & 0x3f3f3f3f;
  words[3] = ((c >> 4) & 0x0f0f0f0f) | ((b >> 2) & 0x30303030);
}
RWKVNATIVE_INLINE void six_bit_scales(const uint8_t* packed, float d, float dmin, float* s) {
  uint32_t words[4];
  six_bit_words(packed, words);
  uint8_t bytes[16];
  std::memcpy(bytes, words, 16);
  for (int i = 0; i < 8; ++i) s[i] = d * bytes[i];
  for (int i = 8; i < 16; ++i) s[i] = dmin * bytes[i];
}

template <class BlockType>
struct SixBitScales {
  using Block = BlockType;
  static constexpr uint32_t kBlocks = 1, kGroup = 32;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s) {
    six_bit_scales(b->scales, half_to_f32(b->d), half_to_f32(b->dmin), s);
  }
};

struct Q4_K : SixBitScales<block_q4_k> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    return unpack32<0, 4>(b->qs + 32 * c, 15);
  }
};

struct Q5_K : SixBitScales<block_q5_k> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    return or_(unpack32<0, 4>(b->qs + 32 * c, 15), shift_left<4>(unpack32<2 * c, 2 * c + 1>(b->qh, 1)));
  }
};

struct Q6_K {
  using Block = block_q6_k;
  static constexpr uint32_t kBlocks = 1, kGroup = 16;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s, float* m) {
    const float d = half_to_f32(b->d);
    for (int i = 0; i < 16; ++i) s[i] = d * b->scales[i];
    for (int i = 0; i < 16; ++i) m[i] = 32.0f * s[i];
  }
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    constexpr int half = c / 2, upper = c % 2;
    return or_(unpack64<4 * upper>(b->ql + 64 * half, 15),
               shift_left<4>(unpack32<4 * upper, 4 * upper + 2>(b->qh + 32 * half, 3)));
  }
};

struct Q2_K {
  using Block = block_q2_k;
  static constexpr uint32_t kBlocks = 1, kGroup = 16;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s, float* m) {
    const float d = half_to_f32(b->d), dmin = half_to_f32(b->dmin);
    for (int i = 0; i < 16; ++i) s[i] = d * (b->scales[i] & 15);
    for (int i = 0; i < 16; ++i) m[i] = dmin * (b->scales[i] >> 4);
  }
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    return unpack32<4 * (c % 2), 4 * (c % 2) + 2>(b->qs + 32 * (c / 2), 3);
  }
};

struct Q3_K {
  using Block = block_q3_k;
  static constexpr uint32_t kBlocks = 1, kGroup = 16;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s, float* m) {
    const float d = half_to_f32(b->d);
    for (int i = 0; i < 16; ++i) {
      const int low = (b->scales[i % 8] >> (4 * (i / 8))) & 15, high = (b->scales[8 + i % 4] >> (2 * (i / 4))) & 3;
      s[i] = d * static_cast<float>((low | high << 4) - 32);
    }
    for (int i = 0; i < 16; ++i) m[i] = 4.0f * s[i];
  }
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    return or_(unpack32<4 * (c % 2), 4 * (c % 2) + 2>(b->qs + 32 * (c / 2), 3),
               shift_left<2>(unpack32<2 * c, 2 * c + 1>(b->hmask, 1)));
  }
};

struct IQ4_XS {
  using Block = block_iq4_xs;
  static constexpr uint32_t kBlocks = 1, kGroup = 32;
  static constexpr bool kSigned = true, kMinimum = false;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s) {
    const float d = half_to_f32(b->d);
    for (int i = 0; i < 8; ++i) {
      const int low = (b->scales_l[i / 2] >> (4 * (i % 2))) & 15, high = (b->scales_h >> (2 * i)) & 3;
      s[i] = d * static_cast<float>((low | high << 4) - 32);
    }
    for (int i = 8; i < 16; ++i) s[i] = 0;
  }
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    return lookup16(kIq4Codebook, nibbles_2x16(b->qs + 32 * c, b->qs + 32 * c + 16));
  }
};

// Blocks of 32, value = d * (code - offset): unsigned codes with an offset, signed ones without.
template <class BlockType, int offset>
struct SmallSymmetric {
  using Block = BlockType;
  static constexpr uint32_t kBlocks = 8, kGroup = 32;
  static constexpr bool kSigned = offset == 0, kMinimum = offset != 0;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s) {
    for (int i = 0; i < 8; ++i) s[i] = half_to_f32(b[i].d);
    for (int i = 0; i < 8; ++i) s[8 + i] = static_cast<float>(offset) * s[i];
  }
};

// Blocks of 32, value = d * code + m.
template <class BlockType>
struct SmallAffine {
  using Block = BlockType;
  static constexpr uint32_t kBlocks = 8, kGroup = 32;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, float* s) {
    for (int i = 0; i < 8; ++i) s[i] = half_to_f32(b[i].d);
    for (int i = 0; i < 8; ++i) s[8 + i] = -half_to_f32(b[i].m);
  }
};

RWKVNATIVE_INLINE B64 fifth_bits(const uint8_t* a, const uint8_t* b) {
  uint32_t low, high;
  std::memcpy(&low, a, 4);
  std::memcpy(&high, b, 4);
  return spread_bits(low | static_cast<uint64_t>(high) << 32, 16);
}

// Codes 64c..64c+63 of blocks of four and of five bits.
template <int c, class Block>
RWKVNATIVE_INLINE B64 four_bit_codes(const Block* b) {
  return nibbles_2x16(b[2 * c].qs, b[2 * c + 1].qs);
}
template <int c, class Block>
RWKVNATIVE_INLINE B64 five_bit_codes(const Block* b) {
  return or_(four_bit_codes<c>(b), fifth_bits(b[2 * c].qh, b[2 * c + 1].qh));
}

struct Q4_0 : SmallSymmetric<block_q4_0, 8> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) { return four_bit_codes<c>(b); }
};

struct Q4_1 : SmallAffine<block_q4_1> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) { return four_bit_codes<c>(b); }
};

struct Q5_0 : SmallSymmetric<block_q5_0, 16> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) { return five_bit_codes<c>(b); }
};

struct Q5_1 : SmallAffine<block_q5_1> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) { return five_bit_codes<c>(b); }
};

struct Q8_0 : SmallSymmetric<block_q8_0, 0> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    int8_t both[64];
    std::memcpy(both, b[2 * c].qs, 32);
    std::memcpy(both + 32, b[2 * c + 1].qs, 32);
    return load_bytes(both);
  }
};

struct IQ4_NL : SmallSymmetric<block_iq4_nl, 0> {
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) { return lookup16(kIq4Codebook, four_bit_codes<c>(b)); }
};

// Calls function(Type{}) for a quantized type.
template <class Function>
RWKVNATIVE_INLINE void with_type(DType type, Function&& function) {
  switch (type) {
    case DType::Q4_0: return function(Q4_0{});
    case DType::Q4_1: return function(Q4_1{});
    case DType::Q5_0: return function(Q5_0{});
    case DType::Q5_1: return function(Q5_1{});
    case DType::Q8_0: return function(Q8_0{});
    case DType::Q2_K: return function(Q2_K{});
    case DType::Q3_K: return function(Q3_K{});
    case DType::Q4_K: return function(Q4_K{});
    case DType::Q5_K: return function(Q5_K{});
    case DType::Q6_K: return function(Q6_K{});
    case DType::IQ4_NL: return function(IQ4_NL{});
    case DType::IQ4_XS: return function(IQ4_XS{});
    case DType::F32:
    case DType::F16:
    case DType::BF16: return;  // no codes: dot_f32
  }
}

// Calls function(blocks, u) for each unit of a row; a last unit that the row does not fill is padded with zero blocks.
template <class Type, class Function>
RWKVNATIVE_INLINE void for_units(const std::byte* row, uint32_t n, Function&& function) {
  const auto* blocks = reinterpret_cast<const typename Type::Block*>(row);
  const uint32_t full = n / kInt8BlockValues;
  for (uint32_t u = 0; u < full; ++u) function(blocks + u * Type::kBlocks, u);
  if constexpr (Type::kBlocks > 1) {
    const uint32_t rest = n / 32 - full * Type::kBlocks;
    if (rest != 0) {
      typename Type::Block padded[Type::kBlocks];
      std::memset(padded, 0, sizeof padded);
      std::memcpy(padded, blocks + full * Type::kBlocks, rest * sizeof(typename Type::Block));
      function(padded, full);
    }
  }
}

// ---- matrix times few tokens -------------------------------------------------------------------------------------------
// A row at a time, decoded in registers for up to kDotTokens tokens.

template <int value>
struct Tokens {
  static constexpr int n = value;
};

// Calls function(Tokens<n>{}, t) for runs of n tokens from t on.
template <class Function>
RWKVNATIVE_INLINE void for_tokens(uint32_t tokens, Function&& function) {
  uint32_t t = 0;
  if constexpr (kDotTokens >= 8)
    for (; t + 8 <= tokens; t += 8) function(Tokens<8>{}, t);
  if constexpr (kDotTokens >= 4)
    for (; t + 4 <= tokens; t += 4) function(Tokens<4>{}, t);
  for (; t + 2 <= tokens; t += 2) function(Tokens<2>{}, t);
  if (t < tokens) function(Tokens<1>{}, t);
}

// The same for tiles: runs of kTokensAtOnce first.
template <class Function>
RWKVNATIVE_INLINE void for_tile_tokens(uint32_t tokens, Function&& function) {
  uint32_t t = 0;
  for (; t + kTokensAtOnce <= tokens; t += kTokensAtOnce) function(Tokens<kTokensAtOnce>{}, t);
  const uint32_t done = t;
  for_tokens(tokens - done, [&](auto run, uint32_t rest) RWKVNATIVE_LAMBDA_INLINE { function(run, done + rest); });
}

template <class Type, int c, int tokens>
RWKVNATIVE_INLINE void dot_chunk(const typename Type::Block* b, const Int8Block* x, uint32_t n_units, const F32x16* scales,
                                 F32x16* total) {
  const B64 codes = Type::template codes<c>(b);
  for (int t = 0; t < tokens; ++t) {
    const B64 activations = load_bytes(x[t * n_units].q + 64 * c);
    const I32x16 products = Type::kSigned ? dot_signed(zero_i32(), codes, activations)
                                          : dot_unsigned(zero_i32(), codes, activations);
    const F32x16 lanes = Type::kGroup == 32 ? expand8<c>(scales[t]) : expand4<c>(scales[t]);
    total[t] = fma(to_float(products), lanes, total[t]);
  }
}

template <class Type, int tokens>
RWKVNATIVE_INLINE void dot_row(const std::byte* row, uint32_t n, const Int8Block* x, float* out, size_t out_stride) {
  const uint32_t n_units = blocks_of(n);
  F32x16 total[tokens];
  for (int t = 0; t < tokens; ++t) total[t] = zero();
  for_units<Type>(row, n, [&](const typename Type::Block* b, uint32_t u) RWKVNATIVE_LAMBDA_INLINE {
    alignas(64) float s[16];
    F32x16 scales[tokens];
    if constexpr (Type::kGroup == 32) {
      Type::scales(b, s);
      const F32x16 both = load(s);
      for (int t = 0; t < tokens; ++t) {
        scales[t] = mul(both, load(x[t * n_units + u].d_sum32));
        if (Type::kMinimum) total[t] = add_high_half(total[t], scales[t]);
      }
    } else {
      alignas(64) float m[16];
      Type::scales(b, s, m);
      const F32x16 factors = load(s), minima = load(m);
      for (int t = 0; t < tokens; ++t) {
        scales[t] = mul(factors, load(x[t * n_units + u].d16));
        total[t] = fma(minima, load(x[t * n_units + u].sum16), total[t]);
      }
    }
    dot_chunk<Type, 0, tokens>(b, x + u, n_units, scales, total);
    dot_chunk<Type, 1, tokens>(b, x + u, n_units, scales, total);
    dot_chunk<Type, 2, tokens>(b, x + u, n_units, scales, total);
    dot_chunk<Type, 3, tokens>(b, x + u, n_units, scales, total);
  });
  for (int t = 0; t < tokens; ++t) out[t * out_stride] = sum(total[t]);
}

void dot_int8(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const Int8Block* x,
              uint32_t tokens, float* out, size_t out_stride) {
  const uint32_t n_units = blocks_of(n);
  with_type(type, [&](auto tag) {
    for (uint32_t i = 0; i < rows; ++i)
      for_tokens(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
        dot_row<decltype(tag), decltype(run)::n>(weights + i * row_bytes, n, x + t * n_units, out + t * out_stride + i, out_stride);
      });
  });
}

template <int tokens, class Load>
RWKVNATIVE_INLINE void dot_floats(uint32_t n, const float* x, size_t x_stride, float* out, size_t out_stride, Load&& weights_at) {
  constexpr uint32_t kChains = tokens >= 4 ? 1 : 4 / tokens;  // sums side by side: one waits for itself
  F32x16 total[tokens][kChains];
  for (int t = 0; t < tokens; ++t)
    for (uint32_t j = 0; j < kChains; ++j) total[t][j] = zero();
  uint32_t i = 0;
  for (; i + 16 * kChains <= n; i += 16 * kChains)
    for (uint32_t j = 0; j < kChains; ++j) {
      const F32x16 w = weights_at(i + 16 * j);
      for (int t = 0; t < tokens; ++t) total[t][j] = fma(w, load(x + t * x_stride + i + 16 * j), total[t][j]);
    }
  for (; i + 16 <= n; i += 16) {
    const F32x16 w = weights_at(i);
    for (int t = 0; t < tokens; ++t) total[t][0] = fma(w, load(x + t * x_stride + i), total[t][0]);
  }
  for (int t = 0; t < tokens; ++t) {
    for (uint32_t j = 1; j < kChains; ++j) total[t][0] = add(total[t][0], total[t][j]);
    out[t * out_stride] = sum(total[t][0]);
  }
}

inline float bfloat_to_f32(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

// Weights of float types as float32; the bytes may be unaligned.
RWKVNATIVE_INLINE void widen(DType type, const std::byte* row, uint32_t n, float* out) {
  if (type == DType::F32) {
    std::memcpy(out, row, n * sizeof(float));
    return;
  }
  const auto* halves = reinterpret_cast<const uint16_t*>(row);
  uint32_t i = 0;
  if (type == DType::F16) {
    for (; i + 16 <= n; i += 16) store(out + i, load_half(halves + i));
    for (; i < n; ++i) out[i] = half_to_f32(halves[i]);
  } else {
    for (; i + 16 <= n; i += 16) store(out + i, load_bfloat(halves + i));
    for (; i < n; ++i) out[i] = bfloat_to_f32(halves[i]);
  }
}

template <class Type>
RWKVNATIVE_INLINE void decode_row(const std::byte* row, uint32_t n, float* out) {
  for_units<Type>(row, n, [&](const typename Type::Block* b, uint32_t u) {
    float s[16], m[16];
    int8_t codes[256];
    if constexpr (Type::kGroup == 32) {
      Type::scales(b, s);
      std::memcpy(m, s + 8, 8 * sizeof(float));
    } else {
      Type::scales(b, s, m);
    }
    store_bytes64(codes, Type::template codes<0>(b));
    store_bytes64(codes + 64, Type::template codes<1>(b));
    store_bytes64(codes + 128, Type::template codes<2>(b));
    store_bytes64(codes + 192, Type::template codes<3>(b));
    const uint32_t begin = u * kInt8BlockValues, count = n - begin < 256 ? n - begin : 256;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t group = i / Type::kGroup;
      out[begin + i] = s[group] * static_cast<float>(codes[i]) - (Type::kMinimum ? m[group] : 0.0f);
    }
  });
}

void decode(DType type, const std::byte* row, uint32_t n, float* out) {
  if (type == DType::F32 || type == DType::F16 || type == DType::BF16) return widen(type, row, n, out);
  with_type(type, [&](auto tag) { decode_row<decltype(tag)>(row, n, out); });
}

void dot_f32(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const float* x, size_t x_stride,
             uint32_t tokens, float* out, size_t out_stride, float* scratch) {
  const uint32_t whole = n / 16 * 16;
  for (uint32_t i = 0; i < rows; ++i) {
    const std::byte* row = weights + i * row_bytes;
    const auto* halves = reinterpret_cast<const uint16_t*>(row);
    const auto* floats = reinterpret_cast<const float*>(row);
    const auto each = [&](auto&& weights_at) RWKVNATIVE_LAMBDA_INLINE {
      for_tokens(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
        dot_floats<decltype(run)::n>(n, x + t * x_stride, x_stride, out + t * out_stride + i, out_stride, weights_at);
      });
    };
    if (type == DType::F32) {
      each([&](uint32_t j) RWKVNATIVE_LAMBDA_INLINE { return load(floats + j); });
    } else if (type == DType::F16) {
      each([&](uint32_t j) RWKVNATIVE_LAMBDA_INLINE { return load_half(halves + j); });
    } else if (type == DType::BF16) {
      each([&](uint32_t j) RWKVNATIVE_LAMBDA_INLINE { return load_bfloat(halves + j); });
    } else {
      decode(type, row, n, scratch);
      each([&](uint32_t j) RWKVNATIVE_LAMBDA_INLINE { return load(scratch + j); });
    }
    if (whole < n) {
      float tail[16];
      const size_t value_bytes = type == DType::F32 ? 4 : 2;
      widen(type, row + whole * value_bytes, n - whole, tail);
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t j = whole; j < n; ++j) out[t * out_stride + i] += tail[j - whole] * x[t * x_stride + j];
    }
  }
}

// ---- matrix times many tokens ------------------------------------------------------------------------------------------
// A tile is 16 rows, for each unit of 256 values: codes [64 quads][16 rows][4], then scales [256 / group][16 rows], then
// minima likewise. Lane l of every register is row l.

template <class Type>
struct TileUnit {
  static constexpr uint32_t kGroups = kInt8BlockValues / Type::kGroup;
  // The unsigned multiply needs signed codes moved to code + 128; the move is a minimum of 128 * scale.
  static constexpr bool kMoved = Type::kSigned && kOffsetSignedTile;
  static constexpr bool kMinimum = Type::kMinimum || kMoved;
  int8_t codes[64 * 64];
  float scales[kGroups][16];
  float minima[kGroups][16];
};

size_t tile_int8_bytes(DType type, uint32_t n) {
  size_t bytes = 0;
  with_type(type, [&](auto tag) { bytes = blocks_of(n) * sizeof(TileUnit<decltype(tag)>); });
  return bytes;
}

template <class Type>
void pack_unit(const typename Type::Block* b, uint32_t row, int8_t (*codes)[256], float (*scales)[16], float (*minima)[16]) {
  using Unit = TileUnit<Type>;
  const B64 moved = set1_byte(Unit::kMoved ? -128 : 0);
  store_bytes64(codes[row], xor_(Type::template codes<0>(b), moved));
  store_bytes64(codes[row] + 64, xor_(Type::template codes<1>(b), moved));
  store_bytes64(codes[row] + 128, xor_(Type::template codes<2>(b), moved));
  store_bytes64(codes[row] + 192, xor_(Type::template codes<3>(b), moved));
  if constexpr (Type::kGroup == 32) {
    Type::scales(b, scales[row]);
    if (Unit::kMoved)
      for (int i = 0; i < 8; ++i) scales[row][8 + i] = 128.0f * scales[row][i];
  } else {
    Type::scales(b, scales[row], minima[row]);
  }
}

// Types whose 16 rows are transposed as they lie, four bytes a row, and unpacked afterwards: less to move, and a scale of all
// 16 rows is one register. pack_rows(unit, first row's block, row_bytes).
template <class Type>
constexpr bool kPacksRows = false;
template <>
constexpr bool kPacksRows<Q4_K> = true;
template <>
constexpr bool kPacksRows<Q6_K> = true;

template <class Block>
RWKVNATIVE_INLINE const Block* block_of_row(const std::byte* first, size_t row_bytes, uint32_t row) {
  return reinterpret_cast<const Block*>(first + row * row_bytes);
}

RWKVNATIVE_INLINE void pack_rows(TileUnit<Q4_K>& unit, const std::byte* first, size_t row_bytes) {
  alignas(64) uint8_t words[16][64];  // [word of 64 bytes][row][4]
  for (int half = 0; half < 2; ++half) {
    transpose16x16(block_of_row<block_q4_k>(first, row_bytes, 0)->qs + 64 * half, static_cast<int>(row_bytes), words);
    for (int w = 0; w < 16; ++w) {
      int8_t* codes = unit.codes + 64 * (16 * (2 * half + w / 8) + w % 8);
      store_bytes64(codes, unpack64<0>(words[w], 15));
      store_bytes64(codes + 64 * 8, unpack64<4>(words[w], 15));
    }
  }
  alignas(64) uint32_t bytes[4][16];
  alignas(32) uint16_t d[16], dmin[16];
  for (uint32_t row = 0; row < 16; ++row) {
    const auto* b = block_of_row<block_q4_k>(first, row_bytes, row);
    uint32_t of_row[4];
    six_bit_words(b->scales, of_row);
    for (int i = 0; i < 4; ++i) bytes[i][row] = of_row[i];
    d[row] = b->d;
    dmin[row] = b->dmin;
  }
  const F32x16 scale = load_half(d), minimum = load_half(dmin);
  for (int i = 0; i < 4; ++i) {
    float(*out)[16] = i < 2 ? unit.scales + 4 * i : unit.minima + 4 * (i - 2);
    const F32x16 factor = i < 2 ? scale : minimum;
    store(out[0], mul(factor, unsigned_bytes<0>(bytes[i])));
    store(out[1], mul(factor, unsigned_bytes<1>(bytes[i])));
    store(out[2], mul(factor, unsigned_bytes<2>(bytes[i])));
    store(out[3], mul(factor, unsigned_bytes<3>(bytes[i])));
  }
}

RWKVNATIVE_INLINE void pack_rows(TileUnit<Q6_K>& unit, const std::byte* first, size_t row_bytes) {
  alignas(64) uint8_t low[16][64], high[16][64];
  transpose16x16(block_of_row<block_q6_k>(first, row_bytes, 0)->qh, static_cast<int>(row_bytes), high);
  for (int half = 0; half < 2; ++half) {
    transpose16x16(block_of_row<block_q6_k>(first, row_bytes, 0)->ql + 64 * half, static_cast<int>(row_bytes), low);
    for (int w = 0; w < 8; ++w) {  // words of the first and of the second 32 values share their high bits' word
      const uint8_t* bits = high[8 * half + w];
      int8_t* codes = unit.codes + 64 * (32 * half + w);
      store_bytes64(codes, or_(unpack64<0>(low[w], 15), shift_left<4>(unpack64<0>(bits, 3))));
      store_bytes64(codes + 64 * 8, or_(unpack64<0>(low[w + 8], 15), shift_left<4>(unpack64<2>(bits, 3))));
      store_bytes64(codes + 64 * 16, or_(unpack64<4>(low[w], 15), shift_left<4>(unpack64<4>(bits, 3))));
      store_bytes64(codes + 64 * 24, or_(unpack64<4>(low[w + 8], 15), shift_left<4>(unpack64<6>(bits, 3))));
    }
  }
  alignas(64) uint32_t bytes[4][16];
  alignas(32) uint16_t d[16];
  for (uint32_t row = 0; row < 16; ++row) {
    const auto* b = block_of_row<block_q6_k>(first, row_bytes, row);
    uint32_t of_row[4];
    std::memcpy(of_row, b->scales, 16);
    for (int i = 0; i < 4; ++i) bytes[i][row] = of_row[i];
    d[row] = b->d;
  }
  const F32x16 scale = load_half(d), offset = set1(32.0f);
  for (int i = 0; i < 4; ++i) {
    const F32x16 s[4] = {mul(scale, signed_bytes<0>(bytes[i])), mul(scale, signed_bytes<1>(bytes[i])),
                         mul(scale, signed_bytes<2>(bytes[i])), mul(scale, signed_bytes<3>(bytes[i]))};
    for (int j = 0; j < 4; ++j) {
      store(unit.scales[4 * i + j], s[j]);
      store(unit.minima[4 * i + j], mul(offset, s[j]));
    }
  }
}

template <class Type>
void pack_tile(const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, std::byte* tile) {
  using Unit = TileUnit<Type>;
  auto* units = reinterpret_cast<Unit*>(tile);
  if constexpr (kPacksRows<Type>) {
    if (rows == 16) {
      for (uint32_t u = 0; u < blocks_of(n); ++u) pack_rows(units[u], weights + u * sizeof(typename Type::Block), row_bytes);
      return;
    }
  }
  alignas(64) int8_t codes[16][256];
  alignas(64) float scales[16][16], minima[16][16];
  std::memset(codes, 0, sizeof codes);
  std::memset(scales, 0, sizeof scales);
  std::memset(minima, 0, sizeof minima);
  for (uint32_t u = 0; u < blocks_of(n); ++u) {
    const uint32_t begin = u * kInt8BlockValues, count = n - begin < 256 ? n - begin : 256;
    for (uint32_t row = 0; row < rows; ++row) {
      const std::byte* bytes = weights + row * row_bytes + size_t{u} * Type::kBlocks * sizeof(typename Type::Block);
      for_units<Type>(bytes, count, [&](const typename Type::Block* b, uint32_t) {
        pack_unit<Type>(b, row, codes, scales, minima);
      });
    }
    for (int c = 0; c < 4; ++c) transpose16x16(&codes[0][64 * c], 256, units[u].codes + c * 1024);
    if constexpr (Type::kGroup == 32) {
      alignas(64) float both[16][16];
      transpose16x16(scales, 64, both);
      std::memcpy(units[u].scales, both, sizeof units[u].scales);
      std::memcpy(units[u].minima, both + 8, sizeof units[u].minima);
    } else {
      transpose16x16(scales, 64, units[u].scales);
      transpose16x16(minima, 64, units[u].minima);
    }
  }
}

void pack_tile_int8(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, std::byte* tile) {
  with_type(type, [&](auto tag) { pack_tile<decltype(tag)>(weights, row_bytes, n, rows, tile); });
}

// Memory to bring near, a step at a time: 16 rows side by side are nothing that a hardware prefetcher follows, and all of
// them at once would be waited for.
struct Ahead {
  const std::byte *at, *end;
  size_t step;

  RWKVNATIVE_INLINE void fetch() {
    for (const std::byte* stop = step < static_cast<size_t>(end - at) ? at + step : end; at < stop; at += 64) {
#if defined(_MSC_VER) && defined(_M_X64)
      _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
#elif !defined(_MSC_VER)
      __builtin_prefetch(at, 0, 2);
#endif
    }
  }
};

template <class Type, int tokens>
RWKVNATIVE_INLINE void multiply_tokens(const TileUnit<Type>* units, uint32_t n, const Int8Block* x, float* out,
                                       size_t out_stride, Ahead& ahead) {
  using Unit = TileUnit<Type>;
  const uint32_t n_units = blocks_of(n);
  F32x16 total[tokens];
  for (int t = 0; t < tokens; ++t) total[t] = zero();
  for (uint32_t u = 0; u < n_units; ++u) {
    const Unit& unit = units[u];
    ahead.fetch();
    for (uint32_t g = 0; g < Unit::kGroups; ++g) {
      I32x16 products[tokens];
      for (int t = 0; t < tokens; ++t) products[t] = zero_i32();
      for (uint32_t quad = g * Type::kGroup / 4; quad < (g + 1) * Type::kGroup / 4; ++quad) {
        const B64 w = load_bytes(unit.codes + 64 * quad);
        for (int t = 0; t < tokens; ++t) {
          const B64 a = broadcast4(x[t * n_units + u].q + 4 * quad);
          if constexpr (Type::kSigned && !Unit::kMoved) {
            products[t] = dot_signed(products[t], w, a);
          } else {
            products[t] = dot_unsigned(products[t], w, a);
          }
        }
      }
      const F32x16 scale = load(unit.scales[g]);
      for (int t = 0; t < tokens; ++t) {
        const Int8Block& block = x[t * n_units + u];
        const float d = Type::kGroup == 32 ? block.d_sum32[g] : block.d16[g];
        total[t] = fma(to_float(products[t]), mul(scale, set1(d)), total[t]);
      }
      if constexpr (Unit::kMinimum) {
        const F32x16 minimum = load(unit.minima[g]);
        for (int t = 0; t < tokens; ++t) {
          const Int8Block& block = x[t * n_units + u];
          total[t] = fma(minimum, set1(Type::kGroup == 32 ? block.d_sum32[8 + g] : block.sum16[g]), total[t]);
        }
      }
    }
  }
  for (int t = 0; t < tokens; ++t) store(out + t * out_stride, total[t]);
}

void multiply_tile_int8(DType type, const std::byte* tile, uint32_t n, const Int8Block* x, uint32_t tokens, float* out,
                        size_t out_stride, std::span<const std::byte> bytes_ahead) {
  uint32_t runs = 0;
  for_tile_tokens(tokens, [&](auto, uint32_t) { ++runs; });
  const size_t lines = (bytes_ahead.size() / 64 + runs * blocks_of(n) - 1) / (runs * blocks_of(n));
  Ahead ahead{bytes_ahead.data(), bytes_ahead.data() + bytes_ahead.size(), 64 * lines};
  with_type(type, [&](auto tag) {
    using Type = decltype(tag);
    const auto* units = reinterpret_cast<const TileUnit<Type>*>(tile);
    const uint32_t n_units = blocks_of(n);
    for_tile_tokens(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
      multiply_tokens<Type, decltype(run)::n>(units, n, x + t * n_units, out + t * out_stride, out_stride, ahead);
    });
  });
}

void pack_tile_f32(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, float* tile,
                   float* scratch) {
  for (uint32_t row = 0; row < kTileRows; ++row) {
    if (row < rows)
      decode(type, weights + row * row_bytes, n, scratch + size_t{row} * n);
    else
      std::memset(scratch + size_t{row} * n, 0, n * sizeof(float));
  }
  uint32_t i = 0;
  for (; i + 16 <= n; i += 16) transpose16x16(scratch + i, static_cast<int>(n * sizeof(float)), tile + size_t{i} * 16);
  for (; i < n; ++i)
    for (uint32_t row = 0; row < kTileRows; ++row) tile[size_t{i} * 16 + row] = scratch[size_t{row} * n + i];
}

template <int tokens>
RWKVNATIVE_INLINE void multiply_tokens_f32(const float* tile, uint32_t n, const float* x, size_t x_stride, float* out,
                                           size_t out_stride) {
  F32x16 total[tokens];
  for (int t = 0; t < tokens; ++t) total[t] = zero();
  for (uint32_t i = 0; i < n; ++i) {
    const F32x16 w = load(tile + size_t{i} * 16);
    for (int t = 0; t < tokens; ++t) total[t] = fma(w, set1(x[t * x_stride + i]), total[t]);
  }
  for (int t = 0; t < tokens; ++t) store(out + t * out_stride, total[t]);
}

void multiply_tile_f32(const float* tile, uint32_t n, const float* x, size_t x_stride, uint32_t tokens, float* out,
                       size_t out_stride) {
  for_tile_tokens(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
    multiply_tokens_f32<decltype(run)::n>(tile, n, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
  });
}

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

constexpr rwkvnative::cpu::Kernels kKernels = {
    .name = kIsaName,
    .quantize = quantize,
    .dot_int8 = dot_int8,
    .dot_f32 = dot_f32,
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
