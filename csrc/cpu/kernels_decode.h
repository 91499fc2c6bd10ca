// Tensor types, one decoder each, which every kernel of kernels_body.h (its only includer) shares.
#pragma once

namespace {

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

}  // namespace
