// Q6_K, y = d s (q - 32), s signed, per 16 values. Packed row: low four bits 16 B a unit; high two bits 8 B a unit; s 2 B a
// unit; d 2 B a block.
#include "quant_kernels.h"

struct Q6_K {
  typedef PackedPlaces Places;
  enum { kBias = 32, kHasOffset = 0 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    const uint2 bits = *(device const uint2*)(row + 16 * items + 8 * item);
    const char2 s = *(device const char2*)(row + 24 * items + 2 * item);
    const float d = plane_half(row, 26 * items + 2 * (item / 8));
    return {low_nibbles(codes) | (two_bits(bits.x) << 4), high_nibbles(codes) | (two_bits(bits.y) << 4), d * float2(s),
            float2(0.0f)};
  }
};

INSTANTIATE(Q6_K)
