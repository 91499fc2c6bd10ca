// Q5_K, y = d s q - dmin m, s and m per 32 values. The file's blocks of 176 bytes, eleven 16-byte loads; items as in q4_k.metal.
#include "quant_kernels.h"

struct Q5_K {
  typedef NibblePlaces Places;
  enum { kBias = 0, kHasOffset = 1 };

  static Unit decode(device const uchar* row, uint item, uint) {
    device const uint4* block = (device const uint4*)(row + sizeof(rwkvnative::block_q5_k) * (item / 8));
    const uint t = item % 8, n = t / 2;
    const uint4 head = block[0];  // d, dmin, scales
    const uint4 bits = block[1 + t % 2] >> (2 * n);
    const uint4 codes = block[3 + t];
    const float2 d = half_pair(head.x);
    const ScalePairs scales = k_scales(head.yzw, n);
    return {low_nibbles(codes) | ((bits & 0x01010101u) << 4), high_nibbles(codes) | ((bits & 0x02020202u) << 3),
            d.x * scales.s, -d.y * scales.m};
  }
};

INSTANTIATE(Q5_K)
