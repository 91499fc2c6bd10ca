// C[M][N] = A[M][K] B[N][K]^T, half in, float out. A threadgroup of 4 simdgroups makes a 32x32 tile.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

constant constexpr uint kTile = 32;
constant constexpr uint kDepth = 16;

struct Sizes {
  uint M, N, K;
};

kernel void gemm_f16(constant Sizes& p [[buffer(0)]],
                     device const half* A [[buffer(1)]],
                     device const half* B [[buffer(2)]],
                     device float* C [[buffer(3)]],
                     threadgroup half* tiles [[threadgroup(0)]],
                     uint2 group [[threadgroup_position_in_grid]],
                     ushort index [[thread_index_in_threadgroup]],
                     ushort simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup half* a_tile = tiles;
  threadgroup half* b_tile = tiles + kTile * kDepth;
  threadgroup float result[kTile * kTile];
  simdgroup_float8x8 sums[4];
  for (ushort i = 0; i < 4; i++) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  const uint m0 = group.y * kTile, n0 = group.x * kTile;
  for (uint k0 = 0; k0 < p.K; k0 += kDepth) {
    // 128 threads: each brings one half4 of A and one of B.
    const uint row = index / 4, column = index % 4 * 4;
    *(threadgroup half4*)(a_tile + row * kDepth + column) =
        m0 + row < p.M ? *(device const half4*)(A + (m0 + row) * p.K + k0 + column) : half4(0.0h);
    *(threadgroup half4*)(b_tile + row * kDepth + column) =
        n0 + row < p.N ? *(device const half4*)(B + (n0 + row) * p.K + k0 + column) : half4(0.0h);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_half8x8 a, b;
    for (ushort k = 0; k < kDepth; k += 8) {
      simdgroup_load(a, a_tile + simdgroup * 8 * kDepth + k, kDepth);
      for (ushort j = 0; j < 4; j++) {
        simdgroup_load(b, b_tile + j * 8 * kDepth + k, kDepth, ulong2(0, 0), true);
        simdgroup_multiply_accumulate(sums[j], a, b, sums[j]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (ushort j = 0; j < 4; j++) simdgroup_store(sums[j], result + simdgroup * 8 * kTile + j * 8, kTile);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = index; i < kTile * kTile; i += 128) {
    const uint row = i / kTile, column = i % kTile;
    if (m0 + row < p.M && n0 + column < p.N) C[(m0 + row) * p.N + n0 + column] = result[i];
  }
}
