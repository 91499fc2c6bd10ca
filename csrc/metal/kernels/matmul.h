// out = activation(W in) or out += W in, for many rows of activations: a tile of W is decoded once for kTileRows of them and
// meets them in 8x8 matrices.
//
// Bindings as in matvec.h. Threadgroup x takes kTileOutputs rows of W, y kTileRows rows of activations, 64 values of both at a
// time in threadgroup memory: W as halves (exact for F16 only) or as floats, activations as floats. Of the
// four simdgroups each makes 16 outputs of all rows. Sums are float32.
#pragma once

#include <metal_simdgroup_matrix>

#include "common.h"

constant constexpr uint kTileRows = 32;
constant constexpr uint kTileOutputs = 64;
constant constexpr uint kTileValues = 64;
constant constexpr uint kTileThreads = 128;

// One row of a tile of W, as the Out of Matrix::store_item; `first` is the tile's first value.
struct HalfTile {
  typedef half Element;
  typedef half4 Quad;
  threadgroup half* row;
  uint first;
  void store(uint at, float4 values) { *(threadgroup half4*)(row + (at - first)) = half4(values); }
};

struct FloatTile {
  typedef float Element;
  typedef float4 Quad;
  threadgroup float* row;
  uint first;
  void store(uint at, float4 values) { *(threadgroup float4*)(row + (at - first)) = values; }
};

template <class Matrix, class Tile>
kernel void matmul(constant LinearArguments& arguments [[buffer(BUFFER_ARGUMENTS)]],
                   constant Submit& submit [[buffer(BUFFER_SUBMIT)]],
                   device const float* in [[buffer(BUFFER_IN)]],
                   device float* out [[buffer(BUFFER_OUT)]],
                   device const uchar* weights [[buffer(BUFFER_WEIGHTS)]],
                   uint2 group [[threadgroup_position_in_grid]],
                   uint index [[thread_index_in_threadgroup]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  typedef typename Tile::Element Element;
  threadgroup typename Tile::Quad weight_quads[kTileOutputs * kTileValues / 4];
  threadgroup float4 value_quads[kTileRows * kTileValues / 4];
  threadgroup Element* weight_tile = (threadgroup Element*)weight_quads;
  threadgroup float* value_tile = (threadgroup float*)value_quads;
  constant MatrixPart& part = arguments.parts[part_of(arguments.parts, arguments.n_parts, group.x)];
  const uint first_output = (group.x - part.first_group) * kTileOutputs;
  const uint first_row = group.y * kTileRows;
  const uint in_rows = arguments.of_head != 0 ? submit.head_rows : submit.rows;
  const uint my_output = 16 * simdgroup;

  simdgroup_float8x8 sums[8];
  for (uint i = 0; i < 8; ++i) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

  const uint step_items = kTileValues / Matrix::kItemValues;
  const uint steps = (kItems + step_items - 1) / step_items;
  for (uint step = 0; step < steps; ++step) {
    const uint first_value = step * kTileValues;
    for (uint i = index; i < kTileOutputs * step_items; i += kTileThreads) {
      const uint output = i / step_items, item = step * step_items + i % step_items;
      Tile tile = {weight_tile + output * kTileValues, first_value};
      if (item < kItems) {
        device const uchar* row = weights + part.weights + u64(min(first_output + output, part.rows - 1)) * arguments.row_bytes;
        Matrix::store_item(row, item, kItems, tile);
      } else {
        Matrix::zero_item(item, tile);
      }
    }
    for (uint i = index; i < kTileRows * kTileValues / 4; i += kTileThreads) {
      const uint row = i / (kTileValues / 4), at = first_value + 4 * (i % (kTileValues / 4));
      device const float* x = in + part.in + u64(min(first_row + row, in_rows - 1)) * part.in_stride;
      value_quads[i] = at < part.in_stride ? *(device const float4*)(x + at) : float4(0.0f);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = 0; k < kTileValues; k += 8) {
      simdgroup_matrix<Element, 8, 8> w[2];
      for (uint n = 0; n < 2; ++n) {
        simdgroup_load(w[n], weight_tile + (my_output + 8 * n) * kTileValues + k, kTileValues, ulong2(0, 0), true);
      }
      for (uint m = 0; m < 4; ++m) {
        simdgroup_float8x8 x;
        simdgroup_load(x, value_tile + 8 * m * kTileValues + k, kTileValues);
        for (uint n = 0; n < 2; ++n) simdgroup_multiply_accumulate(sums[2 * m + n], x, w[n], sums[2 * m + n]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  // The activations' tile is as large as the outputs': [kTileRows][kTileOutputs].
  for (uint m = 0; m < 4; ++m) {
    for (uint n = 0; n < 2; ++n) {
      simdgroup_store(sums[2 * m + n], value_tile + 8 * m * kTileOutputs + my_output + 8 * n, kTileOutputs);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = index; i < kTileRows * kTileOutputs; i += kTileThreads) {
    const uint row = first_row + i / kTileOutputs, output = first_output + i % kTileOutputs;
    if (row < in_rows && output < part.rows) {
      finish_value(out + part.out + u64(row) * part.out_stride + output, value_tile[i], part.activation);
    }
  }
}
