// Q8_0, y = d q, q signed. Packed row: codes 32 B a unit; d 2 B a unit.
#include "quant_kernels.h"

struct Q8_0 {
  typedef PackedPlaces Places;
  enum { kBias = 128, kHasOffset = 0 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 low = plane_codes(row, 2 * item), high = plane_codes(row, 2 * item + 1);
    return {low ^ 0x80808080u, high ^ 0x80808080u, float2(plane_half(row, 32 * items + 2 * item)), float2(0.0f)};
  }
};

INSTANTIATE(Q8_0)
