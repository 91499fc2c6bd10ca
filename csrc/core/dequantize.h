// Reference dequantizers, one per tensor type. Reached through the table in dtype.h.
#pragma once

#include <cstddef>

namespace rwkvnative {

void dequantize_f32(const void* blocks, float* out, std::size_t n_values);
void dequantize_f16(const void* blocks, float* out, std::size_t n_values);
void dequantize_bf16(const void* blocks, float* out, std::size_t n_values);
void dequantize_q4_0(const void* blocks, float* out, std::size_t n_values);
void dequantize_q4_1(const void* blocks, float* out, std::size_t n_values);
void dequantize_q5_0(const void* blocks, float* out, std::size_t n_values);
void dequantize_q5_1(const void* blocks, float* out, std::size_t n_values);
void dequantize_q8_0(const void* blocks, float* out, std::size_t n_values);
void dequantize_q2_k(const void* blocks, float* out, std::size_t n_values);
void dequantize_q3_k(const void* blocks, float* out, std::size_t n_values);
void dequantize_q4_k(const void* blocks, float* out, std::size_t n_values);
void dequantize_q5_k(const void* blocks, float* out, std::size_t n_values);
void dequantize_q6_k(const void* blocks, float* out, std::size_t n_values);
void dequantize_iq4_nl(const void* blocks, float* out, std::size_t n_values);
void dequantize_iq4_xs(const void* blocks, float* out, std::size_t n_values);

}  // namespace rwkvnative
