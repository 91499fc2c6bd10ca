// IQ4_NL, y = d codebook[q]. Packed row: codes 16 B a unit; d 2 B a unit.
#include "quant_kernels.h"

struct IQ4_NL {
  typedef PackedPlaces Places;
  enum { kBias = 127, kHasOffset = 0 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    return {iq4_words(low_nibbles(codes)), iq4_words(high_nibbles(codes)), float2(plane_half(row, 16 * items + 2 * item)),
            float2(0.0f)};
  }
};

INSTANTIATE(IQ4_NL)
