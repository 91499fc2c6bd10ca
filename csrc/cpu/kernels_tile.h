// Matrix times many tokens: sixteen rows decoded into a tile. A part of kernels_body.h, its only includer.
#pragma once

namespace {

// ---- matrix times many tokens ------------------------------------------------------------------------------------------
// A tile is 16 rows, for each unit of 256 values: codes [64 quads][16 rows][4], then scales [256 / group][16 rows], then
// minima likewise. Lane l of every register is row l.

template <class Type>
struct TileUnit {
  static constexpr uint32_t kGroups = kInt8BlockValues / Type::kGroup;
  // The unsigned multiply needs signed codes moved to code + 128; the move is a minimum of 128 * scale.
  static constexpr bool kMoved = Type::kSigned && kOffsetSignedTile;
  static constexpr bool kMinimum = Type::kMinimum || kMoved;
  int8_t codes[64 * 64];
  float scales[kGroups][16];
  float minima[kGroups][16];
};

size_t tile_int8_bytes(DType type, uint32_t n) {
  size_t bytes = 0;
  with_type(type, [&](auto tag) { bytes = blocks_of(n) * sizeof(TileUnit<decltype(tag)>); });
  return bytes;
}

template <class Type>
void pack_unit(const typename Type::Block* b, uint32_t row, int8_t (*codes)[256], float (*scales)[16], float (*minima)[16]) {
  using Unit = TileUnit<Type>;
  const B64 moved = set1_byte(Unit::kMoved ? -128 : 0);
  store_bytes64(codes[row], xor_(Type::template codes<0>(b), moved));
  store_bytes64(codes[row] + 64, xor_(Type::template codes<1>(b), moved));
  store_bytes64(codes[row] + 128, xor_(Type::template codes<2>(b), moved));
  store_bytes64(codes[row] + 192, xor_(Type::template codes<3>(b), moved));
  if constexpr (Type::kGroup == 32) {
    store(scales[row], Type::scales(b));
    if (Unit::kMoved)
      for (int i = 0; i < 8; ++i) scales[row][8 + i] = 128.0f * scales[row][i];
  } else {
    F32x16 s, m;
    Type::scales(b, s, m);
    store(scales[row], s);
    store(minima[row], m);
  }
}

// Types whose 16 rows are transposed as they lie, four bytes a row, and unpacked afterwards: less to move, and a scale of all
// 16 rows is one register. pack_rows(unit, first row's block, row_bytes).
template <class Type>
constexpr bool kPacksRows = false;
template <>
constexpr bool kPacksRows<Q4_K> = true;
template <>
constexpr bool kPacksRows<Q6_K> = true;

template <class Block>
RWKVNATIVE_INLINE const Block* block_of_row(const std::byte* first, size_t row_bytes, uint32_t row) {
  return reinterpret_cast<const Block*>(first + row * row_bytes);
}

RWKVNATIVE_INLINE void pack_rows(TileUnit<Q4_K>& unit, const std::byte* first, size_t row_bytes) {
  alignas(64) uint8_t words[16][64];  // [word of 64 bytes][row][4]
  for (int half = 0; half < 2; ++half) {
    transpose16x16(block_of_row<block_q4_k>(first, row_bytes, 0)->qs + 64 * half, static_cast<int>(row_bytes), words);
    for (int w = 0; w < 16; ++w) {
      int8_t* codes = unit.codes + 64 * (16 * (2 * half + w / 8) + w % 8);
      store_bytes64(codes, unpack64<0>(words[w], 15));
      store_bytes64(codes + 64 * 8, unpack64<4>(words[w], 15));
    }
  }
  alignas(64) uint32_t bytes[4][16];
  alignas(32) uint16_t d[16], dmin[16];
  for (uint32_t row = 0; row < 16; ++row) {
    const auto* b = block_of_row<block_q4_k>(first, row_bytes, row);
    uint32_t of_row[4];
    store16(of_row, six_bit_bytes(b));
    for (int i = 0; i < 4; ++i) bytes[i][row] = of_row[i];
    d[row] = b->d;
    dmin[row] = b->dmin;
  }
  const F32x16 scale = load_half(d), minimum = load_half(dmin);
  for (int i = 0; i < 4; ++i) {
    float(*out)[16] = i < 2 ? unit.scales + 4 * i : unit.minima + 4 * (i - 2);
    const F32x16 factor = i < 2 ? scale : minimum;
    store(out[0], mul(factor, unsigned_bytes<0>(bytes[i])));
    store(out[1], mul(factor, unsigned_bytes<1>(bytes[i])));
    store(out[2], mul(factor, unsigned_bytes<2>(bytes[i])));
    store(out[3], mul(factor, unsigned_bytes<3>(bytes[i])));
  }
}

RWKVNATIVE_INLINE void pack_rows(TileUnit<Q6_K>& unit, const std::byte* first, size_t row_bytes) {
  alignas(64) uint8_t low[16][64], high[16][64];
  transpose16x16(block_of_row<block_q6_k>(first, row_bytes, 0)->qh, static_cast<int>(row_bytes), high);
  for (int half = 0; half < 2; ++half) {
    transpose16x16(block_of_row<block_q6_k>(first, row_bytes, 0)->ql + 64 * half, static_cast<int>(row_bytes), low);
    for (int w = 0; w < 8; ++w) {  // words of the first and of the second 32 values share their high bits' word
      const uint8_t* bits = high[8 * half + w];
      int8_t* codes = unit.codes + 64 * (32 * half + w);
      store_bytes64(codes, or_(unpack64<0>(low[w], 15), shift_left<4>(unpack64<0>(bits, 3))));
      store_bytes64(codes + 64 * 8, or_(unpack64<0>(low[w + 8], 15), shift_left<4>(unpack64<2>(bits, 3))));
      store_bytes64(codes + 64 * 16, or_(unpack64<4>(low[w], 15), shift_left<4>(unpack64<4>(bits, 3))));
      store_bytes64(codes + 64 * 24, or_(unpack64<4>(low[w + 8], 15), shift_left<4>(unpack64<6>(bits, 3))));
    }
  }
  alignas(64) uint32_t bytes[4][16];
  alignas(32) uint16_t d[16];
  for (uint32_t row = 0; row < 16; ++row) {
    const auto* b = block_of_row<block_q6_k>(first, row_bytes, row);
    uint32_t of_row[4];
    std::memcpy(of_row, b->scales, 16);
    for (int i = 0; i < 4; ++i) bytes[i][row] = of_row[i];
    d[row] = b->d;
  }
  const F32x16 scale = load_half(d), offset = set1(32.0f);
  for (int i = 0; i < 4; ++i) {
    const F32x16 s[4] = {mul(scale, signed_bytes<0>(bytes[i])), mul(scale, signed_bytes<1>(bytes[i])),
                         mul(scale, signed_bytes<2>(bytes[i])), mul(scale, signed_bytes<3>(bytes[i]))};
    for (int j = 0; j < 4; ++j) {
      store(unit.scales[4 * i + j], s[j]);
      store(unit.minima[4 * i + j], mul(offset, s[j]));
    }
  }
}

template <class Type>
void pack_tile(const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, std::byte* tile) {
  using Unit = TileUnit<Type>;
  auto* units = reinterpret_cast<Unit*>(tile);
  if constexpr (kPacksRows<Type>) {
    if (rows == 16) {
      for (uint32_t u = 0; u < blocks_of(n); ++u) pack_rows(units[u], weights + u * sizeof(typename Type::Block), row_bytes);
      return;
    }
  }
  alignas(64) int8_t codes[16][256];
  alignas(64) float scales[16][16], minima[16][16];
  std::memset(codes, 0, sizeof codes);
  std::memset(scales, 0, sizeof scales);
  std::memset(minima, 0, sizeof minima);
  for (uint32_t u = 0; u < blocks_of(n); ++u) {
    const uint32_t begin = u * kInt8BlockValues, count = n - begin < 256 ? n - begin : 256;
    for (uint32_t row = 0; row < rows; ++row) {
      const std::byte* bytes = weights + row * row_bytes + size_t{u} * Type::kBlocks * sizeof(typename Type::Block);
      for_units<Type>(bytes, count, [&](const typename Type::Block* b, uint32_t) {
        pack_unit<Type>(b, row, codes, scales, minima);
      });
    }
    for (int c = 0; c < 4; ++c) transpose16x16(&codes[0][64 * c], 256, units[u].codes + c * 1024);
    if constexpr (Type::kGroup == 32) {
      alignas(64) float both[16][16];
      transpose16x16(scales, 64, both);
      std::memcpy(units[u].scales, both, sizeof units[u].scales);
      std::memcpy(units[u].minima, both + 8, sizeof units[u].minima);
    } else {
      transpose16x16(scales, 64, units[u].scales);
      transpose16x16(minima, 64, units[u].minima);
    }
  }
}

void pack_tile_int8(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, std::byte* tile) {
  with_type(type, [&](auto tag) { pack_tile<decltype(tag)>(weights, row_bytes, n, rows, tile); });
}

// Memory to bring near, a step at a time: 16 rows side by side are nothing that a hardware prefetcher follows, and all of
// them at once would be waited for.
struct Ahead {
  const std::byte *at, *end;
  size_t step;

