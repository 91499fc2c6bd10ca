// Q5_0, y = d (q - 16). Packed row: low four bits 16 B a unit; fifth bits 4 B a unit; d 2 B a unit.
#include "quant_kernels.h"

struct Q5_0 {
  typedef PackedPlaces Places;
  enum { kBias = 16, kHasOffset = 0 };
  static Unit decode(device const uchar* row, uint item, uint items) {
    const uint4 codes = plane_codes(row, item);
    const uint bits = plane_word(row, 16 * items + 4 * item);
    return {low_nibbles(codes) | low_fifth_bits(bits), high_nibbles(codes) | high_fifth_bits(bits),
            float2(plane_half(row, 20 * items + 2 * item)), float2(0.0f)};
  }
};

INSTANTIATE(Q5_0)
