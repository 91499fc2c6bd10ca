// What all kernels share: sums over a threadgroup, a row's norm, and what a matrix does with its sums.
#pragma once

#include <metal_stdlib>

#include "arguments.h"
#include "constants.h"

using namespace metal;

constant constexpr uint kSimdWidth = 32;
constant constexpr uint kMaxSimdgroups = 32;  // of a threadgroup

// Where a thread is in its threadgroup.
struct Thread {
  uint index, lane, simdgroup, simdgroups;
  uint count() const { return simdgroups * kSimdWidth; }  // threads of the threadgroup: always whole simdgroups
};

// The sum of every thread's `value`, for every thread. `shared` has room for kMaxSimdgroups and may be used again at once.
inline float2 threadgroup_sum(float2 value, threadgroup float2* shared, Thread thread_at) {
  const float2 part = float2(simd_sum(value.x), simd_sum(value.y));
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_at.lane == 0) shared[thread_at.simdgroup] = part;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float2 sum = float2(0.0f);
  for (uint i = 0; i < thread_at.simdgroups; ++i) sum += shared[i];
  return sum;
}

// ---- layer norm of a row of kWidth floats, a multiple of 4: h = (x - mean) / sqrt(variance + epsilon) * weight + bias

// (mean, 1 / sqrt(variance + epsilon)). Sums of x - x[0] and of its square need one reduction, and lose no digits as sums of
// x and x^2 would where the mean is large.
inline float2 row_statistics(device const float* row, threadgroup float2* shared, Thread thread_at) {
  device const float4* x = (device const float4*)row;
  const float first = row[0];
  float2 sums = float2(0.0f);
  for (uint quad = thread_at.index; quad < kWidth / 4; quad += thread_at.count()) {
    const float4 shifted = x[quad] - first;
    sums += float2(dot(shifted, float4(1.0f)), dot(shifted, shifted));
  }
  sums = threadgroup_sum(sums, shared, thread_at) / float(kWidth);
  const float variance = max(sums.y - sums.x * sums.x, 0.0f);
  return float2(first + sums.x, precise::rsqrt(variance + as_type<float>(kEpsilonBits)));
}

inline float4 normed(float4 x, float2 statistics, float4 weight, float4 bias) {
  return (x - statistics.x) * statistics.y * weight + bias;
}

// ---- core/plan.h's Activation, and out += sum

constant constexpr uint kTanh = 1;
constant constexpr uint kSigmoid = 2;
constant constexpr uint kReluSquared = 3;
constant constexpr uint kAccumulate = 4;

inline float sigmoid(float x) { return 1.0f / (1.0f + precise::exp(-x)); }

inline float activated(float value, uint activation) {
  if (activation == kTanh) return precise::tanh(value);
  if (activation == kSigmoid) return sigmoid(value);
  if (activation == kReluSquared) {
    const float positive = max(value, 0.0f);
    return positive * positive;
  }
  return value;
}

inline void finish_value(device float* out, float sum, uint activation) {
  *out = activation == kAccumulate ? *out + sum : activated(sum, activation);
}

// ---- mixes as halves (kHalf): half the bytes that every row of a matrix asks of caches or threadgroup memory

// The host's scale is a power of two that takes the largest mix that a norm can make to 2^14 ... 2^15 (mix_scales.h),
// for half ends at 65504. Only with an h_prev that no norm made, out of a state that the caller wrote, is
// there more: it saturates.
inline half4 scaled_halves(float4 mix, float scale) {
  return half4(clamp(mix * scale, float4(-65504.0f), float4(65504.0f)));
}

// ---- dispatches over several matrices

// The part that a threadgroup works on.
inline uint part_of(constant MatrixPart* parts, uint n_parts, uint threadgroup_x) {
  uint part = 0;
  while (part + 1 < n_parts && threadgroup_x >= parts[part + 1].first_group) ++part;
  return part;
}
