// out = LayerNorm(table[token]) for each row of the submit.
//
// weights: the table. tokens: the last choice of each sequence, for rows that bring no token. vectors: the norm's weight and
// bias [kWidth]. out: float32 [rows][out_stride]. One threadgroup a row; float32 throughout.
#pragma once

#include "common.h"

struct RowWriter {
  device float* row;
  void store(uint at, float4 values) { *(device float4*)(row + at) = values; }
};

template <class Matrix>
kernel void embed(constant EmbedArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                  device const RowInfo* rows [[buffer(BUFFER_ROWS)]],
                  device float* out [[buffer(BUFFER_OUT)]],
                  device const uchar* weights [[buffer(BUFFER_WEIGHTS)]],
                  device const uint* tokens [[buffer(BUFFER_TOKENS)]],
                  device const float4* norm_weight [[buffer(BUFFER_VECTOR_0)]],
                  device const float4* norm_bias [[buffer(BUFFER_VECTOR_1)]],
                  uint group [[threadgroup_position_in_grid]],
                  uint index [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                  uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 shared[kMaxSimdgroups];
  const Thread thread_at = {index, lane, simdgroup, simdgroups};
  const int given = rows[group].token;
  const uint token = given >= 0 ? uint(given) : tokens[rows[group].sequence];
  device float* x = out + arguments.out + u64(group) * arguments.out_stride;
  device const uchar* table_row = weights + arguments.table + u64(token) * arguments.row_bytes;
  RowWriter writer = {x};
  for (uint item = index; item < kItems; item += thread_at.count()) Matrix::store_item(table_row, item, kItems, writer);
  threadgroup_barrier(mem_flags::mem_device);
  const float2 statistics = row_statistics(x, shared, thread_at);
  threadgroup_barrier(mem_flags::mem_device);  // all have read x
  device float4* quads = (device float4*)x;
  for (uint quad = index; quad < kWidth / 4; quad += thread_at.count()) {
    quads[quad] = normed(quads[quad], statistics, norm_weight[quad], norm_bias[quad]);
  }
}
