// A quantized matrix, an item (32 values) of a row at a time. The decode snippet of a type is a struct
//
//   struct Q4_0 {
//     typedef PackedPlaces Places;
//     enum { kBias = 8, kHasOffset = 0 };
//     static Unit decode(device const uchar* row, uint item, uint items);   // items: of the row
//   };
//
// and mat-vec, mat-mat and the embedding are templates over it: y = scale * (code - kBias) + offset for the
// values Places::low ... + 15 and Places::high ... + 15 of the row, with a scale and an offset for each half. Two neighbouring items are
// 64 values in a row.
#pragma once

#include "common.h"
#include "core/quant_blocks.h"

struct Unit {
  uint4 low, high;  // unsigned byte codes, four to a word, in order
  float2 scale, offset;
};

// Four codes as halves, exact: 0x6400 | code is the half 1024 + code. Cheaper than converting integers.
inline half4 code_halves(uint word, half bias) {
  const half2 shift = half2(1024.0h + bias);
  const half2 even = as_type<half2>((word & 0x00ff00ffu) | 0x64006400u) - shift;
  const half2 odd = as_type<half2>(((word >> 8) & 0x00ff00ffu) | 0x64006400u) - shift;
  return half4(even.x, odd.x, even.y, odd.y);
}

inline float half_float(ushort bits) { return float(as_type<half>(bits)); }
inline float2 half_pair(uint bits) { return float2(as_type<half2>(bits)); }

// ---- pieces of packed rows (host: core/pack.h): planes, the codes of all units first, then scales

// Where an item's values are in its row: for types whose item is the unit of a packed row, 32 values in order ...
struct PackedPlaces {
  static uint low(uint item) { return 32 * item; }
  static uint high(uint item) { return 32 * item + 16; }
};

// ... and for Q4_K and Q5_K, where item t of a block's eight is half t % 2 of the bytes that two units of 32 values share.
struct NibblePlaces {
  static uint low(uint item) { return 256 * (item / 8) + 64 * (item % 8 / 2) + 16 * (item % 2); }
  static uint high(uint item) { return low(item) + 32; }
};

inline uint plane_word(device const uchar* row, uint byte) { return *(device const uint*)(row + byte); }
inline float plane_half(device const uchar* row, uint byte) { return half_float(*(device const ushort*)(row + byte)); }
inline uint4 plane_codes(device const uchar* row, uint item) { return ((device const uint4*)row)[item]; }

inline uint4 low_nibbles(uint4 codes) { return codes & 0x0f0f0f0fu; }
inline uint4 high_nibbles(uint4 codes) { return (codes >> 4) & 0x0f0f0f0fu; }

// A bit plane stores the bit of value 4 q + b of a unit (q = 0..7, b = 0..3) at bit 8 b + q: here as bit 4 of each code.
inline uint4 low_fifth_bits(uint plane) {
  return uint4(plane << 4, plane << 3, plane << 2, plane << 1) & 0x10101010u;
}
inline uint4 high_fifth_bits(uint plane) {
  return uint4(plane, plane >> 1, plane >> 2, plane >> 3) & 0x10101010u;
}

// Two-bit planes: quad q = 4 w + p of a unit is bits 2p, 2p + 1 of each byte of word w.
inline uint4 two_bits(uint word) { return uint4(word, word >> 2, word >> 4, word >> 6) & 0x03030303u; }

// The codebook of IQ4_NL and IQ4_XS, its levels plus 127 (kIq4Codebook in core/quant_blocks.h).
inline uint iq4_word(uint codes) {
  uint word = 0;
  for (uint i = 0; i < 4; ++i) {
    word |= uint(int(rwkvnative::kIq4Codebook[(codes >> (8 * i)) & 15]) + 127) << (8 * i);
  }
  return word;
}
inline uint4 iq4_words(uint4 codes) {
  return uint4(iq4_word(codes.x), iq4_word(codes.y), iq4_word(codes.z), iq4_word(codes.w));
}

