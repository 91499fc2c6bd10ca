// Decoding one token, a layer's time mix takes four dispatches instead of five: the first LoRA matrices go with the mixing
// (kernels/mix_lora.wgsl), the second ones with r, k and v. A dispatch that waits for the one before costs about 4 us on a
// large GPU, as much as reading 15 MB of weights.
#include <algorithm>
#include <bit>
#include <map>

#include "core/cost.h"
#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMaxSteps = 16;  // octets of a row that a thread holds in registers

}  // namespace

// Whether the plan writes every part of every layer's state.
bool Compiler::covers_state() const {
  size_t parts = 0;
  for (const Op& op : plan_.ops)
    parts += std::holds_alternative<ShiftMixOp>(op) || std::holds_alternative<Wkv7Op>(op) ? 1 : 0;
  return parts == plan_.n_layer * plan_.state_parts.size();
}

bool Compiler::is_first_lora(const LinearPart& part, const Wkv7Op& wkv7) const {
  return part.out == wkv7.w_hidden || part.out == wkv7.a_hidden || part.out == wkv7.v_hidden || part.out == wkv7.g_hidden;
}

bool Compiler::add_fused(size_t op_index) {
  if (!compiled_.reads_other_states || !tuning_.fuse || op_index + 2 >= plan_.ops.size()) return false;
  const auto* mix = std::get_if<ShiftMixOp>(&plan_.ops[op_index]);
  const auto* linear = std::get_if<LinearOp>(&plan_.ops[op_index + 1]);
  const auto* wkv7 = std::get_if<Wkv7Op>(&plan_.ops[op_index + 2]);
  if (mix == nullptr || linear == nullptr || wkv7 == nullptr || !model_.weights->merged(op_index)) return false;
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const uint32_t width = slot(static_cast<size_t>(mix->x)).width;
  const uint32_t octets = ceil_div(width, 8);

  tune("mix_lora");
  // The mixing kernel's text decides the workgroup, so the mixes that r, k and v read come first.
  std::vector<LinearMatrix> later;
  bool wanted[16] = {};
  if (mix->out.size() > std::size(wanted)) return false;
  for (const LinearPart& part : linear->parts) {
    const auto z = static_cast<size_t>(std::find(mix->out.begin(), mix->out.end(), part.in) - mix->out.begin());
    if (z == mix->out.size()) return false;
    if (!is_first_lora(part, *wkv7)) {
      wanted[z] = true;
      later.push_back(
          {part.weight, static_cast<size_t>(part.in), static_cast<size_t>(part.out), part.activation, part.accumulate});
    } else if (traits(plan_.tensor(part.weight).type).block_values != 1 || part.accumulate) {
      return false;
    }
  }
  for (const LinearMatrix& matrix : later) {
    if (slot(matrix.out).has_codes || matrix.accumulate) return false;
  }
  uint32_t chunk = 0;
  ShaderText text = shift_mix_text(*mix, op_index, std::span(wanted, mix->out.size()), chunk);
  const uint32_t mixes = static_cast<uint32_t>(std::count(std::begin(wanted), std::end(wanted), true));
  const uint32_t workgroup = norm_workgroup(mixes * chunk);
  const uint32_t lanes = use_subgroups(workgroup, 8) ? std::min(32u, std::bit_floor(device_.subgroup_min_size())) : 32u;
  const uint32_t steps = ceil_div(octets, lanes);
  constexpr uint32_t kOtherMemory = 6144;  // of the reductions
  if (steps > kMaxSteps || octets * 32 + kOtherMemory > device_.limits().maxComputeWorkgroupStorageSize) return false;

  cost_ = shift_mix_cost(plan_, *mix);
  const PlacedRows& lerp = placed(group, mix->lerp);
  std::map<DType, uint32_t> kinds;
  std::string cases, instances, of;
  uint32_t workgroups = 0;
  for (const LinearPart& part : linear->parts) {
    if (!is_first_lora(part, *wkv7)) continue;
    const Tensor& weight = plan_.tensor(part.weight);
    const PlacedRows& rows = placed(group, part.weight);
    count(rows, weight, false);
    const auto [kind, is_new] = kinds.emplace(weight.type, static_cast<uint32_t>(kinds.size()));
    if (is_new) {
      const std::string type = lower(traits(weight.type).name);
      std::string loads, dots;
      for (uint32_t step = 0; step < steps; ++step) {
        const bool exact = (step + 1) * lanes <= octets;
        const std::string octet =
            exact ? message(step * lanes, "u + lane") : message("min(", step * lanes, "u + lane, ", octets - 1, "u)");
        const std::string dot = message("dot(w", step, ".low, mixed[2u * (", octet, ")]) + dot(w", step,
                                        ".high, mixed[2u * (", octet, ") + 1u])");
        loads += message("let w", step, " = octet_", type, "(row_at, ", octet, ");\n  ");
        dots += exact ? message("sum += ", dot, ";\n  ")
                      : message("sum += select(0.0, ", dot, ", ", step * lanes, "u + lane < ", octets, "u);\n  ");
      }
      const std::string name = message("k", kind->second);
      instances += instantiate(
          "mix_lora_kind",
          {{"NAME", name}, {"TYPE", type}, {"STRIDE", message(rows.row_vec4s)}, {"LOADS", loads}, {"DOTS", dots}});
      cases += message("case ", kind->second, "u: { lora_", name, "(lora, thread); }\n      ");
    }
    const uint32_t first = workgroups, rows_each = workgroup / lanes;
    workgroups += ceil_div(weight.ne1, rows_each);
    const auto z = static_cast<uint32_t>(std::find(mix->out.begin(), mix->out.end(), part.in) - mix->out.begin());
    // LoraRows(kind, weights, rows, first, lerp, out, activation)
    of += message("  if (at < ", workgroups, "u) { return LoraRows(", kind->second, "u, ", rows.at, "u, ", weight.ne1,
                  "u, (at - ", first, "u) * ", rows_each, "u, ", lerp.at + z * lerp.row_vec4s, "u, ",
                  slot(static_cast<size_t>(part.out)).values, "u, ", activation_number(part.activation, false), "u); }\n");
  }
  const uint32_t chunks = ceil_div(ceil_div(width, 4), chunk);
  text.constant("kChunks", chunks).constant("kLanes", lanes).constant("kOctets", octets);
  text.file("float_weights").file("activate").text(instances);
  text.text(message("fn lora_of(at: u32) -> LoraRows {\n", of, "  return LoraRows();\n}"));
  text.text(instantiate("mix_lora", {{"KINDS", cases}}));
  dispatch_state("mix_lora", text, "vec4<f32>", group, Grid::SequenceRows, chunks + workgroups, mix->layer,
                 mix->state_part);

  for (const LinearMatrix& matrix : second_loras(*wkv7)) later.push_back(matrix);
  add_linear("linear r k v lora", later, model_.weights->groups(op_index + 1), false);
  add_wkv7(*wkv7, op_index + 2);
  return true;
}

}  // namespace rwkvnative::webgpu
