// A clock after every step of a submit.
#include <algorithm>

#include "core/cost.h"
#include "core/error.h"
#include "cpu/program.h"

namespace rwkvnative::cpu {
namespace {

// What the steps of a program cost, in their order (the constructor of CpuProgram).
class Costs {
 public:
  Costs(const CpuModel& model, bool has_head, bool has_logits) : model_(model), has_head_(has_head), has_logits_(has_logits) {
    for (const Op& op : model.plan.ops) {
      layer_ = layer_of(op, layer_);
      std::visit([&](const auto& o) { add(o); }, op);
    }
  }
  std::vector<OpTime> take() { return std::move(ops_); }
  std::vector<Cost> costs;
  std::vector<bool> of_head;

 private:
  void push(std::string label, const Cost& cost, bool head = false) {
    ops_.push_back({.label = std::move(label), .layer = layer_});
    costs.push_back(cost);
    of_head.push_back(head);
  }
  Cost matrix(TensorId id) const {
    if (id == kNone) return {};
    const Tensor& tensor = model_.plan.tensor(id);
    return matrix_cost(tensor, tensor.ne1, model_.uses_int8(tensor));
  }
  void add(const EmbedOp& op) { push(message("embed ", traits(model_.plan.tensor(op.table).type).name), embed_cost(model_.plan, op)); }
  void add(const ShiftMixOp& op) { push(message("shift_mix ", op.out.size()), shift_mix_cost(model_.plan, op)); }
  void add(const LinearOp& op) {
    std::string label = "linear";
    Cost cost;
    for (const LinearPart& part : op.parts) {
      label += message(" ", model_.plan.slot(part.out).name);
      cost = cost + matrix(part.weight);
    }
    push(std::move(label), cost);
  }
  void add(const Wkv7Op& op) {
    push(op.v2 == kNone ? "wkv7 first layer" : "wkv7",
         wkv7_cost(model_.plan) + matrix(op.w2) + matrix(op.a2) + matrix(op.v2) + matrix(op.g2));
  }
  void add(const HeadOp& op) {
    if (!has_head_) return;
    const Cost norm = norm_cost(model_.plan.n_embd);
    push("head", has_logits_ ? norm + matrix(op.weight) : norm, true);
  }

  const CpuModel& model_;
  const bool has_head_, has_logits_;
  int32_t layer_ = -1;
  std::vector<OpTime> ops_;
};

}  // namespace

OpTimes CpuProgram::profile(std::span<const Sequence> sequences) {
  using Microseconds = std::chrono::duration<double, std::micro>;
  Costs costs(model_, shape_.readout != Readout::None, shape_.readout != Readout::Hidden);
  std::vector<std::chrono::steady_clock::time_point> marks;
  marks.reserve(steps_.size() + 1);
  marks_ = &marks;
  try {
    submit(sequences);
  } catch (...) {
    marks_ = nullptr;
    throw;
  }
  marks_ = nullptr;
  const auto end = std::chrono::steady_clock::now();
  OpTimes times{.ops = costs.take(), .uploads = {}, .timestamps = true};
  for (size_t i = 0; i < times.ops.size(); ++i) {
    const size_t rows = costs.of_head[i] ? head_rows_.size() : tokens_.size();
    OpTime& op = times.ops[i];
    op.microseconds = Microseconds(marks.at(i + 1) - marks[i]).count();
    op.bytes = costs.costs[i].bytes(rows, sequences_.size());
    op.operations = costs.costs[i].row_operations * rows;
    op.arithmetic = costs.costs[i].arithmetic;
  }
  if (shape_.readout == Readout::Argmax || shape_.readout == Readout::Candidates) {
    const Cost cost = choice_cost(plan_);
    times.ops.push_back({.label = shape_.readout == Readout::Argmax ? "argmax" : "top_k",
                         .layer = -1,
                         .microseconds = Microseconds(end - marks.back()).count(),
                         .bytes = cost.bytes(sequences_.size(), sequences_.size()),
                         .operations = cost.row_operations * sequences_.size(),
                         .arithmetic = Arithmetic::F32});
  }
  return times;
}

}  // namespace rwkvnative::cpu
