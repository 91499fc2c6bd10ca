// Tensor types, one decoder each, which every kernel of kernels_body.h (its only includer) shares.
#pragma once

namespace {

// ---- one decoder per type ----------------------------------------------------------------------------------------------
// A unit is 256 values: one super-block, or eight blocks of 32. Value = scale * code - minimum per group of 32 or 16.
//   codes<c>(blocks)         codes of values 64c..64c+63, in order; unsigned ones are at most 63, signed ones any int8
//   scales(blocks)           group 32: lanes 0-7 scales, 8-15 minima
//   scales(blocks, s, m)     group 16: scales and minima

RWKVNATIVE_INLINE B16 each_byte(uint8_t x) {
  const uint32_t word = 0x01010101u * x;
  return set_words(word, word, word, word);
}

// The 12 bytes of a block's packed six-bit numbers as the words 1 to 3.
template <class Block>
RWKVNATIVE_INLINE B16 packed_scales(const Block* b) {
  static_assert(sizeof b->scales == 12 && offsetof(Block, scales) >= 4);
  return load16(reinterpret_cast<const std::byte*>(b) + offsetof(Block, scales) - 4);
}

// Sub-block scales (8) and minima (8) of Q4_K and Q5_K, six bits each, as bytes.
template <class Block>
RWKVNATIVE_INLINE B16 six_bit_bytes(const Block* b) {
  const B16 packed = packed_scales(b);
  const B16 high = shift_words<0, 2, 0, 2>(words<1, 1, 2, 2>(packed)), low = shift_words<0, 0, 0, 4>(words<3, 3, 3, 3>(packed));
  return or_(and_(high, set_words(0x3f3f3f3f, 0x30303030, 0x3f3f3f3f, 0x30303030)), and_(low, set_words(0, 0x0f0f0f0f, 0, 0x0f0f0f0f)));
}

template <class BlockType>
struct SixBitScales {
  using Block = BlockType;
  static constexpr uint32_t kBlocks = 1, kGroup = 32;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE F32x16 scales(const Block* b) {
    static_assert(offsetof(Block, dmin) == offsetof(Block, d) + 2);
    return mul(widen_unsigned(six_bit_bytes(b)), two_halves(&b->d));
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
    return or_(unpack32<0, 4>(b->qs + 32 * c, 15), unpack32<2 * c - 4, 2 * c - 3>(b->qh, 16));
  }
};

struct Q6_K {
  using Block = block_q6_k;
  static constexpr uint32_t kBlocks = 1, kGroup = 16;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, F32x16& s, F32x16& m) {
    s = mul(widen_signed(load16(b->scales)), set1(half_to_f32(b->d)));
    m = mul(s, set1(32.0f));
  }
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    constexpr int half = c / 2, upper = c % 2;
    return or_(unpack64<4 * upper>(b->ql + 64 * half, 15),
               unpack32<4 * upper - 4, 4 * upper - 2>(b->qh + 32 * half, 48));
  }
};

struct Q2_K {
  using Block = block_q2_k;
  static constexpr uint32_t kBlocks = 1, kGroup = 16;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE void scales(const Block* b, F32x16& s, F32x16& m) {
    const B16 both = load16(b->scales), nibble = each_byte(15);
    s = mul(widen_unsigned(and_(both, nibble)), set1(half_to_f32(b->d)));
    m = mul(widen_unsigned(and_(shift_words<4, 4, 4, 4>(both), nibble)), set1(half_to_f32(b->dmin)));
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
  static RWKVNATIVE_INLINE void scales(const Block* b, F32x16& s, F32x16& m) {
    const B16 packed = packed_scales(b);
    const B16 low = and_(shift_words<0, 0, 4, 4>(words<1, 2, 1, 2>(packed)), each_byte(15));
    const B16 high = and_(shift_words<0, 2, 4, 6>(words<3, 3, 3, 3>(packed)), each_byte(3));
    const F32x16 six = fma(widen_unsigned(high), set1(16.0f), widen_unsigned(low));
    s = mul(sub(six, set1(32.0f)), set1(half_to_f32(b->d)));
    m = mul(s, set1(4.0f));
  }
  template <int c>
  static RWKVNATIVE_INLINE B64 codes(const Block* b) {
    return or_(unpack32<4 * (c % 2), 4 * (c % 2) + 2>(b->qs + 32 * (c / 2), 3),
               unpack32<2 * c - 2, 2 * c - 1>(b->hmask, 4));
  }
};

struct IQ4_XS {
  using Block = block_iq4_xs;
  static constexpr uint32_t kBlocks = 1, kGroup = 32;
  static constexpr bool kSigned = true, kMinimum = false;
  static RWKVNATIVE_INLINE F32x16 scales(const Block* b) {
    // A nibble and a pair of bits to each byte, by halves.
    uint32_t nibbles;
    std::memcpy(&nibbles, b->scales_l, 4);
    uint64_t low = nibbles, high = b->scales_h;
    low = (low | low << 16) & 0x0000ffff0000ffff;
    low = (low | low << 8) & 0x00ff00ff00ff00ff;
    low = (low | low << 4) & 0x0f0f0f0f0f0f0f0f;
    high = (high | high << 24) & 0x000000ff000000ff;
    high = (high | high << 12) & 0x000f000f000f000f;
    high = (high | high << 6) & 0x0303030303030303;
    const uint64_t six = low | high << 4;
    const B16 bytes = set_words(static_cast<uint32_t>(six), static_cast<uint32_t>(six >> 32), 0x20202020, 0x20202020);
    return mul(sub(widen_unsigned(bytes), set1(32.0f)), set1(half_to_f32(b->d)));
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
  static RWKVNATIVE_INLINE F32x16 scales(const Block* b) {
    return mul(strided_halves<sizeof(Block)>(&b->d, &b->d), set2(1.0f, static_cast<float>(offset)));
  }
};

// Blocks of 32, value = d * code + m.
template <class BlockType>
struct SmallAffine {
  using Block = BlockType;
  static constexpr uint32_t kBlocks = 8, kGroup = 32;
  static constexpr bool kSigned = false, kMinimum = true;
  static RWKVNATIVE_INLINE F32x16 scales(const Block* b) {
    return mul(strided_halves<sizeof(Block)>(&b->d, &b->m), set2(1.0f, -1.0f));
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
    return load_bytes(b[2 * c].qs, b[2 * c + 1].qs);
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
