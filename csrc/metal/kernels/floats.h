// A float matrix, an item (8 values) of a row at a time. Rows are a multiple of 16 bytes, padded with zeros.
#pragma once

#include "common.h"

struct Octet {
  float4 low, high;
};

struct F32 {
  static Octet decode(device const uchar* row, uint item) {
    device const float4* values = (device const float4*)row + 2 * item;
    return {values[0], values[1]};
  }
};

struct F16 {
  static Octet decode(device const uchar* row, uint item) {
    const uint4 bits = ((device const uint4*)row)[item];
    return {float4(as_type<half4>(bits.xy)), float4(as_type<half4>(bits.zw))};
  }
};

struct BF16 {
  static Octet decode(device const uchar* row, uint item) {
    const uint4 bits = ((device const uint4*)row)[item];
    return {as_type<float4>(uint4(bits.x << 16, bits.x & 0xffff0000u, bits.y << 16, bits.y & 0xffff0000u)),
            as_type<float4>(uint4(bits.z << 16, bits.z & 0xffff0000u, bits.w << 16, bits.w & 0xffff0000u))};
  }
};

// What the kernels ask of a matrix; see QuantMatrix.
template <class Type>
struct FloatMatrix {
  enum { kItemValues = 8 };

  template <class Out>
  static void store_item(device const uchar* row, uint item, uint, Out out) {
    const Octet octet = Type::decode(row, item);
    out.store(8 * item, octet.low);
    out.store(8 * item + 4, octet.high);
  }

  template <class Out>
  static void zero_item(uint item, Out out) {
    out.store(8 * item, float4(0.0f));
    out.store(8 * item + 4, float4(0.0f));
  }

  // sums[r * kTile + t] += item of row r . the same values of x[t].
  template <uint kRows, uint kTile, class Row>
  static void accumulate(device const uchar* thread* rows, thread const Row* x, uint item, thread float* sums) {
    Octet octets[kRows];
    for (uint r = 0; r < kRows; ++r) octets[r] = Type::decode(rows[r], item);
    for (uint t = 0; t < kTile; ++t) {
      const float4 low = x[t].load(8 * item), high = x[t].load(8 * item + 4);
      for (uint r = 0; r < kRows; ++r) sums[r * kTile + t] += dot(octets[r].low, low) + dot(octets[r].high, high);
    }
  }
};
