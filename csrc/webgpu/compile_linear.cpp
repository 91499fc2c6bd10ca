// Linear ops and the head: which threads take which rows of which matrix.
#include <algorithm>
#include <bit>
#include <map>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

// Calls of step_<name> for each step, `unroll` of them in a row.
std::string step_calls(const std::string& name, uint32_t steps, uint32_t unroll) {
  const auto call = [&](const std::string& step) {
    return message("step_", name, "(part, lane, group, tile, ", step, ", &sums);");
  };
  std::string text;
  const uint32_t looped = steps > unroll ? steps / unroll * unroll : 0;
  if (looped != 0) {
    text += message("for (var base = 0u; base < ", looped, "u; base += ", unroll, "u) {\n");
    for (uint32_t i = 0; i < unroll; ++i) text += message("    ", call(message("base + ", i, "u")), "\n");
    text += "  }\n  ";
  }
  for (uint32_t step = looped; step < steps; ++step) text += call(message(step, "u")) + "\n  ";
  return text;
}

}  // namespace

uint32_t choose_lanes(uint32_t steps, uint32_t most, uint32_t rows, uint32_t threads) {
  const auto efficiency = [&](uint32_t lanes) {
    return static_cast<float>(steps) / static_cast<float>(ceil_div(steps, lanes) * lanes);
  };
  uint32_t best = 1;
  for (uint32_t lanes = 2; lanes <= most; lanes *= 2) {
    if (efficiency(lanes) >= 0.95f * efficiency(best)) best = lanes;
  }
  while (best < most && best < steps && rows * best < threads) best *= 2;
  return best;
}

bool scales_sixteens(DType type) { return type == DType::Q2_K || type == DType::Q3_K || type == DType::Q6_K; }

uint32_t activation_number(Activation activation, bool accumulate) {
  if (accumulate) {
    if (activation != Activation::None) throw InputError("[webgpu] linear: an accumulating part with an activation");
    return 4;
  }
  return static_cast<uint32_t>(activation);
}

std::vector<Compiler::LinearMatrix> Compiler::linear_matrices(const LinearOp& op) {
  std::vector<LinearMatrix> matrices;
  for (const LinearPart& part : op.parts) {
    matrices.push_back(
        {part.weight, static_cast<size_t>(part.in), static_cast<size_t>(part.out), part.activation, part.accumulate});
  }
  return matrices;
}

std::vector<Compiler::PlacedMatrix> Compiler::placed_matrices(const WeightGroup& group,
                                                              std::span<const LinearMatrix> matrices) const {
  std::vector<PlacedMatrix> placed;
  for (const PlacedRows& rows : group.rows) {
    const auto found =
        std::find_if(matrices.begin(), matrices.end(), [&](const LinearMatrix& m) { return m.weight == rows.tensor; });
    if (found == matrices.end()) continue;
    const Tensor& weight = plan_.tensor(rows.tensor);
    const SlotPlace& in = slot(found->in);
    if (in.width != weight.ne0)
      throw InputError(message("[webgpu] ", weight.name, ": expected ne0 ", in.width, ", got ", weight.ne0));
    placed.push_back({static_cast<size_t>(found - matrices.begin()), *found, rows, weight, in, slot(found->out),
                      !found->float_input && reads_codes(rows.tensor)});
  }
  return placed;
}

PartFields Compiler::PlacedMatrix::part(uint32_t kind, bool quantize_out) const {
  return {.kind = kind,
          .weights = rows.at,
          .rows = rows.rows,
          .input = int8 ? in.codes : in.values,
          .heads = in.heads,
          .out = quantize_out ? out.codes : out.values,
          .out_heads = out.heads,
          .out_first = rows.first_row,
          .out_stride = out.padded,
          .activation = activation_number(matrix.activation, matrix.accumulate)};
}

uint32_t Compiler::whole_rows(const WeightGroup& group) const {
  uint32_t rows = 0;
  for (const PlacedRows& placed : group.rows) rows += plan_.tensor(placed.tensor).ne1;
  return rows;
}

