// Linear ops and the head: which threads take which rows of which matrix.
#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include "core/error.h"
#include "webgpu/compile.h"
#include "core/pack.h"

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

void Compiler::add_linear(const std::string& label, std::span<const LinearMatrix> matrices,
                          std::span<const WeightGroup> groups, bool of_head) {
  const uint32_t rows_at_once = of_head ? head_rows() : shape_.rows;
  if (matmat(rows_at_once) != MatMat::None) return add_matmat(label, matrices, groups, of_head, rows_at_once);
  if (rows_at_once > 1) return add_columns(label, matrices, groups, of_head);
  const uint32_t kTile = tile(rows_at_once);
  const bool quantize_out = slot(matrices[0].out).has_codes && uses_.at(matrices[0].out).codes_by_producer;
  // A quantizing workgroup needs 32 rows; one row for each group of threads is fastest.
  tune(label);
  const uint32_t workgroup = std::min(quantize_out ? tuning_.quantizing_workgroup : tuning_.workgroup, max_threads_);
  uint32_t most_lanes = std::min(32u, workgroup);
  const bool subgroups = use_subgroups(workgroup, quantize_out ? 8 : 1);
  if (subgroups) most_lanes = std::min(most_lanes, std::bit_floor(device_.subgroup_min_size()));
  // A thread has little of memory under way at once, so many threads fetch a long row faster: as many as the device can hold.
  const bool may_be_wide = kTile == 1 && subgroups && !quantize_out;

  struct Kind {
    uint32_t number, lanes, rows, groups;
    uint32_t rows_per_workgroup() const { return rows * groups; }
  };
  for (const WeightGroup& group : groups) {
    std::map<std::tuple<DType, uint32_t, bool>, Kind> kinds;
    std::string cases, instances, parts;
    uint32_t workgroups = 0, outputs = 0, rows_of_all = 0;
    // Of whole tensors: how a head is cut must not change its sums.
    for (const PlacedRows& placed_rows : group.rows) rows_of_all += plan_.tensor(placed_rows.tensor).ne1;
    ShaderText text = begin(workgroup, subgroups ? most_lanes : 32);
    text.constant("kTile", kTile).file("weights").file("activations").file("activate").file("linear_part");
    text.constant("kNarrow", most_lanes);
    if (quantize_out) text.file("quantize_quad");
    for (const PlacedRows& placed_rows : group.rows) {
      const auto matrix = std::find_if(matrices.begin(), matrices.end(),
                                       [&](const LinearMatrix& m) { return m.weight == placed_rows.tensor; });
      if (matrix == matrices.end()) continue;  // a vector of a Wkv7 op's group
      const Tensor& weight = plan_.tensor(placed_rows.tensor);
      const SlotPlace& in = slot(matrix->in);
      const SlotPlace& out = slot(matrix->out);
      if (in.width != weight.ne0)
        throw InputError(message("[webgpu] ", weight.name, ": expected ne0 ", in.width, ", got ", weight.ne0));
      const bool is_float = traits(weight.type).block_values == 1;
      const bool int8 = !matrix->float_input && reads_codes(placed_rows.tensor);
      const std::string type = lower(traits(weight.type).name);
      const bool new_kind = kinds.find({weight.type, weight.ne0, int8}) == kinds.end();
      Kind& kind = kinds[{weight.type, weight.ne0, int8}];
      if (new_kind) {
        const uint32_t steps = is_float ? ceil_div(weight.ne0, 8) : weight.ne0 / 32;
        const uint32_t wish = is_float ? tuning_.float_lanes : tuning_.lanes;
        kind.number = static_cast<uint32_t>(kinds.size() - 1);
        uint32_t most = most_lanes;
        while (may_be_wide && most < std::min(kMostWide, workgroup) && uint64_t{rows_of_all} * most * 2 <= tuning_.wide_threads)
          most *= 2;
        kind.lanes = wish != 0 ? std::min(std::bit_floor(wish), most) : choose_lanes(steps, most, rows_of_all, tuning_.threads);
        kind.groups = workgroup / kind.lanes;
        kind.rows = std::max(1u, is_float ? tuning_.float_rows : tuning_.rows);
        if (quantize_out && kind.rows_per_workgroup() % 32 != 0) kind.rows = ceil_div(32, kind.groups);
        const std::string name = message("k", kind.number);
        const std::string sums = message(kind.rows * kTile);
        const bool wide = kind.lanes > most_lanes;
        if (wide) text.file("wide_sum");
        const Substitutions numbers = {
            {"SUMS", sums},
            {"LANES", message(kind.lanes)},
            {"ROWS", message(kind.rows)},
            {"GROUPS", message(kind.groups)},
            {"ROW_SUM", row_sum(kind.lanes, wide)}};
        const auto finish = instantiate(quantize_out ? "linear_finish_quantized" : "linear_finish", numbers);
        std::string load, dot = "dot_f32";
        if (int8) {
          load = message("load_input(part.input + (tile + m) * ", in.codes_stride(), "u, part.heads + (tile + m) * ",
                         in.heads_stride(), "u, unit, ", in.heads_stride(), "u)");
          const bool sixteens = weight.type == DType::Q2_K || weight.type == DType::Q3_K || weight.type == DType::Q6_K;
          dot = sixteens ? "dot16" : "dot32";
          text.file("dot_int8");
        } else if (!is_float) {
          load = message("load_input_f32(part.input + (tile + m) * ", in.values_stride(), "u, unit)");
          text.file("dot_f32");
        }
        text.file(is_float ? "float_weights" : "decode_" + type);
        instances += instantiate(is_float ? "linear_float" : "linear_quant",
                                 {{"NAME", name},
                                  {"TYPE", type},
                                  {"UNITS", message(steps)},
                                  {"LANES", message(kind.lanes)},
                                  {"ROWS", message(kind.rows)},
                                  {"GROUPS", message(kind.groups)},
                                  {"SUMS", sums},
                                  {"BEFORE", quantize_out ? "" : instantiate("linear_before", numbers)},
                                  {"STEPS", step_calls(name, ceil_div(steps, kind.lanes), std::max(1u, tuning_.unroll))},
                                  {"EXACT", steps % kind.lanes == 0 ? "true" : "false"},
                                  {"STRIDE", message(placed_rows.row_vec4s)},
                                  {"INPUT_STRIDE", message(in.values_stride())},
                                  {"LOAD", load},
                                  {"DECODED", int8 ? "Block" : "Unit"},
                                  {"DECODE", int8 ? "" : "unit_values"},
                                  {"DOT", dot},
                                  {"FINISH", finish}});
        cases += message("case ", kind.number, "u: { run_", name, "(part, thread, tile); }\n    ");
        outputs = std::max(outputs, kind.rows_per_workgroup() * kTile);
      }
      count(placed_rows, weight, int8);
      const uint32_t first_workgroup = workgroups;
      workgroups += ceil_div(placed_rows.rows, kind.rows_per_workgroup());
      // Part(kind, weights, rows, first, input, heads, out, out_heads, out_first, out_stride, activation)
      parts += message("  if (workgroup < ", workgroups, "u) { return Part(", kind.number, "u, ", placed_rows.at, "u, ",
                       placed_rows.rows, "u, (workgroup - ", first_workgroup, "u) * ", kind.rows_per_workgroup(), "u, ",
                       int8 ? in.codes : in.values, "u, ", in.heads, "u, ", quantize_out ? out.codes : out.values, "u, ",
                       out.heads, "u, ", placed_rows.first_row, "u, ", out.padded, "u, ",
                       activation_number(matrix->activation, matrix->accumulate), "u); }\n");
    }
    text.constant("kHeadRows", of_head);
    if (quantize_out) text.text(message("var<workgroup> outputs: array<f32, ", outputs, ">;"));
    text.text(message("fn part_of(workgroup: u32) -> Part {\n", parts, "  return Part();\n}"));
    text.text(instances).text(instantiate("linear", {{"KINDS", cases}}));
    dispatch(label, text.str(), Bindings::Main, bind_main(label, &group), of_head ? Grid::HeadTiles : Grid::RowTiles,
             workgroups, kTile);
  }
}

}  // namespace rwkvnative::webgpu
