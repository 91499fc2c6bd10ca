#include "core/dtype.h"

#include <algorithm>
#include <string>

#include "core/dequantize.h"
#include "core/error.h"
#include "core/quant_blocks.h"
#include "core/quantize.h"

namespace rwkvnative {
namespace {

template <class Block>
constexpr std::uint32_t kBytes = static_cast<std::uint32_t>(sizeof(Block));

constexpr DTypeTraits kTable[] = {
    // type, name, values and bytes per block, dequantize, quantize
    {DType::F32, "F32", 1, 4, dequantize_f32, quantize_f32},
    {DType::F16, "F16", 1, 2, dequantize_f16, quantize_f16},
    {DType::Q4_0, "Q4_0", 32, kBytes<block_q4_0>, dequantize_q4_0, quantize_q4_0},
    {DType::Q4_1, "Q4_1", 32, kBytes<block_q4_1>, dequantize_q4_1, quantize_q4_1},
    {DType::Q5_0, "Q5_0", 32, kBytes<block_q5_0>, dequantize_q5_0, quantize_q5_0},
    {DType::Q5_1, "Q5_1", 32, kBytes<block_q5_1>, dequantize_q5_1, quantize_q5_1},
    {DType::Q8_0, "Q8_0", 32, kBytes<block_q8_0>, dequantize_q8_0, quantize_q8_0},
    {DType::Q2_K, "Q2_K", 256, kBytes<block_q2_k>, dequantize_q2_k, quantize_q2_k},
    {DType::Q3_K, "Q3_K", 256, kBytes<block_q3_k>, dequantize_q3_k, quantize_q3_k},
    {DType::Q4_K, "Q4_K", 256, kBytes<block_q4_k>, dequantize_q4_k, quantize_q4_k},
    {DType::Q5_K, "Q5_K", 256, kBytes<block_q5_k>, dequantize_q5_k, quantize_q5_k},
    {DType::Q6_K, "Q6_K", 256, kBytes<block_q6_k>, dequantize_q6_k, quantize_q6_k},
    {DType::IQ4_NL, "IQ4_NL", 32, kBytes<block_iq4_nl>, dequantize_iq4_nl, quantize_iq4_nl},
    {DType::IQ4_XS, "IQ4_XS", 256, kBytes<block_iq4_xs>, dequantize_iq4_xs, quantize_iq4_xs},
    {DType::BF16, "BF16", 1, 2, dequantize_bf16, quantize_bf16},
};

}  // namespace

std::span<const DTypeTraits> dtype_table() { return kTable; }

const DTypeTraits* find_dtype(std::uint32_t ggml_type) {
  const auto* row = std::find_if(std::begin(kTable), std::end(kTable),
                                 [&](const DTypeTraits& each) { return each.type == static_cast<DType>(ggml_type); });
  return row == std::end(kTable) ? nullptr : row;
}

const DTypeTraits& traits(DType type) {
  const auto id = static_cast<std::uint32_t>(type);
  if (const DTypeTraits* row = find_dtype(id)) return *row;
  std::string known;
  for (const DTypeTraits& row : kTable) known += (known.empty() ? "" : ", ") + std::string(row.name);
  throw InputError(message("[dtype] tensor type ", id, " is not supported; supported: ", known));
}

}  // namespace rwkvnative