  RWKVNATIVE_INLINE void fetch() {
    for (size_t i = 0; i < step && at < end; i += 64, at += 64) prefetch<2>(at);
  }
};

template <class Type, int tokens>
RWKVNATIVE_INLINE void multiply_tokens(const TileUnit<Type>* units, uint32_t n, const Int8Block* x, float* out,
                                       size_t out_stride, Ahead& ahead) {
  using Unit = TileUnit<Type>;
  const uint32_t n_units = blocks_of(n);
  F32x16 total[tokens];
  for (int t = 0; t < tokens; ++t) total[t] = zero();
  for (uint32_t u = 0; u < n_units; ++u) {
    const Unit& unit = units[u];
    ahead.fetch();
    for (uint32_t g = 0; g < Unit::kGroups; ++g) {
      I32x16 products[tokens];
      for (int t = 0; t < tokens; ++t) products[t] = zero_i32();
      for (uint32_t quad = g * Type::kGroup / 4; quad < (g + 1) * Type::kGroup / 4; ++quad) {
        const B64 w = load_bytes(unit.codes + 64 * quad);
        for (int t = 0; t < tokens; ++t) {
          const B64 a = broadcast4(x[t * n_units + u].q + 4 * quad);
          if constexpr (Type::kSigned && !Unit::kMoved) {
            products[t] = dot_signed(products[t], w, a);
          } else {
            products[t] = dot_unsigned(products[t], w, a);
          }
        }
      }
      const F32x16 scale = load(unit.scales[g]);
      for (int t = 0; t < tokens; ++t) {
        const Int8Block& block = x[t * n_units + u];
        const float d = Type::kGroup == 32 ? block.d_sum32[g] : block.d16[g];
        total[t] = fma(to_float(products[t]), mul(scale, set1(d)), total[t]);
      }
      if constexpr (Unit::kMinimum) {
        const F32x16 minimum = load(unit.minima[g]);
        for (int t = 0; t < tokens; ++t) {
          const Int8Block& block = x[t * n_units + u];
          total[t] = fma(minimum, set1(Type::kGroup == 32 ? block.d_sum32[8 + g] : block.sum16[g]), total[t]);
        }
      }
    }
  }
  for (int t = 0; t < tokens; ++t) store(out + t * out_stride, total[t]);
}

void multiply_tile_int8(DType type, const std::byte* tile, uint32_t n, const Int8Block* x, uint32_t tokens, float* out,
                        size_t out_stride, std::span<const std::byte> bytes_ahead) {
  uint32_t runs = 0;
  for_tile_tokens<kTokensAtOnce>(tokens, [&](auto, uint32_t) { ++runs; });
  const size_t lines = (bytes_ahead.size() / 64 + runs * blocks_of(n) - 1) / (runs * blocks_of(n));
  Ahead ahead{bytes_ahead.data(), bytes_ahead.data() + bytes_ahead.size(), 64 * lines};
  with_type(type, [&](auto tag) {
    using Type = decltype(tag);
    const auto* units = reinterpret_cast<const TileUnit<Type>*>(tile);
    const uint32_t n_units = blocks_of(n);
    for_tile_tokens<kTokensAtOnce>(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
      multiply_tokens<Type, decltype(run)::n>(units, n, x + t * n_units, out + t * out_stride, out_stride, ahead);
    });
  });
}

