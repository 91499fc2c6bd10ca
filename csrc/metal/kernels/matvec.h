// out = activation(W in) or out += W in, for few rows of activations: one row of W is read once for kTile of them.
//
// weights: rows of LinearArguments::parts, row_bytes from row to row. in: float32 [rows][in_stride], padded with zeros to a
// multiple of 32; with kHalf the first half of each row, as scaled_halves of a multiple of 8 values. Those are mixes of norms,
// which have a bound that the host knows: other activations (squared ReLU, wkv7's) have none and are always floats.
// out: float32 [rows][out_stride].
// Threads: kLanes neighbouring ones share a row, lane l takes its items l, l + kLanes, ...; a simdgroup has 32 / kLanes such
// groups, and each works on kRows rows at once, so that it reads its activations once for all of them. Threadgroup x takes
// rows of one part, y a tile of kTile rows of activations. Codes meet activations as exact halves, products and sums are float32.
#pragma once

#include "common.h"

// The sum over the kLanes threads of a group, for the first of them.
inline float lanes_sum(float value) {
  if (kLanes == 32) return simd_sum(value);
  for (uint step = kLanes / 2; step > 0; step /= 2) value += simd_shuffle_xor(value, ushort(step));
  return value;
}

// What sums over scaled_halves stand for.
inline float unscaled(float sum, constant MatrixPart& part) { return kHalf != 0 ? sum * part.unscale : sum; }

// A row of activations as Matrix::accumulate reads it: four values from `at` on, a multiple of 4.
struct DeviceRow {
  device const float* values;
  float4 load(uint at) const {
    if (kHalf != 0) return float4(((device const half4*)values)[at / 4]);
    return *(device const float4*)(values + at);
  }
};

template <class Matrix, uint kRows, uint kTile>
kernel void matvec(constant LinearArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                   constant Submit& submit [[buffer(BUFFER_SUBMIT)]],
                   device const float* in [[buffer(BUFFER_IN)]],
                   device float* out [[buffer(BUFFER_OUT)]],
                   device const uchar* weights [[buffer(BUFFER_WEIGHTS)]],
                   uint3 group [[threadgroup_position_in_grid]],
                   uint lane [[thread_index_in_simdgroup]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  constant MatrixPart& part = arguments.parts[part_of(arguments.parts, arguments.n_parts, group.x)];
  const uint groups = kSimdWidth / kLanes;
  const uint first = (((group.x - part.first_group) * kSimdgroups + simdgroup) * groups + lane / kLanes) * kRows;
  const uint tile = group.y * kTile;
  const uint in_rows = arguments.of_head != 0 ? submit.head_rows : submit.rows;

  device const uchar* rows[kRows];
  for (uint r = 0; r < kRows; ++r) rows[r] = weights + part.weights + u64(min(first + r, part.rows - 1)) * arguments.row_bytes;
  DeviceRow x[kTile];
  for (uint t = 0; t < kTile; ++t) x[t].values = in + part.in + u64(min(tile + t, in_rows - 1)) * part.in_stride;

  float sums[kRows * kTile];
  for (uint i = 0; i < kRows * kTile; ++i) sums[i] = 0.0f;
  for (uint item = lane % kLanes; item < kItems; item += kLanes) Matrix::template accumulate<kRows, kTile>(rows, x, item, sums);

  for (uint r = 0; r < kRows; ++r) {
    for (uint t = 0; t < kTile; ++t) {
      const float sum = unscaled(lanes_sum(sums[r * kTile + t]), part);
      if (lane % kLanes == 0 && first + r < part.rows && tile + t < in_rows) {
        finish_value(out + part.out + u64(tile + t) * part.out_stride + first + r, sum, part.activation);
      }
    }
  }
}
