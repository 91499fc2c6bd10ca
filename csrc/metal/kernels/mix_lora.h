// For one token: the first LoRA matrices on their mixed inputs, hidden = activation(W (h + (h_prev - h) * lerp)) with
// h = LayerNorm(x), at the same time as shift_mix makes the mixes that other matrices read.
//
// in: x. out: the hidden activations. weights: MatrixPart::weights. vectors: the norm's weight and bias, lerp [mixes][kWidth].
// state_in: the h of the previous token; all threadgroups read it, so shift_mix writes the new one beside it.
// A threadgroup makes the mixed row in its own memory, then each simdgroup takes one row of one matrix. kWidth floats there.
#pragma once

#include "floats.h"
#include "state_place.h"

template <class Type>
kernel void mix_lora(constant MixLoraArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                     device const SequenceInfo* sequences [[buffer(BUFFER_SEQUENCES)]],
                     device const float* in [[buffer(BUFFER_IN)]],
                     device float* out [[buffer(BUFFER_OUT)]],
                     device const uchar* weights [[buffer(BUFFER_WEIGHTS)]],
                     device const float* state_in [[buffer(BUFFER_STATE_IN)]],
                     device const float4* norm_weight [[buffer(BUFFER_VECTOR_0)]],
                     device const float4* norm_bias [[buffer(BUFFER_VECTOR_1)]],
                     device const float* lerp [[buffer(BUFFER_VECTOR_2)]],
                     threadgroup float4* mixed [[threadgroup(0)]],
                     uint group [[threadgroup_position_in_grid]],
                     uint index [[thread_index_in_threadgroup]],
                     uint lane [[thread_index_in_simdgroup]],
                     uint simdgroup [[simdgroup_index_in_threadgroup]],
                     uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 shared[kMaxSimdgroups];
  const Thread thread_at = {index, lane, simdgroup, simdgroups};
  constant MatrixPart& part = arguments.parts[part_of(arguments.parts, arguments.n_parts, group)];
  device const SequenceInfo& info = sequences[0];
  const bool fresh = is_fresh(info);
  device const float4* x = (device const float4*)(in + arguments.x);
  device const float4* lerps = (device const float4*)(lerp + part.lerp);
  const float2 statistics = row_statistics(in + arguments.x, shared, thread_at);
  for (uint quad = index; quad < kWidth / 4; quad += thread_at.count()) {
    float4 previous = float4(0.0f);
    if (!fresh) previous = ((device const float4*)state_in_at(state_in, arguments.state, info))[quad];
    const float4 h = normed(x[quad], statistics, norm_weight[quad], norm_bias[quad]);
    mixed[quad] = h + (previous - h) * lerps[quad];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const uint row = (group - part.first_group) * simdgroups + simdgroup;
  device const uchar* weight = weights + part.weights + u64(min(row, part.rows - 1)) * arguments.row_bytes;
  float sum = 0.0f;
  for (uint item = lane; item < kItems; item += kSimdWidth) {
    const Octet octet = Type::decode(weight, item);
    sum += dot(octet.low, mixed[2 * item]) + dot(octet.high, mixed[2 * item + 1]);
  }
  sum = simd_sum(sum);
  if (lane == 0 && row < part.rows) finish_value(out + part.out + row, sum, part.activation);
}
