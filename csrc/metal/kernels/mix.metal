// Norms: shift_mix and the head's.
#include "state_place.h"

// h = LayerNorm(x); out_z = h + (h_prev - h) * lerp_z for each mix z; h_prev is the h of the sequence's previous token.
//
// in: x. out: the mixes; with kHalf as scaled_halves, in the first half of each row. vectors: the norm's weight and bias
// [kWidth], lerp [mixes][kWidth]. state: the h of the sequence's last token. Threadgroup x takes a row, y kChunk quads of it
// and the statistics of all of it; thread t makes quad t % kChunk of mix t / kChunk. It recomputes
// the previous row's h; the first row of a sequence takes it from the state, the last one writes the new state.
kernel void shift_mix(constant ShiftMixArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                      device const SequenceInfo* sequences [[buffer(BUFFER_SEQUENCES)]],
                      device const RowInfo* rows [[buffer(BUFFER_ROWS)]],
                      constant StateRange& range [[buffer(BUFFER_RANGE)]],
                      device const float* in [[buffer(BUFFER_IN)]],
                      device float* out [[buffer(BUFFER_OUT)]],
                      device const float* state_in [[buffer(BUFFER_STATE_IN)]],
                      device float* state_out [[buffer(BUFFER_STATE_OUT)]],
                      device const float4* norm_weight [[buffer(BUFFER_VECTOR_0)]],
                      device const float4* norm_bias [[buffer(BUFFER_VECTOR_1)]],
                      device const float* lerp [[buffer(BUFFER_VECTOR_2)]],
                      uint2 group [[threadgroup_position_in_grid]],
                      uint index [[thread_index_in_threadgroup]],
                      uint lane [[thread_index_in_simdgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 shared[kMaxSimdgroups];
  const Thread thread_at = {index, lane, simdgroup, simdgroups};
  const uint row = range.first_row + group.x;
  device const SequenceInfo& info = sequences[rows[row].sequence];
  const bool is_first = row == info.first_row;
  device const float* x = in + arguments.x + u64(row) * arguments.stride;
  device const float* x_previous = is_first ? x : x - arguments.stride;
  const float2 statistics = row_statistics(x, shared, thread_at);
  const float2 previous_statistics = is_first ? statistics : row_statistics(x_previous, shared, thread_at);

  const uint mix = index / kChunk;
  const uint quad = group.y * kChunk + index % kChunk;
  if (mix >= kMixes || quad >= kWidth / 4) return;
  const float4 weight = norm_weight[quad], bias = norm_bias[quad];
  const float4 h = normed(((device const float4*)x)[quad], statistics, weight, bias);
  float4 previous = float4(0.0f);
  if (!is_first) {
    previous = normed(((device const float4*)x_previous)[quad], previous_statistics, weight, bias);
  } else if (!is_fresh(info)) {
    previous = ((device const float4*)state_in_at(state_in, arguments.state, info))[quad];
  }
  constant MixOutput& output = arguments.mixes[mix];
  const float4 step = ((device const float4*)(lerp + output.lerp))[quad];
  const float4 mixed = h + (previous - h) * step;
  device float* to = out + output.out + u64(row) * arguments.stride;
  if (kHalf != 0) {
    ((device half4*)to)[quad] = scaled_halves(mixed, output.scale);
  } else {
    ((device float4*)to)[quad] = mixed;
  }
  if (mix == 0 && row + 1 == info.first_row + info.rows) {
    ((device float4*)state_out_at(state_out, arguments.state, info))[quad] = h;
  }
}

// out = LayerNorm(x) for the rows that the head needs: all of them, or the last of each sequence. One threadgroup a row.
kernel void norm(constant NormArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                 device const SequenceInfo* sequences [[buffer(BUFFER_SEQUENCES)]],
                 device const float* in [[buffer(BUFFER_IN)]],
                 device float* out [[buffer(BUFFER_OUT)]],
                 device const float4* norm_weight [[buffer(BUFFER_VECTOR_0)]],
                 device const float4* norm_bias [[buffer(BUFFER_VECTOR_1)]],
                 uint group [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]],
                 uint lane [[thread_index_in_simdgroup]],
                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                 uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 shared[kMaxSimdgroups];
  const Thread thread_at = {index, lane, simdgroup, simdgroups};
  uint row = group;
  if (arguments.all_rows == 0) row = sequences[group].first_row + sequences[group].rows - 1;
  device const float* x = in + arguments.x + u64(row) * arguments.x_stride;
  device float4* to = (device float4*)(out + arguments.out + u64(group) * arguments.out_stride);
  const float2 statistics = row_statistics(x, shared, thread_at);
  for (uint quad = index; quad < kWidth / 4; quad += thread_at.count()) {
    to[quad] = normed(((device const float4*)x)[quad], statistics, norm_weight[quad], norm_bias[quad]);
  }
}