void pack_tile_f32(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, float* tile) {
  constexpr uint32_t kColumns = kInt8BlockValues;  // at a time: they stay in the first cache
  alignas(64) float decoded[kTileRows][kColumns + 16];  // a stride of a power of two would lay all rows into few sets of it
  for (uint32_t begin = 0; begin < n; begin += kColumns) {
    const uint32_t count = n - begin < kColumns ? n - begin : kColumns;
    for (uint32_t row = 0; row < kTileRows; ++row) {
      if (row < rows)
        decode(type, weights + row * row_bytes + row_bytes * begin / n, count, decoded[row]);
      else
        std::memset(decoded[row], 0, count * sizeof(float));
    }
    float* to = tile + size_t{begin} * 16;
    uint32_t i = 0;
    for (; i + 16 <= count; i += 16) transpose16x16(&decoded[0][i], sizeof decoded[0], to + size_t{i} * 16);
    for (; i < count; ++i)
      for (uint32_t row = 0; row < kTileRows; ++row) to[size_t{i} * 16 + row] = decoded[row][i];
  }
}

template <int tokens>
RWKVNATIVE_INLINE void multiply_tokens_f32(const float* tile, uint32_t n, const float* x, size_t x_stride, float* out,
                                           size_t out_stride) {
  F32x16 total[tokens];
  for (int t = 0; t < tokens; ++t) total[t] = zero();
  for (uint32_t i = 0; i < n; ++i) {
    const F32x16 w = load(tile + size_t{i} * 16);
    for (int t = 0; t < tokens; ++t) total[t] = fma(w, set1(x[t * x_stride + i]), total[t]);
  }
  for (int t = 0; t < tokens; ++t) store(out + t * out_stride, total[t]);
}

void multiply_tile_f32(const float* tile, uint32_t n, const float* x, size_t x_stride, uint32_t tokens, float* out,
                       size_t out_stride) {
  for_tile_tokens<kFloatTokensAtOnce>(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
    multiply_tokens_f32<decltype(run)::n>(tile, n, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
  });
}

}  // namespace
