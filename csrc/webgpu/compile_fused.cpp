// Decoding one token, a layer is five dispatches instead of eight: norm, shift and mixes go with the matrices that read them
// (kernels/mix_linear.wgsl), the second LoRA matrices with wkv7, and its group norm and gate with the output matrix. A dispatch
// that waits for the one before costs 3.5 us on a large GPU before it has done anything, as much as reading 12 MB of weights.
#include <algorithm>
#include <bit>
#include <map>

#include "core/cost.h"
#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kManyRows = 1024;  // of a matrix whose threads take several rows each

uint32_t round_up(uint32_t value, uint32_t multiple) { return ceil_div(value, multiple) * multiple; }

// 32-bit registers that a unit, or an octet of a float type, takes on its way from memory (`Packed` in kernels/weights.wgsl).
uint32_t packed_registers(DType type) {
  switch (type) {
    case DType::F16:
    case DType::BF16:
    case DType::Q2_K:
      return 4;
    case DType::Q5_K:
      return 7;
    case DType::F32:
    case DType::Q3_K:
    case DType::Q6_K:
      return 8;
    case DType::Q8_0:
      return 9;
    default:
      return 6;
  }
}

}  // namespace

// Whether the plan writes every part of every layer's state.
bool Compiler::covers_state() const {
  size_t parts = 0;
  for (const Op& op : plan_.ops)
    parts += std::holds_alternative<ShiftMixOp>(op) || std::holds_alternative<Wkv7Op>(op) ? 1 : 0;
  return parts == plan_.n_layer * plan_.state_parts.size();
}

size_t Compiler::add_fused(size_t op_index) {
  if (!compiled_.reads_other_states || !tuning_.fuse || model_.weights->merged(op_index) == 0) return 0;
  const auto& mix = std::get<ShiftMixOp>(plan_.ops[op_index]);
  const auto& linear = std::get<LinearOp>(plan_.ops[op_index + 1]);
  if (!add_mix_linear(mix, linear, op_index)) return 0;
  if (model_.weights->merged(op_index) == 2) return 2;
  const auto& wkv7 = std::get<Wkv7Op>(plan_.ops[op_index + 2]);
  if (heads_mix(op_index + 2)) {
    add_wkv7_rows(wkv7, op_index + 2);
    add_heads_linear(wkv7, std::get<LinearOp>(plan_.ops[op_index + 3]), op_index + 3);
    return 4;
  }
  add(wkv7, op_index + 2);
  return 3;
}

// A matrix of the fused dispatch: `lanes` threads a row, `rows` rows a thread; the loads of the first `early` steps before the
// row is made.
struct Compiler::MixedMatrix {
  uint32_t number, lanes, groups, rows, steps, early;
  uint32_t rows_per_workgroup() const { return rows * groups; }
};

// Threads, and how many of them may share a row: a thread a quad of the row; outputs that are quantized come in blocks of 32.
Compiler::MixedShape Compiler::mixed_shape(const LinearOp& linear, uint32_t width) const {
  MixedShape shape{.width = width};
  shape.quantize_out = quantizes_out(linear_matrices(linear)[0]);
  for (const LinearPart& part : linear.parts) (reads_codes(part.weight) ? shape.any_codes : shape.any_values) = true;
  const uint32_t step = shape.quantize_out ? 256 : std::max(64u, subgroup_max_);
  shape.workgroup = std::min(round_up(shape.quads(), step), max_threads_ / 64 * 64);
  shape.most_lanes = use_subgroups(shape.workgroup, 8) ? std::min(32u, std::bit_floor(device_.subgroup_min_size())) : 32u;
  return shape;
}

bool Compiler::fits(const MixedShape& shape) const {
  const uint32_t memory = (shape.any_codes ? shape.quads() * 6 : 0) + (shape.any_values ? shape.octets() * 32 : 0) +
                          shape.workgroup * 16;  // with reductions
  return memory <= device_.limits().maxComputeWorkgroupStorageSize;
}

ShaderText Compiler::begin_mixed(const MixedShape& shape, float epsilon) const {
  ShaderText text = begin_norm(shape.width, epsilon, shape.workgroup, shape.most_lanes);
  text.constant("kMixedCodes", shape.any_codes ? shape.quads() / 4 : 1);
  text.constant("kMixedHeads", shape.any_codes ? shape.quads() / 8 : 1);
  text.constant("kMixedValues", shape.any_values ? shape.octets() * 2 : 1);
  text.constant("kTile", 1u).constant("kHeadRows", false);  // for linear.wgsl's finish
  text.file("activate").file("linear_part").file("dot_int8").file("dot_f32").file("float_weights");
  return text;
}

