// The layout of weights on the device. A matrix row is a record of planes, each aligned to its element, so that a thread's
// loads are whole words and neighbouring threads read neighbouring vectors; the record is padded to 16 bytes. Bits are
// moved, not decoded: a row takes the bytes it takes in the file, and fewer than 16 more; Q4_K and Q5_K, whose 6-bit scales
// become bytes, take 3 % more.
//
// Quantized rows: a *unit* is 32 consecutive values. The planes of each type are listed in kernels/decode_<type>.wgsl.
//   nibble plane, 16 B a unit: byte i holds value i in its low and value i + 16 in its high half (as in Q4_0)
//   two-bit plane, 8 B a unit: bits 2p, 2p + 1 of byte b of word w are value 16 w + 4 p + b
//   one-bit plane, 4 B a unit: bit 8 b + q is value 4 q + b
// Float rows: ne0 values, padded with zeros to a multiple of 8.
//
// Rows lie one behind the other, or `abreast` of them side by side: 16 bytes of each in turn, so that threads which take
// neighbouring rows read neighbouring bytes. All of a matrix's rows abreast is the matrix transposed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace rwkvnative {

// Bytes of a packed row of ne0 values, a multiple of 16.
size_t packed_row_bytes(DType type, uint32_t ne0);

// Packs rows of ne0 values (a multiple of the type's block) from the file's layout.
void pack_rows(DType type, uint32_t ne0, const std::byte* in, size_t in_row_bytes, uint64_t rows, std::byte* out);

// How many of a matrix's rows lie side by side where `layout` of them are wanted: all, where that does not divide them.
inline uint32_t abreast(uint32_t layout, uint32_t rows) { return layout != 0 && rows % layout == 0 ? layout : rows; }

// The same for `rows` rows from row `first` on of a matrix that begins at `out`: piece p (16 bytes) of row r is piece
// ((r / abreast) * row_pieces + p) * abreast + r % abreast.
void pack_rows_abreast(DType type, uint32_t ne0, const std::byte* in, size_t in_row_bytes, uint64_t first, uint64_t rows,
                       uint32_t abreast, std::byte* out);

}  // namespace rwkvnative
