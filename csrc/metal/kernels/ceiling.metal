// What the device can do at best (ceilings.mm): memory, a chain of dispatches, arithmetic, 8x8 matrices.
//
// kItems is the number of steps. Sums are written, one number a thread, which is nothing beside the steps: so no compiler
// can leave them out.
#include <metal_simdgroup_matrix>

#include "common.h"

constant constexpr uint kThreads = 256;
constant constexpr uint kChains = 8;  // independent of each other, in one thread

// memory: words that no memory system can shorten, word i a hash of i. One vector a thread and step.
kernel void fill_words(device uint4* memory [[buffer(BUFFER_OUT)]],
                 uint group [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]]) {
  for (uint step = 0; step < kItems; ++step) {
    const uint at = (group * kItems + step) * kThreads + index;
    memory[at] = (uint4(at) * 4u + uint4(0, 1, 2, 3)) * 2654435761u;
  }
}

// Streaming read: a threadgroup reads kItems * kThreads vectors in a row. results: written for a sum that does not come up
// in what fill_words leaves.
kernel void read_words(device const uint4* memory [[buffer(BUFFER_IN)]],
                 device uint4* results [[buffer(BUFFER_OUT)]],
                 uint group [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]]) {
  uint4 sum = uint4(0);
  for (uint step = 0; step < kItems; ++step) sum ^= memory[(group * kItems + step) * kThreads + index];
  if (all(sum == uint4(1, 2, 3, 4))) results[0] = sum;
}

// Next to nothing: a chain of these, each waiting for the one before, costs what a dependent dispatch costs.
kernel void next_of_chain(device uint* results [[buffer(BUFFER_OUT)]], uint index [[thread_index_in_threadgroup]]) {
  if (index == 0) results[0] += 1;
}

// x = x * factor + step, kChains of them, kItems times. results: float32, one a thread.
template <class Vector, class Element>
kernel void multiply_add(device float* results [[buffer(BUFFER_OUT)]],
                         uint group [[threadgroup_position_in_grid]],
                         uint index [[thread_index_in_threadgroup]]) {
  const Vector factor = Vector(Element(0.75f)), step = Vector(Element(0.25f));
  Vector x[kChains];
  for (uint i = 0; i < kChains; ++i) x[i] = Vector(Element(float((index + i) % 64)));
  for (uint n = 0; n < kItems; ++n) {
    for (uint i = 0; i < kChains; ++i) x[i] = fma(x[i], factor, step);
  }
  float4 sum = float4(0.0f);
  for (uint i = 0; i < kChains; ++i) sum += float4(x[i]);
  results[group * kThreads + index] = dot(sum, float4(1.0f));
}
template [[host_name("multiply_add_f32")]] kernel decltype(multiply_add<float4, float>) multiply_add<float4, float>;
template [[host_name("multiply_add_f16")]] kernel decltype(multiply_add<half4, half>) multiply_add<half4, half>;

// Of each simdgroup: kChains sums of 8x8 products of halves, kItems of them, in float32. memory: two left and two right
// matrices. results: kChains matrices.
kernel void matrix_products(device const half* memory [[buffer(BUFFER_IN)]],
                   device float* results [[buffer(BUFFER_OUT)]],
                   uint group [[threadgroup_position_in_grid]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]],
                   uint simdgroups [[simdgroups_per_threadgroup]]) {
  simdgroup_half8x8 left[2], right[2];
  for (uint i = 0; i < 2; ++i) {
    simdgroup_load(left[i], memory + 64 * i, 8);
    simdgroup_load(right[i], memory + 64 * (2 + i), 8);
  }
  simdgroup_float8x8 sums[kChains];
  for (uint i = 0; i < kChains; ++i) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  for (uint n = 0; n < kItems; ++n) {
    for (uint i = 0; i < kChains; ++i) simdgroup_multiply_accumulate(sums[i], left[i % 2], right[i / 2 % 2], sums[i]);
  }
  device float* out = results + (group * simdgroups + simdgroup) * kChains * 64;
  for (uint i = 0; i < kChains; ++i) simdgroup_store(sums[i], out + 64 * i, 8);
}
