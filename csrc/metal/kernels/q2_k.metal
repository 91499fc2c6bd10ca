// Q2_K, y = d s q - dmin m, s and m per 16 values. Packed row: codes 8 B a unit; (s | m << 4) 2 B a unit; (d, dmin) 4 B a block.
#include "quant_kernels.h"

struct Q2_K {
  typedef PackedPlaces Places;
  enum { kBias = 0, kHasOffset = 1 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint2 codes = ((device const uint2*)row)[item];
    const uint scales = *(device const ushort*)(row + 8 * items + 2 * item);
    const float2 d = half_pair(plane_word(row, 10 * items + 4 * (item / 8)));
    return {two_bits(codes.x), two_bits(codes.y), d.x * float2(float(scales & 15), float((scales >> 8) & 15)),
            -d.y * float2(float((scales >> 4) & 15), float(scales >> 12))};
  }
};

INSTANTIATE(Q2_K)
