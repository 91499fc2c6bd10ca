// Q5_1, y = d q + m. Packed row: low four bits 16 B a unit; fifth bits 4 B a unit; (d, m) 4 B a unit.
#include "quant_kernels.h"

struct Q5_1 {
  typedef PackedPlaces Places;
  enum { kBias = 0, kHasOffset = 1 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    const uint bits = plane_word(row, 16 * items + 4 * item);
    const float2 dm = half_pair(plane_word(row, 20 * items + 4 * item));
    return {low_nibbles(codes) | low_fifth_bits(bits), high_nibbles(codes) | high_fifth_bits(bits), float2(dm.x),
            float2(dm.y)};
  }
};

INSTANTIATE(Q5_1)
