// The CPU's kernels as a table of functions: one source (kernels_body.h) compiled once per instruction set, and the plain
// reference (kernels_reference.cpp) behind the same table.
//
// Rows of activations are tokens. "Rows" of a weight matrix are its outputs. All strides and widths are in values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace rwkvnative::cpu {

// 256 activations as int8, x = d * q with one scale d per 32 values (|q| <= 127), and the sums that offset codes need.
// A row whose length is not a multiple of 256 is padded with zeros. Where one of 32 values is not finite, d is NaN, and q
// any byte.
struct alignas(64) Int8Block {
  int8_t q[256];
  float d_sum32[16];  // d of 32 values (8), then -d * sum(q) of 32 values (8)
  float d16[16];      // d, once per 16 values
  float sum16[16];    // -d * sum(q) of 16 values
};
inline constexpr uint32_t kInt8BlockValues = 256;
// 32 activations that are all smaller become zeros: 127 divided by the largest would overflow.
inline constexpr float kVanishing = 1e-30f;
constexpr uint32_t int8_blocks(uint32_t n) { return (n + kInt8BlockValues - 1) / kInt8BlockValues; }

// A program multiplies rows one after another with at most so many tokens, see Kernels::tile_tokens_int8.
inline constexpr uint32_t kMostDotTokens = 7;
// Rows of a weight matrix that a matrix-matrix tile interleaves.
inline constexpr uint32_t kTileRows = 16;

struct MixArgs {
  const float* x;         // [width], the row
  const float* previous;  // [width], h of the token before
  float mean, scale;      // of LayerNorm: h = (x - mean) * scale * weight + bias
  const float* norm_weight;
  const float* norm_bias;
  const float* lerp;     // [n_out][lerp_stride]
  uint32_t lerp_stride;
  uint32_t begin, end;   // columns, multiples of 16
  float* h;              // [width], null: not wanted
  float* const* out;     // [n_out][width]
  uint32_t n_out;
};

// One head of the RWKV-7 time mix over consecutive tokens. Pointers are to the head's first channel; `stride` leads from
// token to token; the state is [key][value].
struct Wkv7Args {
  uint32_t head_size, tokens, stride;
  const float *r, *k, *v;
  const float *w_lora, *a_lora, *v_lora, *g_lora;  // second LoRA matrices' outputs; v_lora null in layer 0
  const float *w0, *a0, *v0, *k_k, *k_a, *r_k, *norm_weight, *norm_bias;
  float norm_epsilon;
  float* v_first;  // written where v_lora is null, else read
  const float* state_in;
  float* state_out;  // may be state_in
  float* y;
};

struct Kernels {
  const char* name;

  // x[n] -> int8_blocks(n) blocks.
  void (*quantize)(const float* x, uint32_t n, Int8Block* out);
  // out[t * out_stride + i] = row i of the matrix . token t, i < rows, t < tokens, as int8. A row is decoded once for some
  // tokens at a time. Token t's blocks are at x + t * int8_blocks(n).
  void (*dot_int8)(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const Int8Block* x,
                   uint32_t tokens, float* out, size_t out_stride);
  // The same with float32 activations, any type. `scratch`: n values.
  void (*dot_f32)(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const float* x,
                  size_t x_stride, uint32_t tokens, float* out, size_t out_stride, float* scratch);

  // From how many tokens on a tile (below) takes less time than rows one after another, with int8 activations and with
  // float32 ones; at most kMostDotTokens + 1.
  uint32_t tile_tokens_int8, tile_tokens_f32;
  // kTileRows rows of a matrix, decoded and interleaved once for many tokens. `rows` may be less: the rest is zero.
  size_t (*tile_int8_bytes)(DType type, uint32_t n);
  void (*pack_tile_int8)(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, std::byte* tile);
  // out[t * out_stride + i] for i < kTileRows, t < tokens. Token t's blocks are at x + t * int8_blocks(n). `ahead` is what
  // the next tile will be packed from (may be empty): it is brought into the cache on the way.
  void (*multiply_tile_int8)(DType type, const std::byte* tile, uint32_t n, const Int8Block* x, uint32_t tokens, float* out,
                             size_t out_stride, std::span<const std::byte> ahead);
  // tile: n * kTileRows floats.
  void (*pack_tile_f32)(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, float* tile);
  void (*multiply_tile_f32)(const float* tile, uint32_t n, const float* x, size_t x_stride, uint32_t tokens, float* out,
                            size_t out_stride);

  void (*norm_statistics)(const float* x, uint32_t n, float epsilon, float* mean, float* scale);
  // out = (x - mean) * scale * weight + bias
  void (*normalize)(const float* x, uint32_t n, float mean, float scale, const float* weight, const float* bias, float* out);
  void (*mix)(const MixArgs& args);
  void (*tanh)(float* x, uint32_t n);
  void (*sigmoid)(float* x, uint32_t n);
  void (*relu_squared)(float* x, uint32_t n);
  void (*wkv7)(const Wkv7Args& args);
};

// The plain one: every op as its formula, in scalar code.
const Kernels& reference_kernels();

}  // namespace rwkvnative::cpu
