#include "core/pack.h"

#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/quant_blocks.h"

namespace rwkvnative {
namespace {

// ---- bit planes of one unit; `code(i)` is the number of value i of 32
// -----------------------------------------------------

template <class Code>
void nibble_plane(Code code, uint8_t* out) {
  for (uint32_t i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>((code(i) & 15) | (code(i + 16) & 15) << 4);
}

template <class Code>
void two_bit_plane(Code code, uint8_t* out) {
  for (uint32_t word = 0; word < 2; ++word) {
    for (uint32_t b = 0; b < 4; ++b) {
      uint32_t bits = 0;
      for (uint32_t p = 0; p < 4; ++p) bits |= (code(16 * word + 4 * p + b) & 3u) << (2 * p);
      out[4 * word + b] = static_cast<uint8_t>(bits);
    }
  }
}

template <class Code>
void one_bit_plane(Code code, uint8_t* out) {
  for (uint32_t b = 0; b < 4; ++b) {
    uint32_t bits = 0;
    for (uint32_t q = 0; q < 8; ++q) bits |= (code(4 * q + b) & 1u) << q;
    out[b] = static_cast<uint8_t>(bits);
  }
}

// The fifth bits of Q5_0 and Q5_1: bit i of a little-endian word is value i.
auto fifth_bit(const uint8_t* qh) {
  return [qh](uint32_t i) { return uint32_t{qh[i / 8]} >> (i % 8); };
}

// The planes of a row, one behind the other.
class Planes {
 public:
  Planes(std::byte* row, uint32_t ne0) : next_(reinterpret_cast<uint8_t*>(row)), units_(ne0 / 32) {}
  uint8_t* per_unit(size_t bytes) { return take(bytes * units_); }
  uint8_t* per_block(size_t bytes) { return take(bytes * (units_ / 8)); }

 private:
  uint8_t* take(size_t bytes) {
    uint8_t* plane = next_;
    next_ += bytes;
    return plane;
  }
  uint8_t* next_;
  size_t units_;
};

// ---- one row of each type
// -------------------------------------------------------------------------------------------------

// Q4_0, IQ4_NL: d, then codes that are a nibble plane as they are.
template <class Block>
void pack_nibbles_d(const Block* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* d = planes.per_unit(2);
  for (uint32_t u = 0; u < ne0 / 32; ++u) {
    std::memcpy(codes + 16 * u, blocks[u].qs, 16);
    std::memcpy(d + 2 * u, &blocks[u].d, 2);
  }
}

void pack_q4_1(const block_q4_1* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* dm = planes.per_unit(4);
  for (uint32_t u = 0; u < ne0 / 32; ++u) {
    std::memcpy(codes + 16 * u, blocks[u].qs, 16);
    std::memcpy(dm + 4 * u, &blocks[u].d, 4);
  }
}

// Q5_0 with 2 bytes of scale, Q5_1 with 4.
template <size_t kScaleBytes, class Block>
void pack_q5(const Block* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* bits = planes.per_unit(4);
  uint8_t* scale = planes.per_unit(kScaleBytes);
  for (uint32_t u = 0; u < ne0 / 32; ++u) {
    std::memcpy(codes + 16 * u, blocks[u].qs, 16);
    one_bit_plane(fifth_bit(blocks[u].qh), bits + 4 * u);
    std::memcpy(scale + kScaleBytes * u, &blocks[u].d, kScaleBytes);
  }
}

void pack_q8_0(const block_q8_0* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(32);
  uint8_t* d = planes.per_unit(2);
  for (uint32_t u = 0; u < ne0 / 32; ++u) {
    std::memcpy(codes + 32 * u, blocks[u].qs, 32);
    std::memcpy(d + 2 * u, &blocks[u].d, 2);
  }
}

// The codes of Q4_K and Q5_K: units 2n and 2n + 1 are the low and the high nibbles of qs[32 n ...].
void pack_k_nibbles(const quant_u8* qs, uint8_t* codes) {
  for (uint32_t n = 0; n < 4; ++n, qs += 32, codes += 32) {
    for (uint32_t i = 0; i < 16; ++i) {
      codes[i] = static_cast<uint8_t>((qs[i] & 15) | (qs[i + 16] & 15) << 4);
      codes[16 + i] = static_cast<uint8_t>(qs[i] >> 4 | (qs[i + 16] & 0xf0));
    }
  }
}

// The twelve scale bytes of Q4_K and Q5_K, 6 bits a number (core/quant_blocks.h), as (s, m) bytes of the eight units: the
// one place where bits are spent (4 bytes of 144), for these two formats took half of their decoding to unpack them.
void pack_k_scales(const quant_u8* scales, uint8_t* out) {
  for (uint32_t j = 0; j < 4; ++j) {
    out[2 * j] = scales[j] & 63;
    out[2 * j + 1] = scales[j + 4] & 63;
    out[2 * (j + 4)] = static_cast<uint8_t>((scales[j + 8] & 15) | scales[j] >> 6 << 4);
    out[2 * (j + 4) + 1] = static_cast<uint8_t>(scales[j + 8] >> 4 | scales[j + 4] >> 6 << 4);
  }
}

void pack_q4_k(const block_q4_k* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* d = planes.per_block(4);
  uint8_t* scales = planes.per_unit(2);
  for (uint32_t b = 0; b < ne0 / 256; ++b) {
    pack_k_nibbles(blocks[b].qs, codes + 128 * b);
    std::memcpy(d + 4 * b, &blocks[b].d, 4);
    pack_k_scales(blocks[b].scales, scales + 16 * b);
  }
}

void pack_q5_k(const block_q5_k* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* bits = planes.per_unit(4);
  uint8_t* d = planes.per_block(4);
  uint8_t* scales = planes.per_unit(2);
  for (uint32_t b = 0; b < ne0 / 256; ++b) {
    const block_q5_k& block = blocks[b];
    pack_k_nibbles(block.qs, codes + 128 * b);
    std::memcpy(d + 4 * b, &block.d, 4);
    pack_k_scales(block.scales, scales + 16 * b);
    for (uint32_t j = 0; j < 8; ++j) {
      one_bit_plane([&](uint32_t l) { return uint32_t{block.qh[l]} >> j; }, bits + 4 * (8 * b + j));
    }
  }
}

void pack_q6_k(const block_q6_k* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* bits = planes.per_unit(8);
  uint8_t* scales = planes.per_unit(2);
  uint8_t* d = planes.per_block(2);
  for (uint32_t b = 0; b < ne0 / 256; ++b) {
    const block_q6_k& block = blocks[b];
    for (uint32_t j = 0; j < 8; ++j) {  // unit j: 128 n + 32 k ... with n = j / 4, k = j % 4
      const uint32_t n = j / 4, k = j % 4;
      nibble_plane([&](uint32_t l) { return uint32_t{block.ql[64 * n + 32 * (k % 2) + l]} >> (k / 2 * 4); },
                   codes + 16 * (8 * b + j));
      two_bit_plane([&](uint32_t l) { return uint32_t{block.qh[32 * n + l]} >> (2 * k); }, bits + 8 * (8 * b + j));
    }
    std::memcpy(scales + 16 * b, block.scales, 16);
    std::memcpy(d + 2 * b, &block.d, 2);
  }
}

// Code of unit j, value l, in the two-bit array of Q2_K and Q3_K.
auto k_two_bits(const quant_u8* qs, uint32_t j) {
  return [qs, j](uint32_t l) { return uint32_t{qs[32 * (j / 4) + l]} >> (2 * (j % 4)); };
}

void pack_q2_k(const block_q2_k* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(8);
  uint8_t* scales = planes.per_unit(2);
  uint8_t* d = planes.per_block(4);
  for (uint32_t b = 0; b < ne0 / 256; ++b) {
    for (uint32_t j = 0; j < 8; ++j) two_bit_plane(k_two_bits(blocks[b].qs, j), codes + 8 * (8 * b + j));
    std::memcpy(scales + 16 * b, blocks[b].scales, 16);
    std::memcpy(d + 4 * b, &blocks[b].d, 4);
  }
}

void pack_q3_k(const block_q3_k* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(8);
  uint8_t* bits = planes.per_unit(4);
  uint8_t* scales = planes.per_block(12);
  uint8_t* d = planes.per_block(2);
  for (uint32_t b = 0; b < ne0 / 256; ++b) {
    const block_q3_k& block = blocks[b];
    for (uint32_t j = 0; j < 8; ++j) {
      two_bit_plane(k_two_bits(block.qs, j), codes + 8 * (8 * b + j));
      one_bit_plane([&](uint32_t l) { return uint32_t{block.hmask[l]} >> j; }, bits + 4 * (8 * b + j));
    }
    std::memcpy(scales + 12 * b, block.scales, 12);
    std::memcpy(d + 2 * b, &block.d, 2);
  }
}

void pack_iq4_xs(const block_iq4_xs* blocks, uint32_t ne0, std::byte* row) {
  Planes planes(row, ne0);
  uint8_t* codes = planes.per_unit(16);
  uint8_t* heads = planes.per_block(8);
  for (uint32_t b = 0; b < ne0 / 256; ++b) {
    std::memcpy(codes + 128 * b, blocks[b].qs, 128);
    std::memcpy(heads + 8 * b, &blocks[b], 8);  // d, scales_h, scales_l
  }
}

template <class Block, void (*pack)(const Block*, uint32_t, std::byte*)>
void pack_row(const std::byte* in, uint32_t ne0, std::byte* out) {
  pack(reinterpret_cast<const Block*>(in), ne0, out);
}

using PackRow = void (*)(const std::byte* in, uint32_t ne0, std::byte* out);

// Null for the float types, whose rows are copied.
PackRow packer(DType type) {
  switch (type) {
    case DType::F32:
    case DType::F16:
    case DType::BF16:
      return nullptr;
    case DType::Q4_0:
      return pack_row<block_q4_0, pack_nibbles_d<block_q4_0>>;
    case DType::IQ4_NL:
      return pack_row<block_iq4_nl, pack_nibbles_d<block_iq4_nl>>;
    case DType::Q4_1:
      return pack_row<block_q4_1, pack_q4_1>;
    case DType::Q5_0:
      return pack_row<block_q5_0, pack_q5<2, block_q5_0>>;
    case DType::Q5_1:
      return pack_row<block_q5_1, pack_q5<4, block_q5_1>>;
    case DType::Q8_0:
      return pack_row<block_q8_0, pack_q8_0>;
    case DType::Q2_K:
      return pack_row<block_q2_k, pack_q2_k>;
    case DType::Q3_K:
      return pack_row<block_q3_k, pack_q3_k>;
    case DType::Q4_K:
      return pack_row<block_q4_k, pack_q4_k>;
    case DType::Q5_K:
      return pack_row<block_q5_k, pack_q5_k>;
    case DType::Q6_K:
      return pack_row<block_q6_k, pack_q6_k>;
    case DType::IQ4_XS:
      return pack_row<block_iq4_xs, pack_iq4_xs>;
  }
  throw InputError(message("tensor type ", static_cast<uint32_t>(type), " has no packed layout"));
}

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Bytes of a row that hold something.
size_t used_bytes(DType type, uint32_t ne0) {
  const bool wide_scales = type == DType::Q4_K || type == DType::Q5_K;
  return traits(type).bytes(ne0) + (wide_scales ? ne0 / 256 * 4 : 0);
}

}  // namespace

size_t packed_row_bytes(DType type, uint32_t ne0) {
  const bool is_float = traits(type).block_values == 1;
  return round_up(used_bytes(type, is_float ? static_cast<uint32_t>(round_up(ne0, 8)) : ne0), 16);
}

void pack_rows(DType type, uint32_t ne0, const std::byte* in, size_t in_row_bytes, uint64_t rows, std::byte* out) {
  const PackRow pack = packer(type);
  const size_t row_bytes = packed_row_bytes(type, ne0);
  const size_t used = used_bytes(type, ne0);
  if (pack == nullptr && row_bytes == in_row_bytes) {
    std::memcpy(out, in, rows * row_bytes);
    return;
  }
  for (uint64_t row = 0; row < rows; ++row, in += in_row_bytes, out += row_bytes) {
    if (pack == nullptr) {
      std::memcpy(out, in, used);
    } else {
      pack(in, ne0, out);
    }
    std::memset(out + used, 0, row_bytes - used);
  }
}

void pack_rows_abreast(DType type, uint32_t ne0, const std::byte* in, size_t in_row_bytes, uint64_t first, uint64_t rows,
                       uint32_t abreast, std::byte* out) {
  constexpr size_t kPiece = 16;
  std::vector<std::byte> packed(packed_row_bytes(type, ne0));
  const size_t pieces = packed.size() / kPiece;
  for (uint64_t row = first; row < first + rows; ++row, in += in_row_bytes) {
    pack_rows(type, ne0, in, in_row_bytes, 1, packed.data());
    std::byte* to = out + (row / abreast * abreast * pieces + row % abreast) * kPiece;
    for (size_t p = 0; p < pieces; ++p) std::memcpy(to + p * abreast * kPiece, packed.data() + p * kPiece, kPiece);
  }
}

}  // namespace rwkvnative
