// Q3_K, y = d (s - 32) (q - 4), s per 16 values. Packed row: low two bits 8 B a unit; third bits 4 B a unit; the twelve scale
// bytes (block_q3_k in core/quant_blocks.h) of a block; d 2 B a block.
#include "quant_kernels.h"

struct Q3_K {
  typedef PackedPlaces Places;
  enum { kBias = 4, kHasOffset = 0 };

  // Of 16-value group j of a block.
  static float group_scale(device const uchar* scales, uint j) {
    const uint low = (uint(scales[j % 8]) >> (4 * (j / 8))) & 15, high = (uint(scales[8 + j % 4]) >> (2 * (j / 4))) & 3;
    return float(low | (high << 4)) - 32.0f;
  }

  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint2 codes = ((device const uint2*)row)[item];
    const uint bits = plane_word(row, 8 * items + 4 * item);
    device const uchar* scales = row + 12 * items + 12 * (item / 8);
    const float d = plane_half(row, 12 * items + 12 * (items / 8) + 2 * (item / 8));
    const uint j = 2 * (item % 8);
    return {two_bits(codes.x) | (low_fifth_bits(bits) >> 2), two_bits(codes.y) | (high_fifth_bits(bits) >> 2),
            d * float2(group_scale(scales, j), group_scale(scales, j + 1)), float2(0.0f)};
  }
};

INSTANTIATE(Q3_K)
