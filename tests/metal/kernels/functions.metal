// What the emulator has of MSL, a kernel each: test_metal_runtime.py knows the results.
#include <metal_stdlib>
using namespace metal;

constant bool kNegate [[function_constant(0)]];
constant uint kScale [[function_constant(3)]];

// Everything a thread knows of itself.
struct Place {
  uint4 grid, group, index;
};
kernel void places(device Place* out [[buffer(0)]],
                   uint3 in_grid [[thread_position_in_grid]],
                   uint3 in_group [[thread_position_in_threadgroup]],
                   uint3 groups [[threadgroups_per_grid]],
                   uint3 group [[threadgroup_position_in_grid]],
                   uint3 size [[threads_per_threadgroup]],
                   uint3 grid [[threads_per_grid]],
                   uint index [[thread_index_in_threadgroup]],
                   ushort lane [[thread_index_in_simdgroup]],
                   ushort simdgroup [[simdgroup_index_in_threadgroup]],
                   ushort width [[threads_per_simdgroup]],
                   ushort n_simdgroups [[simdgroups_per_threadgroup]]) {
  device Place& place = out[(in_grid.z * grid.y + in_grid.y) * grid.x + in_grid.x];
  place.grid = uint4(in_grid, index);
  place.group = uint4(group, uint(lane) | uint(simdgroup) << 8 | uint(width) << 16 | uint(n_simdgroups) << 24);
  place.index = uint4(in_group, groups.x * 100 + size.x);
}

// One row of 32 results for each function, from one value for each lane.
kernel void simd(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                 ushort lane [[thread_index_in_simdgroup]]) {
  const float x = in[lane];
  device float* row = out + lane;
  row[0 * 32] = simd_sum(x);
  row[1 * 32] = simd_max(x);
  row[2 * 32] = simd_min(x);
  row[3 * 32] = simd_shuffle_xor(x, 5);
  row[4 * 32] = simd_shuffle_down(x, 3);
  row[5 * 32] = simd_shuffle_up(x, 3);
  row[6 * 32] = simd_shuffle(x, ushort(31 - lane));
  row[7 * 32] = simd_broadcast(x, 7);
  row[8 * 32] = simd_broadcast_first(x);
  row[9 * 32] = simd_prefix_exclusive_sum(x);
  row[10 * 32] = simd_prefix_inclusive_sum(x);
  row[11 * 32] = float(simd_or(1u << lane) == 0xffffffffu);
  row[12 * 32] = float(simd_any(lane == 3)) + 2 * float(simd_all(lane < 31)) + 4 * float(simd_is_first());
}

// Conversions keep values, as_type keeps bits; function constants.
template <typename T, typename T4>
kernel void convert(device const T4* in [[buffer(0)]], device float4* out [[buffer(1)]],
                    uint i [[thread_position_in_grid]]) {
  const T4 x = in[i];
  const float4 value = (float4)x;
  const uint4 bits = as_type<uint4>(value);
  const T4 back = T4(value);
  out[4 * i] = value;
  out[4 * i + 1] = as_type<float4>(bits);
  out[4 * i + 2] = float4(T(back.x), back.yz, 1) * float(kScale);
  out[4 * i + 3] = kNegate ? -float4(T4(back.w)) : float4(back.wzyx);
}
typedef decltype(convert<half, half4>) convert_t;
template [[host_name("convert_half")]] kernel convert_t convert<half, half4>;
template [[host_name("convert_uchar")]] kernel decltype(convert<uchar, uchar4>) convert<uchar, uchar4>;
template [[host_name("convert_int")]] kernel void convert<int, int4>(device const int4*, device float4*, uint);

// A histogram by atomics: in threadgroup memory, then in device memory.
kernel void histogram(device const uint* in [[buffer(0)]], device atomic_uint* out [[buffer(1)]],
                      device atomic_float* sum [[buffer(2)]], uint i [[thread_position_in_grid]],
                      uint t [[thread_index_in_threadgroup]]) {
  threadgroup atomic_uint counts[16];
  if (t < 16) atomic_store_explicit(&counts[t], 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&counts[in[i] % 16], 1u, memory_order_relaxed);
  atomic_fetch_add_explicit(sum, 0.5f, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 16) atomic_fetch_add_explicit(&out[t], atomic_load_explicit(&counts[t], memory_order_relaxed), memory_order_relaxed);
  if (t == 0) atomic_fetch_max_explicit(&out[16], in[i], memory_order_relaxed);
}

// dispatchThreads: threads outside of the grid do not run.
[[max_total_threads_per_threadgroup(64)]] kernel void count(device uint* out [[buffer(0)]], uint i [[thread_position_in_grid]],
                                                            uint n [[threads_per_grid]]) {
  out[i] = n;
}

// A value that goes round the threadgroup, n times.
kernel void round_trip(device uint* out [[buffer(0)]], constant uint& n [[buffer(1)]], threadgroup uint* ring [[threadgroup(0)]],
                       uint t [[thread_index_in_threadgroup]], uint size [[threads_per_threadgroup]]) {
  uint x = t;
  for (uint i = 0; i < n; i++) {
    ring[t] = x;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    x = ring[(t + 1) % size];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  out[t] = x;
}
