// Q4_0, y = d (q - 8). Packed row: codes 16 B a unit; d 2 B a unit.
#include "quant_kernels.h"

struct Q4_0 {
  typedef PackedPlaces Places;
  enum { kBias = 8, kHasOffset = 0 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    return {low_nibbles(codes), high_nibbles(codes), float2(plane_half(row, 16 * items + 2 * item)), float2(0.0f)};
  }
};

INSTANTIATE(Q4_0)
