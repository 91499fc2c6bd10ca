// Matrix times few tokens: rows decoded in registers. A part of kernels_body.h, its only includer.
#pragma once

namespace {

// ---- matrix times few tokens -------------------------------------------------------------------------------------------
// A row at a time, decoded in registers for up to kDotTokens tokens.

// Rows lie one after another, but hardware follows a stream no further than the end of its page: what lies kPrefetchBytes
// after the `bytes` at `weights` is asked for.
template <size_t bytes>
RWKVNATIVE_INLINE void prefetch_ahead(const void* weights) {
  if constexpr (kPrefetchBytes != 0)
    for (size_t i = 0; i < bytes; i += 64) prefetch<1>(static_cast<const std::byte*>(weights) + kPrefetchBytes + i);
}

template <int value>
struct Tokens {
  static constexpr int n = value;
};

// Calls function(Tokens<n>{}, t) for runs of n tokens from t on.
template <class Function>
RWKVNATIVE_INLINE void for_tokens(uint32_t tokens, Function&& function) {
  uint32_t t = 0;
  if constexpr (kDotTokens >= 4)
    for (; t + 4 <= tokens; t += 4) function(Tokens<4>{}, t);
  for (; t + 2 <= tokens; t += 2) function(Tokens<2>{}, t);
  if (t < tokens) function(Tokens<1>{}, t);
}

// The same for tiles: runs of at_once first.
template <int at_once, class Function>
RWKVNATIVE_INLINE void for_tile_tokens(uint32_t tokens, Function&& function) {
  uint32_t t = 0;
  for (; t + at_once <= tokens; t += at_once) function(Tokens<at_once>{}, t);
  const uint32_t done = t;
  for_tokens(tokens - done, [&](auto run, uint32_t rest) RWKVNATIVE_LAMBDA_INLINE { function(run, done + rest); });
}

template <class Type, int c, int tokens>
RWKVNATIVE_INLINE void dot_chunk(const typename Type::Block* b, const Int8Block* x, uint32_t n_units, const Lanes* scales,
                                 F32x16* total) {
  const B64 codes = Type::template codes<c>(b);
  for (int t = 0; t < tokens; ++t) {
    const B64 activations = load_bytes(x[t * n_units].q + 64 * c);
    const I32x16 products = Type::kSigned ? dot_signed(zero_i32(), codes, activations)
                                          : dot_unsigned(zero_i32(), codes, activations);
    const F32x16 scale = Type::kGroup == 32 ? expand8<c>(scales[t]) : expand4<c>(scales[t]);
    total[t] = fma(to_float(products), scale, total[t]);
  }
}

template <class Type, int tokens>
RWKVNATIVE_INLINE void dot_row(const std::byte* row, uint32_t n, const Int8Block* x, float* out, size_t out_stride) {
  const uint32_t n_units = blocks_of(n);
  // Sums side by side: one of them would wait for itself four times a unit.
  constexpr int kChains = tokens == 1 ? 2 : 1;
  F32x16 total[kChains][tokens];
  for (auto& chain : total)
    for (int t = 0; t < tokens; ++t) chain[t] = zero();
  for_units<Type>(row, n, [&](const typename Type::Block* b, uint32_t u) RWKVNATIVE_LAMBDA_INLINE {
    constexpr size_t kUnitBytes = Type::kBlocks * sizeof(*b);
    prefetch_ahead<kUnitBytes>(row + u * kUnitBytes);
    Lanes scales[tokens];
    if constexpr (Type::kGroup == 32) {
      const F32x16 both = Type::scales(b);
      for (int t = 0; t < tokens; ++t) {
        const F32x16 of_token = mul(both, load(x[t * n_units + u].d_sum32));
        if (Type::kMinimum) total[0][t] = add_high_half(total[0][t], of_token);
        scales[t] = lanes(of_token);
      }
    } else {
      F32x16 factors, minima;
      Type::scales(b, factors, minima);
      for (int t = 0; t < tokens; ++t) {
        scales[t] = lanes(mul(factors, load(x[t * n_units + u].d16)));
        total[0][t] = fma(minima, load(x[t * n_units + u].sum16), total[0][t]);
      }
    }
    dot_chunk<Type, 0, tokens>(b, x + u, n_units, scales, total[0]);
    dot_chunk<Type, 1, tokens>(b, x + u, n_units, scales, total[kChains - 1]);
    dot_chunk<Type, 2, tokens>(b, x + u, n_units, scales, total[0]);
    dot_chunk<Type, 3, tokens>(b, x + u, n_units, scales, total[kChains - 1]);
  });
  for (int t = 0; t < tokens; ++t) {
    if constexpr (kChains == 2) total[0][t] = add(total[0][t], total[1][t]);
    out[t * out_stride] = sum(total[0][t]);
  }
}

void dot_int8(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const Int8Block* x,
              uint32_t tokens, float* out, size_t out_stride) {
  const uint32_t n_units = blocks_of(n);
  with_type(type, [&](auto tag) {
    for (uint32_t i = 0; i < rows; ++i)
      for_tokens(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
        dot_row<decltype(tag), decltype(run)::n>(weights + i * row_bytes, n, x + t * n_units, out + t * out_stride + i, out_stride);
      });
  });
}