// The 6-bit scales and minima of units 2 n and 2 n + 1 of a Q4_K or Q5_K block, as (s, m) of the two; `scales`: its twelve
// bytes (core/quant_blocks.h).
struct ScalePairs {
  float2 s, m;
};
inline ScalePairs k_scales(uint3 scales, uint n) {
  const uint shift = 16 * (n & 1);
  const uint a = scales.x >> shift, b = scales.y >> shift, c = scales.z >> shift;
  const uint s = n < 2 ? a & 0x3f3f : (c & 0x0f0f) | ((a >> 2) & 0x3030);
  const uint m = n < 2 ? b & 0x3f3f : ((c >> 4) & 0x0f0f) | ((b >> 2) & 0x3030);
  return {float2(float(s & 255), float((s >> 8) & 255)), float2(float(m & 255), float((m >> 8) & 255))};
}

// ---- what the kernels ask of a matrix

template <class Type>
struct QuantMatrix {
  enum { kItemValues = 32 };

  // Stores the item's values of a row of `items` at `out`, the place of the row's first value.
  template <class Out>
  static void store_item(device const uchar* row, uint item, uint items, Out out) {
    const Unit unit = Type::decode(row, item, items);
    const uint low = Type::Places::low(item), high = Type::Places::high(item);
    for (uint i = 0; i < 4; ++i) {
      out.store(low + 4 * i, unit.scale.x * float4(code_halves(unit.low[i], half(Type::kBias))) + unit.offset.x);
      out.store(high + 4 * i, unit.scale.y * float4(code_halves(unit.high[i], half(Type::kBias))) + unit.offset.y);
    }
  }

  // The same for an item beyond the row.
  template <class Out>
  static void zero_item(uint item, Out out) {
    for (uint i = 0; i < 4; ++i) {
      out.store(Type::Places::low(item) + 4 * i, float4(0.0f));
      out.store(Type::Places::high(item) + 4 * i, float4(0.0f));
    }
  }

  // sums[r * kTile + t] += item of row r . the same values of x[t].
  template <uint kRows, uint kTile, class Row>
  static void accumulate(device const uchar* thread* rows, thread const Row* x, uint item, thread float* sums) {
    half4 low[kRows * 4], high[kRows * 4];
    float2 scale[kRows], offset[kRows];
    for (uint r = 0; r < kRows; ++r) {
      const Unit unit = Type::decode(rows[r], item, kItems);
      for (uint i = 0; i < 4; ++i) {
        low[4 * r + i] = code_halves(unit.low[i], half(Type::kBias));
        high[4 * r + i] = code_halves(unit.high[i], half(Type::kBias));
      }
      scale[r] = unit.scale;
      offset[r] = unit.offset;
    }
    for (uint t = 0; t < kTile; ++t) {
      float4 values[8];
      for (uint i = 0; i < 4; ++i) {
        values[i] = x[t].load(Type::Places::low(item) + 4 * i);
        values[4 + i] = x[t].load(Type::Places::high(item) + 4 * i);
      }
      float2 x_sums = float2(0.0f);
      if (Type::kHasOffset) {
        x_sums.x = dot((values[0] + values[1]) + (values[2] + values[3]), float4(1.0f));
        x_sums.y = dot((values[4] + values[5]) + (values[6] + values[7]), float4(1.0f));
      }
      for (uint r = 0; r < kRows; ++r) {
        float4 of_low = float4(0.0f), of_high = float4(0.0f);
        for (uint i = 0; i < 4; ++i) {
          of_low = fma(float4(low[4 * r + i]), values[i], of_low);
          of_high = fma(float4(high[4 * r + i]), values[4 + i], of_high);
        }
        float sum = scale[r].x * dot(of_low, float4(1.0f)) + scale[r].y * dot(of_high, float4(1.0f));
        if (Type::kHasOffset) sum += dot(offset[r], x_sums);
        sums[r * kTile + t] += sum;
      }
    }
  }
};
