// Q4_K, y = d s q - dmin m, s and m per 32 values. The file's blocks of 144 bytes, nine 16-byte loads. Item t of a block's
// eight is half h = t % 2 of the 32 bytes of codes that units 2 n and 2 n + 1 share, n = t / 2.
#include "quant_kernels.h"

struct Q4_K {
  typedef NibblePlaces Places;
  enum { kBias = 0, kHasOffset = 1 };

  static Unit decode(device const uchar* row, uint item, uint) {
    device const uint4* block = (device const uint4*)(row + sizeof(rwkvnative::block_q4_k) * (item / 8));
    const uint4 head = block[0];  // d, dmin, scales
    const uint4 codes = block[1 + item % 8];
    const float2 d = half_pair(head.x);
    const ScalePairs scales = k_scales(head.yzw, item % 8 / 2);
    return {low_nibbles(codes), high_nibbles(codes), d.x * scales.s, -d.y * scales.m};
  }
};

INSTANTIATE(Q4_K)