// load_weights(p): those at p[0..15]. in_place: the row is the matrix's own, and the next one follows.
template <int tokens, bool in_place, class Value, class Load>
RWKVNATIVE_INLINE void dot_floats(const Value* row, uint32_t n, const float* x, size_t x_stride, float* out, size_t out_stride,
                                  Load&& load_weights) {
  constexpr uint32_t kChains = tokens >= 4 ? 2 : 4 / tokens;  // sums side by side: one waits for itself
  F32x16 total[tokens][kChains];
  for (int t = 0; t < tokens; ++t)
    for (uint32_t j = 0; j < kChains; ++j) total[t][j] = zero();
  uint32_t i = 0;
  for (; i + 16 * kChains <= n; i += 16 * kChains) {
    if constexpr (in_place) prefetch_ahead<16 * kChains * sizeof(Value)>(row + i);
    for (uint32_t j = 0; j < kChains; ++j) {
      const F32x16 w = load_weights(row + i + 16 * j);
      for (int t = 0; t < tokens; ++t) total[t][j] = fma(w, load(x + t * x_stride + i + 16 * j), total[t][j]);
    }
  }
  for (; i + 16 <= n; i += 16) {
    const F32x16 w = load_weights(row + i);
    for (int t = 0; t < tokens; ++t) total[t][0] = fma(w, load(x + t * x_stride + i), total[t][0]);
  }
  for (int t = 0; t < tokens; ++t) {
    for (uint32_t j = 1; j < kChains; ++j) total[t][0] = add(total[t][0], total[t][j]);
    out[t * out_stride] = sum(total[t][0]);
  }
}

inline float bfloat_to_f32(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

// Weights of float types as float32; the bytes may be unaligned.
RWKVNATIVE_INLINE void widen(DType type, const std::byte* row, uint32_t n, float* out) {
  if (type == DType::F32) {
    std::memcpy(out, row, n * sizeof(float));
    return;
  }
  const auto* halves = reinterpret_cast<const uint16_t*>(row);
  uint32_t i = 0;
  if (type == DType::F16) {
    for (; i + 16 <= n; i += 16) store(out + i, load_half(halves + i));
    for (; i < n; ++i) out[i] = half_to_f32(halves[i]);
  } else {
    for (; i + 16 <= n; i += 16) store(out + i, load_bfloat(halves + i));
    for (; i < n; ++i) out[i] = bfloat_to_f32(halves[i]);
  }
}

template <class Type>
RWKVNATIVE_INLINE void decode_row(const std::byte* row, uint32_t n, float* out) {
  for_units<Type>(row, n, [&](const typename Type::Block* b, uint32_t u) {
    float s[16], m[16];
    int8_t codes[256];
    if constexpr (Type::kGroup == 32) {
      store(s, Type::scales(b));
      std::memcpy(m, s + 8, 8 * sizeof(float));
    } else {
      F32x16 scales, minima;
      Type::scales(b, scales, minima);
      store(s, scales);
      store(m, minima);
    }
    store_bytes64(codes, Type::template codes<0>(b));
    store_bytes64(codes + 64, Type::template codes<1>(b));
    store_bytes64(codes + 128, Type::template codes<2>(b));
    store_bytes64(codes + 192, Type::template codes<3>(b));
    const uint32_t begin = u * kInt8BlockValues, count = n - begin < 256 ? n - begin : 256;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t group = i / Type::kGroup;
      out[begin + i] = s[group] * static_cast<float>(codes[i]) - (Type::kMinimum ? m[group] : 0.0f);
    }
  });
}

void decode(DType type, const std::byte* row, uint32_t n, float* out) {
  if (type == DType::F32 || type == DType::F16 || type == DType::BF16) return widen(type, row, n, out);
  with_type(type, [&](auto tag) { decode_row<decltype(tag)>(row, n, out); });
}

void dot_f32(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const float* x, size_t x_stride,
             uint32_t tokens, float* out, size_t out_stride, float* scratch) {
  const uint32_t whole = n / 16 * 16;
  for (uint32_t i = 0; i < rows; ++i) {
    const std::byte* row = weights + i * row_bytes;
    const auto* halves = reinterpret_cast<const uint16_t*>(row);
    const auto* floats = reinterpret_cast<const float*>(row);
    const auto each = [&](auto in_place, const auto* values, auto&& load_weights) RWKVNATIVE_LAMBDA_INLINE {
      for_tokens(tokens, [&](auto run, uint32_t t) RWKVNATIVE_LAMBDA_INLINE {
        dot_floats<decltype(run)::n, decltype(in_place)::value>(values, n, x + t * x_stride, x_stride, out + t * out_stride + i,
                                                                out_stride, load_weights);
      });
    };
    if (type == DType::F32) {
      each(std::true_type{}, floats, [](const float* p) RWKVNATIVE_LAMBDA_INLINE { return load(p); });
    } else if (type == DType::F16) {
      each(std::true_type{}, halves, [](const uint16_t* p) RWKVNATIVE_LAMBDA_INLINE { return load_half(p); });
    } else if (type == DType::BF16) {
      each(std::true_type{}, halves, [](const uint16_t* p) RWKVNATIVE_LAMBDA_INLINE { return load_bfloat(p); });
    } else {
      decode(type, row, n, scratch);
      each(std::false_type{}, static_cast<const float*>(scratch), [](const float* p) RWKVNATIVE_LAMBDA_INLINE { return load(p); });
    }
    if (whole < n) {
      float tail[16];
      const size_t value_bytes = type == DType::F32 ? 4 : 2;
      widen(type, row + whole * value_bytes, n - whole, tail);
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t j = whole; j < n; ++j) out[t * out_stride + i] += tail[j - whole] * x[t * x_stride + j];
    }
  }
}

}  // namespace
