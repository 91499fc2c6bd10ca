// Quantizers: float rows to GGUF blocks.
//
// The per-type functions quantize one row of finite values and are reached through the table in dtype.h;
// quantize_rows() is the checked, multi-threaded entry. Each minimizes the squared error of the dequantized row, column
// i weighted by importance[i] (null: all equal), by searching over scales (and minimums); quantize_search.h describes
// the search. Q2_K also weights large values more (quantize_affine_k.cpp says why).
#pragma once

#include <cstddef>

#include "core/dtype.h"

namespace rwkvnative {

/// Quantizes `n_rows` rows of `n_values` floats into `out` (n_rows * traits(type).bytes(n_values) bytes).
///
/// `importance`: null or n_values weights, shared by all rows. `n_threads`: 0 means one per hardware thread; the result
/// does not depend on it. `first_row`: the number of the first row in messages, for matrices that come in pieces.
/// Throws InputError if n_values is not a multiple of the block (naming both), if a value is not finite or beyond the
/// type's range, or if an importance is not finite or negative (naming its row and column).
void quantize_rows(DType type, const float* in, std::size_t n_rows, std::size_t n_values, void* out,
                   const float* importance = nullptr, unsigned n_threads = 0, std::size_t first_row = 0);

void quantize_f32(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_f16(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_bf16(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q4_0(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q4_1(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q5_0(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q5_1(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q8_0(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q2_k(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q3_k(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q4_k(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q5_k(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_q6_k(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_iq4_nl(const float* in, void* blocks, std::size_t n_values, const float* importance);
void quantize_iq4_xs(const float* in, void* blocks, std::size_t n_values, const float* importance);

}  // namespace rwkvnative