// Adds the matrices of `linear`, and returns how many workgroups they take. input(matrix): what of the row's making is its own.
// own_case: one more workgroup does this instead.
uint32_t Compiler::add_mixed_parts(ShaderText& text, const MixedShape& shape, const LinearOp& linear, const WeightGroup& group,
                                   const std::function<uint32_t(const LinearMatrix&)>& input, const std::string& own_case) {
  std::map<std::pair<DType, bool>, MixedMatrix> kinds;
  PartText parts("(part, thread)");
  uint32_t outputs = 0;
  const std::vector<LinearMatrix> matrices = linear_matrices(linear);
  for (const PlacedMatrix& placed : placed_matrices(group, matrices)) {
    const Tensor& weight = placed.weight;
    const bool floats = is_float(weight.type), many = weight.ne1 >= kManyRows;
    count(placed.rows, weight, placed.int8);
    const auto [kind, is_new] = kinds.emplace(std::pair(weight.type, many), MixedMatrix{});
    MixedMatrix& m = kind->second;
    if (is_new) {
      const uint32_t units = row_units(weight);
      m.number = static_cast<uint32_t>(kinds.size() - 1);
      if (placed.matrix.accumulate) {
        m.lanes = choose_lanes(units, shape.most_lanes, weight.ne1, tuning_.threads);
        m.rows = 1;
      } else {
        m.lanes = std::min(shape.most_lanes, floats ? 32u : tuning_.mix_lanes);
        m.rows = !many ? 1 : floats ? tuning_.mix_float_rows : tuning_.mix_rows;
      }
      m.groups = shape.workgroup / m.lanes;
      while (shape.quantize_out && m.rows_per_workgroup() % 32 != 0) ++m.rows;
      m.steps = ceil_div(units, m.lanes);
      m.early = std::min(m.steps, std::max(1u, tuning_.mix_registers / (packed_registers(weight.type) * m.rows)));
      outputs = std::max(outputs, m.rows_per_workgroup());
      if (!floats) text.file("decode_" + lower(traits(weight.type).name));
      parts.add_kind(m.number, mixed_matrix_text(m, shape, placed, units));
    }
    PartFields part = placed.part(m.number, shape.quantize_out);
    part.input = input(placed.matrix);
    part.heads = 0;
    parts.add(part, m.rows_per_workgroup());
  }
  if (!own_case.empty()) parts.add_own(static_cast<uint32_t>(kinds.size()), own_case);
  if (shape.quantize_out) text.text(message("var<workgroup> outputs: array<f32, ", outputs, ">;"));
  parts.put(text, "mix_linear");
  return parts.workgroups();
}

bool Compiler::add_mix_linear(const ShiftMixOp& mix, const LinearOp& linear, size_t op_index) {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const SlotPlace& x = slot(static_cast<size_t>(mix.x));
  std::string label = "mix_linear";
  for (const LinearPart& part : linear.parts) label += message(" ", plan_.slot(part.out).name);
  tune(label);
  const MixedShape shape = mixed_shape(linear, x.width);
  for (const LinearPart& part : linear.parts) {
    const SlotPlace& out = slot(static_cast<size_t>(part.out));
    if (std::find(mix.out.begin(), mix.out.end(), part.in) == mix.out.end() || part.accumulate) return false;
    if (!shape.quantize_out && (out.has_codes || !out.has_values)) return false;
  }
  if (!fits(shape)) return false;

  vector(mix.norm_weight), vector(mix.norm_bias), vector(mix.lerp);
  const PlacedRows& lerp = placed(group, mix.lerp);
  ShaderText text = begin_mixed(shape, mix.epsilon);
  text.constant("kX", x.values);
  text.constant("kNormWeight", placed(group, mix.norm_weight).at).constant("kNormBias", placed(group, mix.norm_bias).at);
  text.file("mix_shift");
  cost_ = shift_mix_cost(plan_, mix);
  const auto input = [&](const LinearMatrix& matrix) {
    const auto z = static_cast<uint32_t>(std::find(mix.out.begin(), mix.out.end(), static_cast<SlotId>(matrix.in)) - mix.out.begin());
    return lerp.at + z * lerp.row_vec4s;
  };
  const uint32_t workgroups = add_mixed_parts(text, shape, linear, group, input, "keep_state(thread);");
  dispatch_state(label, text, "vec4<f32>", group, Grid::SequenceRows, workgroups, mix.layer, mix.state_part);
  return true;
}

// Whether the time mix at op_index can leave its group norm and gate to the matrix after it (kernels/wkv7_rows.wgsl,
// mix_heads.wgsl).
bool Compiler::heads_mix(size_t op_index) {
  if (op_index + 1 >= plan_.ops.size()) return false;
  const auto& wkv7 = std::get<Wkv7Op>(plan_.ops[op_index]);
  tune(wkv7_rows_label(wkv7));
  const auto* linear = std::get_if<LinearOp>(&plan_.ops[op_index + 1]);
  const std::vector<LinearMatrix> loras = second_loras(wkv7);
  const bool float_loras = std::all_of(loras.begin(), loras.end(), [&](const LinearMatrix& lora) {
    return is_float(plan_.tensor(lora.weight).type);
  });
  if (!float_loras || linear == nullptr || linear->parts.size() != 1 || linear->parts[0].in != wkv7.out) return false;
  const std::span<const WeightGroup> groups = model_.weights->groups(op_index + 1);
  const SlotPlace& out = slot(static_cast<size_t>(linear->parts[0].out));
  const MixedShape shape = mixed_shape(*linear, plan_.n_embd);
  const uint32_t quads = plan_.head_size / 4;
  return groups.size() == 1 && out.has_values && !out.has_codes && std::has_single_bit(quads) && quads <= shape.most_lanes &&
         fits(shape) && wkv7_rows_threads() != 0;
}

