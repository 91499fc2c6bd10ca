#include "metal/mix_scales.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace rwkvnative::metal {
namespace {

// A row of an F32 tensor in the model file.
std::vector<float> values_of(const Tensor& tensor, size_t row) {
  std::vector<float> values(tensor.ne0);
  std::memcpy(values.data(), tensor.data + row * tensor.row_bytes, values.size() * sizeof(float));
  return values;
}

// |LayerNorm(x)| <= sqrt(C) |weight| + |bias|, as the squares of C normed values sum to C at most; a mix h + (h_prev - h) lerp
// of two such rows is no larger than (|1 - lerp| + |lerp|) times that.
std::vector<float> scales_of(const Plan& plan, const ShiftMixOp& op) {
  for (TensorId id : {op.norm_weight, op.norm_bias, op.lerp}) {
    const Tensor& tensor = plan.tensor(id);
    if (tensor.type != DType::F32 || tensor.ne0 != plan.n_embd) return {};  // Compiler::vector says what is wrong
  }
  if (plan.tensor(op.lerp).ne1 < op.out.size()) return {};
  const std::vector<float> weight = values_of(plan.tensor(op.norm_weight), 0);
  const std::vector<float> bias = values_of(plan.tensor(op.norm_bias), 0);
  const double largest_normed = std::sqrt(static_cast<double>(plan.n_embd));
  std::vector<float> scales;
  for (size_t z = 0; z < op.out.size(); ++z) {
    const std::vector<float> lerp = values_of(plan.tensor(op.lerp), z);
    double bound = 0.0;
    for (size_t i = 0; i < lerp.size(); ++i) {
      const double h = largest_normed * std::abs(double{weight[i]}) + std::abs(double{bias[i]});
      const double mix = h * (std::abs(1.0 - lerp[i]) + std::abs(double{lerp[i]}));
      if (!(mix <= 0x1p100)) return {};
      bound = std::max(bound, mix);
    }
    if (bound < 0x1p-100) return {};
    scales.push_back(static_cast<float>(std::ldexp(1.0, 14 - std::ilogb(bound))));
  }
  return scales;
}

}  // namespace

std::vector<std::vector<float>> mix_scales(const Plan& plan) {
  std::vector<std::vector<float>> scales(plan.ops.size());
  for (size_t i = 0; i + 1 < plan.ops.size() && plan.n_embd % 8 == 0; ++i) {
    const auto* mix = std::get_if<ShiftMixOp>(&plan.ops[i]);
    if (mix != nullptr && std::holds_alternative<LinearOp>(plan.ops[i + 1])) scales[i] = scales_of(plan, *mix);
  }
  return scales;
}

}  // namespace rwkvnative::metal
