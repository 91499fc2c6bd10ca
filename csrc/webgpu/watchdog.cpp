#include "webgpu/watchdog.h"

#include <algorithm>

#include "core/cost.h"

namespace rwkvnative::webgpu {
namespace {

// Operations a second, about half of what the smallest do at best: integrated, and those with subgroup matrices (an M1 through Dawn);
// discrete, and those with them, in them and beside.
constexpr double kIntegrated = 2e11, kIntegratedMatrices = 1e12, kDiscrete = 5e11, kMatrices = 2e13, kBesideMatrices = 4e12;
constexpr double kUploadedBytes = 2e9;

uint32_t most_rows(const Device& device, const Cost& cost) {
  const double of_a_row = slow_seconds(device, cost, 1);
  return static_cast<uint32_t>(std::clamp(most_seconds(device) / std::max(of_a_row, 1e-12), 1.0, 1e6));
}

}  // namespace

double slow_seconds(const Device& device, const Cost& cost, uint32_t rows) {
  const bool matrices = device.matrix().has_value();
  double rate = matrices ? kIntegratedMatrices : kIntegrated;
  if (device.info().kind == DeviceKind::DiscreteGpu) {
    rate = !matrices ? kDiscrete : cost.arithmetic == Arithmetic::F16 ? kMatrices : kBesideMatrices;
  }
  return static_cast<double>(cost.row_operations) * rows / rate;
}

double slow_upload_seconds(uint64_t bytes) { return static_cast<double>(bytes) / kUploadedBytes; }

double most_seconds(const Device& device) { return 1e-6 * device.options().tuned.all.submit_us; }

uint32_t most_layer_rows(const Device& device, const Plan& plan) {
  Cost most;
  for (const Op& op : plan.ops) {
    const auto* linear = std::get_if<LinearOp>(&op);
    if (linear == nullptr) continue;
    Cost all;  // of one dispatch
    for (const LinearPart& part : linear->parts) all = all + matrix_cost(plan.tensor(part.weight), plan.tensor(part.weight).ne1, false);
    if (all.row_operations > most.row_operations) most = all;
  }
  return most_rows(device, most);
}

uint32_t most_head_rows(const Device& device, const Plan& plan) {
  return most_rows(device, {.row_operations = 2 * uint64_t{plan.n_vocab} * plan.n_embd});
}

}  // namespace rwkvnative::webgpu