void Compiler::add_heads_linear(const Wkv7Op& wkv7, const LinearOp& linear, size_t op_index) {
  const WeightGroup& group = model_.weights->groups(op_index)[0];
  const std::string label = message("heads_linear ", plan_.slot(linear.parts[0].out).name);
  tune(label);
  const MixedShape shape = mixed_shape(linear, plan_.n_embd);
  ShaderText text = begin_mixed(shape, wkv7.norm_epsilon);
  text.constant("kHeadQuads", plan_.head_size / 4);
  for (const auto& [name, out] : wkv7_rows_outs()) text.constant(name, out);
  text.file("mix_heads");
  const uint32_t workgroups = add_mixed_parts(text, shape, linear, group, [](const LinearMatrix&) { return 0u; }, "");
  dispatch(label, text.str(), Bindings::Main, bind_main(label, &group), Grid::RowsBy, workgroups);
}

std::string Compiler::mixed_matrix_text(const MixedMatrix& m, const MixedShape& shape, const PlacedMatrix& placed,
                                        uint32_t units) const {
  const bool quantize_out = shape.quantize_out, int8 = placed.int8, floats = is_float(placed.weight.type);
  const std::string type = lower(traits(placed.weight.type).name);
  const auto exact = [&](uint32_t step) { return (step + 1) * m.lanes <= units; };
  const auto load = [&](uint32_t step) {
    std::string text = exact(step) ? message("let at", step, " = lane + ", step * m.lanes, "u;\n  ")
                                   : message("let at", step, " = min(lane + ", step * m.lanes, "u, ", units - 1, "u);\n  ");
    for (uint32_t r = 0; r < m.rows; ++r)
      text += message("let w", step, "_", r, " = load_", type, "(row", r, ", at", step, ", ", units, "u);\n  ");
    return text;
  };
  const auto dot = [&](uint32_t step) {
    std::string text;
    if (!floats) text = message("let x", step, int8 ? " = mixed_input(at" : " = mixed_unit(at", step, ");\n  ");
    for (uint32_t r = 0; r < m.rows; ++r) {
      const std::string packed = message("w", step, "_", r);
      std::string product;
      if (floats) {
        product = message("dot_octet(unpack_", type, "(", packed, "), at", step, ")");
      } else {
        const std::string block = message("unpack_", type, "(", packed, ", row", r, ", at", step, ", ", units, "u)");
        product = int8 ? message(scales_sixteens(placed.weight.type) ? "dot16(" : "dot32(", block, ", x", step, ")")
                       : message("dot_f32(unit_values(", block, "), x", step, ")");
      }
      if (!exact(step)) product = message("select(0.0, ", product, ", lane + ", step * m.lanes, "u < ", units, "u)");
      text += message("sums[", r, "] += ", product, ";\n  ");
    }
    return text;
  };
  std::string loads, dots;
  for (uint32_t r = 0; r < m.rows; ++r) {
    loads += message("let row", r, " = row_at(part.weights, min(part.first + ", r * m.groups, "u + group, part.rows - 1u), ",
                     placed.rows.row_vec4s, "u, part.rows);\n  ");
  }
  for (uint32_t step = 0; step < m.early; ++step) loads += load(step);
  for (uint32_t step = 0; step < m.steps; ++step) dots += (step >= m.early ? load(step) : "") + dot(step);
  const Substitutions numbers = {{"LANES", message(m.lanes)},
                                 {"ROWS", message(m.rows)},
                                 {"SUMS", message(m.rows)},
                                 {"GROUPS", message(m.groups)},
                                 {"ROW_SUM", row_sum(m.lanes, false)}};
  const std::string finish = instantiate(quantize_out ? "linear_finish_quantized" : "linear_finish", numbers);
  return instantiate("mix_linear_kind", {{"NAME", message("k", m.number)},
                                         {"LANES", message(m.lanes)},
                                         {"ROWS", message(m.rows)},
                                         {"CODES", int8 ? "true" : "false"},
                                         {"LOADS", loads},
                                         {"BEFORE", quantize_out ? "" : instantiate("linear_before", numbers)},
                                         {"DOTS", dots},
                                         {"FINISH", finish}});
}

}  // namespace rwkvnative::webgpu
