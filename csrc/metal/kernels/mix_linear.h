// For one token: matrices on their mixed inputs, out = activation(W (h + (h_prev - h) * lerp)) with h = LayerNorm(x). For the
// first LoRA matrices beside shift_mix, which makes the mixes that other matrices read; or for all of them instead of it.
//
// in: x. out: of the matrices. weights: MatrixPart::weights. vectors: the norm's weight and bias, lerp [mixes][kWidth].
// state_in: the h of the previous token; all threadgroups read it, so the new one is written beside it, by the first
// threadgroup where MixLinearArguments::keeps_state says so.
// A threadgroup makes the mixed row in its own memory (kWidth floats, or scaled_halves with kHalf), then takes rows of one
// matrix as in matvec.h, kPasses times: the more, the less often the row is made.
#pragma once

#include "matvec.h"
#include "state_place.h"

// Activations as Matrix::accumulate reads them.
struct ThreadgroupRow {
  threadgroup const float4* quads;
  float4 load(uint at) const {
    if (kHalf != 0) return float4(((threadgroup const half4*)quads)[at / 4]);
    return quads[at / 4];
  }
};

template <class Matrix, uint kRows>
kernel void mix_linear(constant MixLinearArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                       device const SequenceInfo* sequences [[buffer(BUFFER_SEQUENCES)]],
                       device const float* in [[buffer(BUFFER_IN)]],
                       device float* out [[buffer(BUFFER_OUT)]],
                       device const uchar* weights [[buffer(BUFFER_WEIGHTS)]],
                       device const float* state_in [[buffer(BUFFER_STATE_IN)]],
                       device float* state_out [[buffer(BUFFER_STATE_OUT)]],
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
  const bool fresh = is_fresh(info), keeps_state = arguments.keeps_state != 0 && group == 0;
  device const float4* x = (device const float4*)(in + arguments.x);
  device const float4* lerps = (device const float4*)(lerp + part.lerp);
  const float2 statistics = row_statistics(in + arguments.x, shared, thread_at);
  for (uint quad = index; quad < kWidth / 4; quad += thread_at.count()) {
    float4 previous = float4(0.0f);
    if (!fresh) previous = ((device const float4*)state_in_at(state_in, arguments.state, info))[quad];
    const float4 h = normed(x[quad], statistics, norm_weight[quad], norm_bias[quad]);
    const float4 mix = h + (previous - h) * lerps[quad];
    if (kHalf != 0) {
      ((threadgroup half4*)mixed)[quad] = scaled_halves(mix, part.scale);
    } else {
      mixed[quad] = mix;
    }
    if (keeps_state) ((device float4*)state_out_at(state_out, arguments.state, info))[quad] = h;
  }
  // Items are whole; the row may end within its last one.
  for (uint quad = kWidth / 4 + index; quad < (kWidth + 7) / 8 * 2; quad += thread_at.count()) mixed[quad] = float4(0.0f);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const ThreadgroupRow row = {mixed};
  const uint groups = kSimdWidth / kLanes;
  const uint rows_of_pass = simdgroups * groups * kRows;
  uint first = (group - part.first_group) * kPasses * rows_of_pass + (simdgroup * groups + lane / kLanes) * kRows;
  for (uint pass = 0; pass < kPasses; ++pass, first += rows_of_pass) {
    device const uchar* rows[kRows];
    for (uint r = 0; r < kRows; ++r) rows[r] = weights + part.weights + u64(min(first + r, part.rows - 1)) * arguments.row_bytes;
    float sums[kRows];
    for (uint r = 0; r < kRows; ++r) sums[r] = 0.0f;
    for (uint item = lane % kLanes; item < kItems; item += kLanes) Matrix::template accumulate<kRows, 1>(rows, &row, item, sums);
    for (uint r = 0; r < kRows; ++r) {
      const float sum = unscaled(lanes_sum(sums[r]), part);
      if (lane % kLanes == 0 && first + r < part.rows) finish_value(out + part.out + first + r, sum, part.activation);
    }
  }
}