bool Compiler::quantizes_out(const LinearMatrix& matrix) const {
  return slot(matrix.out).has_codes && uses_.at(matrix.out).codes_by_producer;
}

// The sum over a row's threads: neighbours, of a subgroup or of several (`wide`), unless the layout has them apart.
std::string Compiler::row_sum(uint32_t lanes, bool wide) const {
  if (model_.layout != 1) return message("row_sum(sums[i], thread, ", lanes, "u)");
  return wide ? message("wide_sum(sums[i], ", lanes, "u, thread)") : message("group_sum(sums[i], ", lanes, "u)");
}

void Compiler::add(const LinearOp& op, size_t op_index) {
  const std::vector<LinearMatrix> matrices = linear_matrices(op);
  std::string label = "linear";
  for (const LinearPart& part : op.parts) label += message(" ", plan_.slot(part.out).name);
  add_linear(label, matrices, model_.weights->groups(op_index), false);
  for (const LinearPart& part : op.parts) {
    const size_t out = static_cast<size_t>(part.out);
    if (slot(out).has_codes && !uses_[out].codes_by_producer) add_quantize(out, Grid::RowsY);
  }
}

// A type, width and precision: `lanes` threads share `rows` rows.
struct Compiler::LinearKind {
  uint32_t number, lanes, rows, groups, units;
  bool wide;  // lanes of several subgroups
  uint32_t rows_per_workgroup() const { return rows * groups; }
};

void Compiler::add_linear(const std::string& label, std::span<const LinearMatrix> matrices,
                          std::span<const WeightGroup> groups, bool of_head) {
  const uint32_t rows_at_once = of_head ? head_rows() : shape_.rows;
  if (matmat(rows_at_once) != MatMat::None) return add_matmat(label, matrices, groups, of_head, rows_at_once);
  if (rows_at_once > 1) return add_columns(label, matrices, groups, of_head);
  const bool quantize_out = quantizes_out(matrices[0]);
  // A quantizing workgroup needs 32 rows; one row for each group of threads is fastest.
  tune(label);
  const uint32_t workgroup = std::min(quantize_out ? tuning_.quantizing_workgroup : tuning_.workgroup, max_threads_);
  uint32_t most_lanes = std::min(32u, workgroup);
  const bool subgroups = use_subgroups(workgroup, quantize_out ? 8 : 1);
  if (subgroups) most_lanes = std::min(most_lanes, std::bit_floor(device_.subgroup_min_size()));
  // A thread has little of memory under way at once, so many threads fetch a long row faster: as many as the device can hold.
  const bool may_be_wide = subgroups && !quantize_out;

  for (const WeightGroup& group : groups) {
    std::map<std::tuple<DType, uint32_t, bool>, LinearKind> kinds;
    PartText parts("(part, thread, tile)");
    uint32_t outputs = 0;
    const uint32_t rows_of_all = whole_rows(group);
    // Each matrix begins with a workgroup of its own.
    const uint32_t most_workgroups = device_.limits().maxComputeWorkgroupsPerDimension - static_cast<uint32_t>(group.rows.size());
    ShaderText text = begin(workgroup, subgroups ? most_lanes : 32);
    text.file("weights").file("activations").file("activate").file("linear_part");
    text.constant("kTile", 1u).constant("kHeadRows", of_head).constant("kNarrow", most_lanes);
    if (quantize_out) text.file("quantize_quad");
    for (const PlacedMatrix& placed : placed_matrices(group, matrices)) {
      const auto [found, is_new] = kinds.emplace(placed.kind(), LinearKind{});
      LinearKind& kind = found->second;
      if (is_new) {
        const bool floats = is_float(placed.weight.type);
        const uint32_t wish = floats ? tuning_.float_lanes : tuning_.lanes;
        kind.number = static_cast<uint32_t>(kinds.size() - 1);
        kind.units = row_units(placed.weight);
        uint32_t most = most_lanes;
        while (may_be_wide && most < std::min(kMostWide, workgroup) && uint64_t{rows_of_all} * most * 2 <= tuning_.wide_threads)
          most *= 2;
        kind.lanes = wish != 0 ? std::min(std::bit_floor(wish), most) : choose_lanes(kind.units, most, rows_of_all, tuning_.threads);
        kind.wide = kind.lanes > most_lanes;
        kind.groups = workgroup / kind.lanes;
        kind.rows = std::max(1u, floats ? tuning_.float_rows : tuning_.rows);
        if (quantize_out && kind.rows_per_workgroup() % 32 != 0) kind.rows = ceil_div(32, kind.groups);
        // A head has more rows than a grid may have workgroups.
        while (ceil_div(rows_of_all, kind.rows_per_workgroup()) > most_workgroups) kind.rows *= 2;
        if (kind.wide) text.file("wide_sum");
        if (!floats) text.file(placed.int8 ? "dot_int8" : "dot_f32");
        text.file(floats ? "float_weights" : "decode_" + lower(traits(placed.weight.type).name));
        parts.add_kind(kind.number, linear_kind_text(kind, placed, quantize_out));
        outputs = std::max(outputs, kind.rows_per_workgroup());
      }
      count(placed.rows, placed.weight, placed.int8);
      parts.add(placed.part(kind.number, quantize_out), kind.rows_per_workgroup());
    }
    if (quantize_out) text.text(message("var<workgroup> outputs: array<f32, ", outputs, ">;"));
    parts.put(text, "linear");
    dispatch(label, text.str(), Bindings::Main, bind_main(label, &group), of_head ? Grid::HeadTiles : Grid::RowTiles,
             parts.workgroups());
  }
}

