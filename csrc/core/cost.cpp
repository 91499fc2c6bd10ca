#include "core/cost.h"

namespace rwkvnative {

Cost matrix_cost(const Tensor& matrix, uint32_t rows, bool int8) {
  return {.weight_bytes = rows * matrix.row_bytes,
          .row_bytes = uint64_t{matrix.ne0} * (int8 ? 1 : 4) + uint64_t{rows} * 4,
          .sequence_bytes = 0,
          .row_operations = 2 * uint64_t{rows} * matrix.ne0,
          .arithmetic = int8 ? Arithmetic::Int8 : Arithmetic::F32};
}

// Mean and variance (3 operations a value), then scale and shift (4); in and out.
Cost norm_cost(uint32_t width) {
  return {.weight_bytes = uint64_t{width} * 8,
          .row_bytes = uint64_t{width} * 8,
          .sequence_bytes = 0,
          .row_operations = uint64_t{width} * 7,
          .arithmetic = Arithmetic::F32};
}

Cost embed_cost(const Plan& plan, const EmbedOp& op) {
  const Tensor& table = plan.tensor(op.table);
  Cost cost = norm_cost(table.ne0);
  cost.row_bytes += table.row_bytes;
  return cost;
}

Cost shift_mix_cost(const Plan& plan, const ShiftMixOp& op) {
  const uint64_t width = plan.slot(op.x).width, mixes = op.out.size();
  Cost cost = norm_cost(plan.slot(op.x).width);
  cost.weight_bytes += mixes * width * 4;
  cost.row_bytes = width * 4 * (1 + mixes);
  cost.sequence_bytes = width * 8;
  cost.row_operations += mixes * width * 3;
  return cost;
}

// A value of the state: decay (1), dot with kk (2), rank-one correction (2), v k^T (2), dot with r (2).
Cost wkv7_cost(const Plan& plan) {
  const uint64_t width = plan.n_embd, state = width * plan.head_size;
  return {.weight_bytes = 8 * width * 4,
          .row_bytes = 9 * width * 4,
          .sequence_bytes = 2 * state * 4,
          .row_operations = 9 * state + 60 * width,
          .arithmetic = Arithmetic::F32};
}

Cost choice_cost(const Plan& plan) {
  return {.weight_bytes = 0,
          .row_bytes = uint64_t{plan.n_vocab} * 4,
          .sequence_bytes = 0,
          .row_operations = plan.n_vocab,
          .arithmetic = Arithmetic::F32};
}

int32_t layer_of(const Op& op, int32_t before) {
  if (const auto* mix = std::get_if<ShiftMixOp>(&op)) return static_cast<int32_t>(mix->layer);
  if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) return static_cast<int32_t>(wkv7->layer);
  return std::holds_alternative<LinearOp>(op) ? before : -1;
}

Cost operator+(Cost a, const Cost& b) {
  a.weight_bytes += b.weight_bytes;
  a.row_bytes += b.row_bytes;
  a.sequence_bytes += b.sequence_bytes;
  a.row_operations += b.row_operations;
  if (b.arithmetic == Arithmetic::Int8) a.arithmetic = Arithmetic::Int8;
  return a;
}

}  // namespace rwkvnative
