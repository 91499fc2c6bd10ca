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
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace rwkvnative {

// Bytes of a packed row of ne0 values, a multiple of 16.
size_t packed_row_bytes(DType type, uint32_t ne0);

// Packs rows of ne0 values (a multiple of the type's block) from the file's layout.
void pack_rows(DType type, uint32_t ne0, const std::byte* in, size_t in_row_bytes, uint64_t rows, std::byte* out);

}  // namespace rwkvnative