std::string Compiler::linear_kind_text(const LinearKind& kind, const PlacedMatrix& placed, bool quantize_out) const {
  const bool floats = is_float(placed.weight.type), int8 = placed.int8;
  const std::string name = message("k", kind.number);
  Substitutions all = {{"NAME", name},
                       {"TYPE", lower(traits(placed.weight.type).name)},
                       {"UNITS", message(kind.units)},
                       {"LANES", message(kind.lanes)},
                       {"ROWS", message(kind.rows)},
                       {"SUMS", message(kind.rows)},
                       {"INPUT_STRIDE", message(placed.in.values_stride())},
                       {"GROUPS", message(kind.groups)},
                       {"STRIDE", message(placed.rows.row_vec4s)},
                       {"EXACT", kind.units % kind.lanes == 0 ? "true" : "false"},
                       {"STEPS", step_calls(name, ceil_div(kind.units, kind.lanes), std::max(1u, tuning_.unroll))},
                       {"ROW_SUM", row_sum(kind.lanes, kind.wide)}};
  if (int8) {
    all.emplace_back("LOAD", message("load_input(part.input + (tile + m) * ", placed.in.codes_stride(), "u, part.heads + (tile + m) * ",
                                     placed.in.heads_stride(), "u, unit, ", placed.in.heads_stride(), "u)"));
    all.insert(all.end(), {{"DECODED", "Block"}, {"DECODE", ""}, {"DOT", scales_sixteens(placed.weight.type) ? "dot16" : "dot32"}});
  } else {
    all.emplace_back("LOAD", message("load_input_f32(part.input + (tile + m) * ", placed.in.values_stride(), "u, unit)"));
    all.insert(all.end(), {{"DECODED", "Unit"}, {"DECODE", "unit_values"}, {"DOT", "dot_f32"}});
  }
  all.emplace_back("BEFORE", quantize_out ? "" : instantiate("linear_before", all));
  all.emplace_back("FINISH", instantiate(quantize_out ? "linear_finish_quantized" : "linear_finish", all));
  return instantiate(floats ? "linear_float" : "linear_quant", all) + instantiate("linear_run", all);
}

}  // namespace rwkvnative::webgpu
