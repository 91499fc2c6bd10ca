// Reference dequantizers: each is the formula of its struct in quant_blocks.h, written once and plainly.
//
// Results do not depend on the compiler's use of fused multiply-add: d (11 significant bits) times a sub-scale (at most
// 7) times a code (at most 7) fits the 24 bits of a float exactly, so the only rounding is the final addition of a
// minimum.

#include "core/dequantize.h"

#include <cstdint>
#include <cstring>

#include "core/half.h"
#include "core/quant_blocks.h"

namespace rwkvnative {
namespace {

template <class Block>
const Block* as_blocks(const void* bytes) {
  return static_cast<const Block*>(bytes);
}

/// Code `i` of 32 packed 4-bit codes: low nibbles first, then the high ones.
int nibble_code(const std::uint8_t* qs, int i) { return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4; }

/// Bit `i` of a little-endian 32-bit word.
int fifth_bit(const std::uint8_t* qh, int i) { return qh[i / 8] >> (i % 8) & 1; }

struct ScaleMin {
  int scale;
  int min;
};

/// Sub-block `j` (0..7) of the twelve scale bytes of Q4_K and Q5_K.
ScaleMin unpack_scale_min(const std::uint8_t* scales, int j) {
  if (j < 4) return {scales[j] & 63, scales[j + 4] & 63};
  return {(scales[j + 4] & 15) | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4};
}

}  // namespace

void dequantize_f32(const void* blocks, float* out, std::size_t n_values) {
  if (n_values != 0) std::memcpy(out, blocks, n_values * sizeof(float));
}

void dequantize_f16(const void* blocks, float* out, std::size_t n_values) {
  const auto* halves = as_blocks<std::uint16_t>(blocks);
  for (std::size_t i = 0; i < n_values; ++i) out[i] = half_to_float(halves[i]);
}

void dequantize_bf16(const void* blocks, float* out, std::size_t n_values) {
  const auto* bfloats = as_blocks<std::uint16_t>(blocks);
  for (std::size_t i = 0; i < n_values; ++i) out[i] = bfloat_to_float(bfloats[i]);
}

void dequantize_q4_0(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q4_0>(blocks);
  for (std::size_t start = 0; start < n_values; start += 32, ++block, out += 32) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble_code(block->qs, i) - 8);
  }
}

void dequantize_q4_1(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q4_1>(blocks);
  for (std::size_t start = 0; start < n_values; start += 32, ++block, out += 32) {
    const float d = half_to_float(block->d), m = half_to_float(block->m);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble_code(block->qs, i)) + m;
  }
}

void dequantize_q5_0(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q5_0>(blocks);
  for (std::size_t start = 0; start < n_values; start += 32, ++block, out += 32) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 32; ++i) {
      const int q = nibble_code(block->qs, i) | fifth_bit(block->qh, i) << 4;
      out[i] = d * static_cast<float>(q - 16);
    }
  }
}

void dequantize_q5_1(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q5_1>(blocks);
  for (std::size_t start = 0; start < n_values; start += 32, ++block, out += 32) {
    const float d = half_to_float(block->d), m = half_to_float(block->m);
    for (int i = 0; i < 32; ++i) {
      const int q = nibble_code(block->qs, i) | fifth_bit(block->qh, i) << 4;
      out[i] = d * static_cast<float>(q) + m;
    }
  }
}

void dequantize_q8_0(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q8_0>(blocks);
  for (std::size_t start = 0; start < n_values; start += 32, ++block, out += 32) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(block->qs[i]);
  }
}

void dequantize_iq4_nl(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_iq4_nl>(blocks);
  for (std::size_t start = 0; start < n_values; start += 32, ++block, out += 32) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(kIq4Codebook[nibble_code(block->qs, i)]);
  }
}

void dequantize_q2_k(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q2_k>(blocks);
  for (std::size_t start = 0; start < n_values; start += 256, ++block, out += 256) {
    const float d = half_to_float(block->d), dmin = half_to_float(block->dmin);
    for (int sub = 0; sub < 16; ++sub) {
      const float scale = d * static_cast<float>(block->scales[sub] & 15);
      const float min = dmin * static_cast<float>(block->scales[sub] >> 4);
      for (int i = 16 * sub; i < 16 * sub + 16; ++i) {
        const int q = block->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        out[i] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void dequantize_q3_k(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q3_k>(blocks);
  for (std::size_t start = 0; start < n_values; start += 256, ++block, out += 256) {
    const float d = half_to_float(block->d);
    for (int sub = 0; sub < 16; ++sub) {
      const int low = block->scales[sub % 8] >> (sub / 8 * 4) & 15;
      const int high = block->scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      for (int i = 16 * sub; i < 16 * sub + 16; ++i) {
        const int q_low = block->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        const int q_high = block->hmask[i % 32] >> (i / 32) & 1;
        out[i] = scale * static_cast<float>((q_low | q_high << 2) - 4);
      }
    }
  }
}

void dequantize_q4_k(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q4_k>(blocks);
  for (std::size_t start = 0; start < n_values; start += 256, ++block, out += 256) {
    const float d = half_to_float(block->d), dmin = half_to_float(block->dmin);
    for (int sub = 0; sub < 8; ++sub) {
      const ScaleMin sm = unpack_scale_min(block->scales, sub);
      const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
      const std::uint8_t* qs = block->qs + sub / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        const int q = qs[i] >> (sub % 2 * 4) & 15;
        out[32 * sub + i] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void dequantize_q5_k(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q5_k>(blocks);
  for (std::size_t start = 0; start < n_values; start += 256, ++block, out += 256) {
    const float d = half_to_float(block->d), dmin = half_to_float(block->dmin);
    for (int sub = 0; sub < 8; ++sub) {
      const ScaleMin sm = unpack_scale_min(block->scales, sub);
      const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
      const std::uint8_t* qs = block->qs + sub / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        const int q = (qs[i] >> (sub % 2 * 4) & 15) | (block->qh[i] >> sub & 1) << 4;
        out[32 * sub + i] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void dequantize_q6_k(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_q6_k>(blocks);
  for (std::size_t start = 0; start < n_values; start += 256, ++block, out += 256) {
    const float d = half_to_float(block->d);
    for (int sub = 0; sub < 16; ++sub) {
      const float scale = d * static_cast<float>(block->scales[sub]);
      const int n = sub / 8, j = sub % 8 / 2;  // value 128 n + 32 j + l
      const std::uint8_t* ql = block->ql + 64 * n + 32 * (j % 2);
      const std::uint8_t* qh = block->qh + 32 * n;
      for (int l = sub % 2 * 16; l < sub % 2 * 16 + 16; ++l) {
        const int q = (ql[l] >> (j / 2 * 4) & 15) | (qh[l] >> (2 * j) & 3) << 4;
        out[128 * n + 32 * j + l] = scale * static_cast<float>(q - 32);
      }
    }
  }
}

void dequantize_iq4_xs(const void* blocks, float* out, std::size_t n_values) {
  const auto* block = as_blocks<block_iq4_xs>(blocks);
  for (std::size_t start = 0; start < n_values; start += 256, ++block, out += 256) {
    const float d = half_to_float(block->d);
    for (int sub = 0; sub < 8; ++sub) {
      const int low = block->scales_l[sub / 2] >> (sub % 2 * 4) & 15;
      const int high = block->scales_h >> (2 * sub) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      for (int i = 0; i < 32; ++i) {
        out[32 * sub + i] = scale * static_cast<float>(kIq4Codebook[nibble_code(block->qs + 16 * sub, i)]);
      }
    }
  }
}

}  // namespace rwkvnative
