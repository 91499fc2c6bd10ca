// IQ4_XS, y = d (s - 32) codebook[q], s per unit. Packed row: codes 16 B a unit; (d, scales_h, scales_l) 8 B a block.
#include "quant_kernels.h"

struct IQ4_XS {
  typedef PackedPlaces Places;
  enum { kBias = 127, kHasOffset = 0 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    const uint head = 16 * items + 8 * (item / 8), j = item % 8;
    const uint d_high = plane_word(row, head);
    const uint s = ((plane_word(row, head + 4) >> (4 * j)) & 15) | (((d_high >> (16 + 2 * j)) & 3) << 4);
    return {iq4_words(low_nibbles(codes)), iq4_words(high_nibbles(codes)), float2(half_pair(d_high).x * (float(s) - 32.0f)),
            float2(0.0f)};
  }
};

INSTANTIATE(IQ4_XS)
