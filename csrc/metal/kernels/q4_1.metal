// Q4_1, y = d q + m. Packed row: codes 16 B a unit; (d, m) 4 B a unit.
#include "quant_kernels.h"

struct Q4_1 {
  typedef PackedPlaces Places;
  enum { kBias = 0, kHasOffset = 1 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    const float2 dm = half_pair(plane_word(row, 16 * items + 4 * item));
    return {low_nibbles(codes), high_nibbles(codes), float2(dm.x), float2(dm.y)};
  }
};

INSTANTIATE(Q4_1)
