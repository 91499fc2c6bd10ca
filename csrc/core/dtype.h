// The table of tensor types: everything the engine knows about a type, in one row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace rwkvnative {

/// Tensor types by their ggml id, as a GGUF file stores it.
enum class DType : std::uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ4_NL = 20,
  IQ4_XS = 23,
  BF16 = 30,
};

/// One row of the table. A row of a matrix is a whole number of blocks.
struct DTypeTraits {
  DType type;
  const char* name;            ///< the ggml name, e.g. "Q4_K"
  std::uint32_t block_values;  ///< values per block: 1, 32 or 256
  std::uint32_t block_bytes;

  /// Reference dequantizer. `n_values` is a multiple of block_values; `blocks` is 2-byte aligned (F32: 4); no overlap
  /// with `out`.
  void (*dequantize)(const void* blocks, float* out, std::size_t n_values);

  /// Quantizes one row of finite values (quantize_rows() in quantize.h checks that and runs many rows on threads).
  /// `importance`, null or n_values non-negative weights, weights the squared error of each column.
  void (*quantize)(const float* in, void* blocks, std::size_t n_values, const float* importance);

  /// Bytes of `n_values` values (a multiple of block_values).
  constexpr std::size_t bytes(std::size_t n_values) const { return n_values / block_values * block_bytes; }
};

/// All supported types, by ascending id.
std::span<const DTypeTraits> dtype_table();

/// The row of a ggml type id, or null if the type is not supported.
const DTypeTraits* find_dtype(std::uint32_t ggml_type);

/// The row of a type. Throws InputError naming the id if it is not in the table.
const DTypeTraits& traits(DType type);

}  // namespace rwkvnative
