#include "core/magnitude.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "core/half.h"
#include "core/quant_blocks.h"

namespace rwkvnative {
namespace {

float size_of_half(half_bits bits) {
  const float value = std::abs(half_to_float(bits));
  return std::isfinite(value) ? value : 0.0f;
}

// From bound(block) of all blocks, or of all values of a float type.
template <class Block, class Bound>
Magnitude largest(const Tensor& tensor, Bound bound) {
  const size_t block_values = traits(tensor.type).block_values, blocks = tensor.ne0 / block_values;
  float most = 0;
  double longest = 0;
  for (uint32_t row = 0; row < tensor.ne1; ++row) {
    const std::byte* at = tensor.data + row * tensor.row_bytes;
    double squares = 0;
    for (size_t i = 0; i < blocks; ++i) {
      Block block;
      std::memcpy(&block, at + i * sizeof(Block), sizeof(Block));
      const float value = bound(block);
      most = std::max(most, value);
      squares += double{value} * value;
    }
    longest = std::max(longest, squares);
  }
  return {most, static_cast<float>(std::sqrt(longest * static_cast<double>(block_values)))};
}

template <class Block>
Magnitude by_d(const Tensor& tensor, float codes) {
  return largest<Block>(tensor, [codes](const Block& block) { return codes * size_of_half(block.d); });
}

template <class Block>
Magnitude by_d_and_m(const Tensor& tensor, float codes) {
  return largest<Block>(tensor, [codes](const Block& block) { return codes * size_of_half(block.d) + size_of_half(block.m); });
}

template <class Block>
Magnitude by_d_and_dmin(const Tensor& tensor, float codes, float minima) {
  return largest<Block>(tensor, [codes, minima](const Block& block) {
    return codes * size_of_half(block.d) + minima * size_of_half(block.dmin);
  });
}

}  // namespace

Magnitude magnitude_bound(const Tensor& tensor) {
  switch (tensor.type) {
    case DType::F32:
      return largest<float>(tensor, [](float value) { return std::isfinite(value) ? std::abs(value) : 0.0f; });
    case DType::F16:
      return largest<half_bits>(tensor, size_of_half);
    case DType::BF16:
      return largest<quant_u16>(tensor, [](quant_u16 bits) {
        const float value = std::abs(bfloat_to_float(bits));
        return std::isfinite(value) ? value : 0.0f;
      });
    case DType::Q4_0:
      return by_d<block_q4_0>(tensor, 8);
    case DType::Q4_1:
      return by_d_and_m<block_q4_1>(tensor, 15);
    case DType::Q5_0:
      return by_d<block_q5_0>(tensor, 16);
    case DType::Q5_1:
      return by_d_and_m<block_q5_1>(tensor, 31);
    case DType::Q8_0:
      return by_d<block_q8_0>(tensor, 128);
    case DType::Q2_K:
      return by_d_and_dmin<block_q2_k>(tensor, 15 * 3, 15);
    case DType::Q3_K:
      return by_d<block_q3_k>(tensor, 32 * 4);
    case DType::Q4_K:
      return by_d_and_dmin<block_q4_k>(tensor, 63 * 15, 63);
    case DType::Q5_K:
      return by_d_and_dmin<block_q5_k>(tensor, 63 * 31, 63);
    case DType::Q6_K:
      return by_d<block_q6_k>(tensor, 128 * 32);
    case DType::IQ4_NL:
      return by_d<block_iq4_nl>(tensor, 127);
    case DType::IQ4_XS:
      return by_d<block_iq4_xs>(tensor, 32 * 127);
  }
  return {};
}

float half_scale(const Tensor& tensor, const Magnitude& magnitude) {
  if (tensor.type == DType::F16) return 1.0f;
  const float bound = magnitude.value;
  // Within what a float32 and its inverse can hold.
  return bound > 0 ? std::ldexp(1.0f, std::clamp(14 - std::ilogb(bound), -110, 110)) : 1.0f;
}

}  // namespace rwkvnative
