// Every CPU kernel as its formula, in scalar code: what the fast ones are tested against, and what a processor without any
// of the known instruction sets runs. Quantized weights are dequantized by the type's reference and multiplied in float.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/kernels.h"

namespace rwkvnative::cpu {
namespace {

float sigmoid_of(float x) { return 1.0f / (1.0f + std::exp(-x)); }

void quantize(const float* x, uint32_t n, Int8Block* out) {
  for (uint32_t block = 0; block < int8_blocks(n); ++block, ++out) {
    *out = {};
    for (uint32_t g = 0; g < 8; ++g) {
      const uint32_t begin = block * kInt8BlockValues + g * 32, end = std::min(begin + 32, n);
      float largest = 0;
      bool finite = true;
      for (uint32_t i = begin; i < end; ++i) {
        largest = std::max(largest, std::fabs(x[i]));
        finite = finite && std::isfinite(x[i]);
      }
      const bool vanishes = largest < kVanishing || !finite;
      const float d = !finite ? std::numeric_limits<float>::quiet_NaN() : vanishes ? 0.0f : largest / 127.0f;
      int32_t sums[2] = {0, 0};
      for (uint32_t i = begin; i < end; ++i) {
        const int32_t q = vanishes ? 0 : static_cast<int32_t>(std::lrint(x[i] * (127.0f / largest)));
        out->q[i - block * kInt8BlockValues] = static_cast<int8_t>(q);
        sums[(i - begin) / 16] += q;
      }
      out->d_sum32[g] = d;
      out->d_sum32[8 + g] = -d * static_cast<float>(sums[0] + sums[1]);
      for (uint32_t half = 0; half < 2; ++half) {
        out->d16[2 * g + half] = d;
        out->sum16[2 * g + half] = -d * static_cast<float>(sums[half]);
      }
    }
  }
}

float dot(const float* w, const float* x, uint32_t n) {
  double total = 0;
  for (uint32_t i = 0; i < n; ++i) total += double{w[i]} * x[i];
  return static_cast<float>(total);
}

void dot_f32(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const float* x, size_t x_stride,
             uint32_t tokens, float* out, size_t out_stride, float* scratch) {
  for (uint32_t i = 0; i < rows; ++i) {
    traits(type).dequantize(weights + i * row_bytes, scratch, n);
    for (uint32_t t = 0; t < tokens; ++t) out[t * out_stride + i] = dot(scratch, x + t * x_stride, n);
  }
}

std::vector<float> activations(const Int8Block* x, uint32_t n) {
  std::vector<float> values(n);
  for (uint32_t i = 0; i < n; ++i) {
    const Int8Block& block = x[i / kInt8BlockValues];
    values[i] = block.d16[i % kInt8BlockValues / 16] * static_cast<float>(block.q[i % kInt8BlockValues]);
  }
  return values;
}

void dot_int8(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, const Int8Block* x,
              uint32_t tokens, float* out, size_t out_stride) {
  std::vector<float> scratch(n);
  for (uint32_t t = 0; t < tokens; ++t)
    dot_f32(type, weights, row_bytes, n, rows, activations(x + size_t{t} * int8_blocks(n), n).data(), 0, 1, out + t * out_stride,
            0, scratch.data());
}

// The reference's tiles are plain float rows.
size_t tile_int8_bytes(DType, uint32_t n) { return size_t{n} * kTileRows * sizeof(float); }

void pack_tile_f32(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, float* tile) {
  std::fill(tile, tile + size_t{n} * kTileRows, 0.0f);
  for (uint32_t i = 0; i < rows; ++i) traits(type).dequantize(weights + i * row_bytes, tile + size_t{i} * n, n);
}

void multiply_tile_f32(const float* tile, uint32_t n, const float* x, size_t x_stride, uint32_t tokens, float* out,
                       size_t out_stride) {
  for (uint32_t t = 0; t < tokens; ++t)
    for (uint32_t i = 0; i < kTileRows; ++i) out[t * out_stride + i] = dot(tile + size_t{i} * n, x + t * x_stride, n);
}

void pack_tile_int8(DType type, const std::byte* weights, size_t row_bytes, uint32_t n, uint32_t rows, std::byte* tile) {
  pack_tile_f32(type, weights, row_bytes, n, rows, reinterpret_cast<float*>(tile));
}

void multiply_tile_int8(DType, const std::byte* tile, uint32_t n, const Int8Block* x, uint32_t tokens, float* out,
                        size_t out_stride, std::span<const std::byte>) {
  for (uint32_t t = 0; t < tokens; ++t)
    multiply_tile_f32(reinterpret_cast<const float*>(tile), n, activations(x + size_t{t} * int8_blocks(n), n).data(), 0, 1,
                      out + t * out_stride, out_stride);
}

void norm_statistics(const float* x, uint32_t n, float epsilon, float* mean, float* scale) {
  double total = 0, squares = 0;
  for (uint32_t i = 0; i < n; ++i) total += x[i];
  const double m = total / n;
  for (uint32_t i = 0; i < n; ++i) squares += (x[i] - m) * (x[i] - m);
  *mean = static_cast<float>(m);
  *scale = static_cast<float>(1.0 / std::sqrt(squares / n + epsilon));
}

void normalize(const float* x, uint32_t n, float mean, float scale, const float* weight, const float* bias, float* out) {
  for (uint32_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

void mix(const MixArgs& a) {
  for (uint32_t i = a.begin; i < a.end; ++i) {
    const float h = (a.x[i] - a.mean) * a.scale * a.norm_weight[i] + a.norm_bias[i];
    const float step = a.previous[i] - h;
    if (a.h) a.h[i] = h;
    for (uint32_t z = 0; z < a.n_out; ++z) a.out[z][i] = h + step * a.lerp[size_t{z} * a.lerp_stride + i];
  }
}

void tanh_of(float* x, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) x[i] = std::tanh(x[i]);
}
void sigmoid(float* x, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) x[i] = sigmoid_of(x[i]);
}
void relu_squared(float* x, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) x[i] = x[i] < 0 ? 0 : x[i] * x[i];
}

void wkv7(const Wkv7Args& a) {
  const uint32_t N = a.head_size;
  std::vector<float> w(N), kk(N), rate(N), k(N), v(N), y(N), g(N);
  if (a.state_out != a.state_in) std::memcpy(a.state_out, a.state_in, size_t{N} * N * sizeof(float));
  float* S = a.state_out;  // [key][value]
  for (uint32_t t = 0; t < a.tokens; ++t) {
    const size_t at = size_t{t} * a.stride;
    const float* r = a.r + at;
    float length = 0, bonus = 0;
    for (uint32_t i = 0; i < N; ++i) {
      w[i] = std::exp(-std::exp(-0.5f) * sigmoid_of(a.w0[i] + a.w_lora[at + i]));
      rate[i] = sigmoid_of(a.a0[i] + a.a_lora[at + i]);
      kk[i] = a.k[at + i] * a.k_k[i];
      length += kk[i] * kk[i];
      k[i] = a.k[at + i] * (1 + (rate[i] - 1) * a.k_a[i]);
      bonus += r[i] * k[i] * a.r_k[i];
      v[i] = a.v[at + i];
      if (a.v_lora)
        v[i] += (a.v_first[at + i] - v[i]) * sigmoid_of(a.v0[i] + a.v_lora[at + i]);
      else
        a.v_first[at + i] = v[i];
    }
    for (uint32_t i = 0; i < N; ++i) kk[i] /= std::max(std::sqrt(length), 1e-12f);

    for (uint32_t i = 0; i < N; ++i) {
      float sa = 0;
      for (uint32_t j = 0; j < N; ++j) sa -= S[j * N + i] * kk[j];
      y[i] = 0;
      for (uint32_t j = 0; j < N; ++j) {
        float& s = S[j * N + i];
        s = s * w[j] + sa * kk[j] * rate[j] + v[i] * k[j];
        y[i] += s * r[j];
      }
    }

    float mean, scale;
    norm_statistics(y.data(), N, a.norm_epsilon, &mean, &scale);
    normalize(y.data(), N, mean, scale, a.norm_weight, a.norm_bias, y.data());
    for (uint32_t i = 0; i < N; ++i) a.y[at + i] = (y[i] + bonus * v[i]) * a.g_lora[at + i];
  }
}

constexpr Kernels kReference = {
    .name = "reference",
    .quantize = quantize,
    .dot_int8 = dot_int8,
    .dot_f32 = dot_f32,
    .tile_tokens_int8 = kMostDotTokens,
    .tile_tokens_f32 = kMostDotTokens,
    .tile_int8_bytes = tile_int8_bytes,
    .pack_tile_int8 = pack_tile_int8,
    .multiply_tile_int8 = multiply_tile_int8,
    .pack_tile_f32 = pack_tile_f32,
    .multiply_tile_f32 = multiply_tile_f32,
    .norm_statistics = norm_statistics,
    .normalize = normalize,
    .mix = mix,
    .tanh = tanh_of,
    .sigmoid = sigmoid,
    .relu_squared = relu_squared,
    .wkv7 = wkv7,
};

}  // namespace

const Kernels& reference_kernels() { return kReference; }

}  // namespace rwkvnative::cpu
