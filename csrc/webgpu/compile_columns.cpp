// Linear ops and the head for a few rows of activations: kernels/columns.wgsl.
#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kStraightSteps = 6;  // of a row that are printed one after the other; more become a loop
constexpr uint32_t kMostSlices = 8;

// Adds up `sums`, n of them, over `lanes` neighbouring threads. While there are several, each step halves their number too: a
// thread keeps one half and gives the other away. `names` are those that a thread is left with, `base` the number of the first.
struct Meeting {
  std::string text, base = "0u";
  std::vector<std::string> names;
};

Meeting meet(uint32_t n, uint32_t lanes) {
  Meeting m;
  for (uint32_t i = 0; i < n; ++i) m.names.push_back(message("sums[", i, "]"));
  for (uint32_t step = lanes / 2; step != 0; step /= 2) {
    const bool halve = m.names.size() % 2 == 0;
    const size_t left = halve ? m.names.size() / 2 : m.names.size();
    std::vector<std::string> names;
    if (halve) m.base += message(" + select(0u, ", left, "u, (lane & ", step, "u) != 0u)");
    for (size_t i = 0; i < left; ++i) {
      const std::string& a = m.names[i];
      const std::string& b = halve ? m.names[i + left] : a;
      const std::string name = message("sum", i, "_", step), upper = message("(lane & ", step, "u) != 0u");
      m.text += halve ? message("let ", name, " = select(", a, ", ", b, ", ", upper, ") + other_lane(select(", b, ", ", a, ", ",
                                upper, "), ", step, "u);\n  ")
                      : message("let ", name, " = ", a, " + other_lane(", a, ", ", step, "u);\n  ");
      names.push_back(name);
    }
    m.names = std::move(names);
  }
  return m;
}

}  // namespace

// A type, width and precision: `lanes` threads and `slices` times as many share `rows` rows, and take `steps` steps for them.
struct Compiler::ColumnKind {
  bool is_float, int8;
  uint32_t number, lanes, slices, groups, rows, units, steps;
  uint32_t local() const { return groups * rows; }  // matrix rows of a workgroup
};

// Threads enough to keep the device busy; several rows for a thread only where there are that many anyway.
void Compiler::spread(ColumnKind& kind, uint32_t workgroup, uint32_t most_lanes, uint32_t rows, uint32_t columns, uint32_t tiles,
                      bool quantize_out) const {
  const auto threads = [&](uint32_t rows_each) { return uint64_t{ceil_div(rows, rows_each)} * tiles * kind.lanes; };
  const uint32_t wish = kind.is_float ? tuning_.float_lanes : tuning_.lanes;
  kind.lanes = wish != 0 ? std::min(std::bit_floor(wish), most_lanes) : choose_lanes(kind.units, most_lanes, rows, 0);
  // Weights that are decoded to float32 take four times the registers.
  kind.rows = kind.int8 && columns > 4 && threads(4) * 2 >= tuning_.threads ? 4 : 2;
  if (device_.info().kind == DeviceKind::Software) kind.rows = 1;  // its compiler is slow
  if (tuning_.column_rows != 0) kind.rows = tuning_.column_rows;
  const uint32_t most_sums = device_.limits().maxComputeWorkgroupStorageSize / sizeof(float) / 2;
  while (kind.rows > 1 && workgroup / kind.lanes * kind.rows * columns > most_sums) kind.rows /= 2;
  while (kind.lanes < most_lanes && workgroup / kind.lanes * kind.rows * columns > most_sums) kind.lanes *= 2;
  kind.slices = 1;
  while (kind.slices < kMostSlices && threads(kind.rows) * kind.slices < tuning_.threads &&
         kind.lanes * kind.slices * 2 <= std::min(kind.units, workgroup)) {
    kind.slices *= 2;
  }
  const auto local = [&] { return workgroup / (kind.lanes * kind.slices) * kind.rows; };
  while (quantize_out && kind.slices > 1 && local() % 32 != 0) kind.slices /= 2;
  while (quantize_out && local() % 32 != 0) kind.rows *= 2;
  kind.groups = workgroup / (kind.lanes * kind.slices);
  kind.steps = ceil_div(kind.units, kind.lanes * kind.slices);
}

void Compiler::add_columns(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const WeightGroup> groups,
                           bool of_head) {
  const uint32_t rows_at_once = of_head ? head_rows() : shape_.rows;
  const uint32_t columns = tile(rows_at_once), tiles = ceil_div(rows_at_once, columns);
  const bool quantize_out = slot(matrices[0].out).has_codes && uses_.at(matrices[0].out).codes_by_producer;
  tune(label);
  const uint32_t workgroup = std::min(quantize_out ? tuning_.quantizing_workgroup : tuning_.workgroup, max_threads_);
  uint32_t most_lanes = std::min(32u, workgroup);
  const bool subgroups = use_subgroups(workgroup, quantize_out ? 8 : 1);
  if (subgroups) most_lanes = std::min(most_lanes, std::bit_floor(device_.subgroup_min_size()));

  for (const WeightGroup& group : groups) {
    std::map<std::tuple<DType, uint32_t, bool>, ColumnKind> kinds;
    std::string cases, instances, parts;
    uint32_t workgroups = 0, sums = 0, rows_of_all = 0;
    // Of whole tensors: how a head is cut must not change its sums.
    for (const PlacedRows& placed_rows : group.rows) rows_of_all += plan_.tensor(placed_rows.tensor).ne1;
    ShaderText text = begin(workgroup, subgroups ? most_lanes : 32);
    text.constant("kTile", columns).constant("kHeadRows", of_head);
    text.file("weights").file("activations").file("activate").file("linear_part").file("dot_int8").file("dot_f32").file("float_weights");
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
      const auto [found, is_new] = kinds.emplace(std::tuple(weight.type, weight.ne0, int8), ColumnKind{});
      ColumnKind& kind = found->second;
      if (is_new) {
        kind.is_float = is_float;
        kind.int8 = int8;
        kind.number = static_cast<uint32_t>(kinds.size() - 1);
        kind.units = is_float ? ceil_div(weight.ne0, 8) : weight.ne0 / 32;
        spread(kind, workgroup, most_lanes, rows_of_all, columns, tiles, quantize_out);
        if (!is_float) text.file("decode_" + lower(traits(weight.type).name));
        instances += column_kind_text(kind, weight, in, placed_rows.row_vec4s, columns, quantize_out);
        cases += message("case ", kind.number, "u: { run_k", kind.number, "(part, thread, tile); }\n    ");
        sums = std::max(sums, kind.local() * kind.slices * columns);
      }
      count(placed_rows, weight, int8);
      const uint32_t first_workgroup = workgroups;
      workgroups += ceil_div(placed_rows.rows, kind.local());
      // Part(kind, weights, rows, first, input, heads, out, out_heads, out_first, out_stride, activation)
      parts += message("  if (workgroup < ", workgroups, "u) { return Part(", kind.number, "u, ", placed_rows.at, "u, ",
                       placed_rows.rows, "u, (workgroup - ", first_workgroup, "u) * ", kind.local(), "u, ",
                       int8 ? in.codes : in.values, "u, ", in.heads, "u, ", quantize_out ? out.codes : out.values, "u, ",
                       out.heads, "u, ", placed_rows.first_row, "u, ", out.padded, "u, ",
                       activation_number(matrix->activation, matrix->accumulate), "u); }\n");
    }
    text.constant("kSums", sums).file("columns_sum");
    text.text(message("fn part_of(workgroup: u32) -> Part {\n", parts, "  return Part();\n}"));
    text.text(instances).text(instantiate("columns", {{"KINDS", cases}}));
    dispatch(label, text.str(), Bindings::Main, bind_main(label, &group), of_head ? Grid::HeadTiles : Grid::RowTiles,
             workgroups, columns);
  }
}

std::string Compiler::column_kind_text(const ColumnKind& kind, const Tensor& weight, const SlotPlace& in, uint32_t row_vec4s,
                                       uint32_t columns, bool quantize_out) const {
  const std::string type = lower(traits(weight.type).name), units = message(kind.units, "u");
  const bool is_float = kind.is_float, int8 = kind.int8;
  const bool sixteens = weight.type == DType::Q2_K || weight.type == DType::Q3_K || weight.type == DType::Q6_K;
  const uint32_t stride = kind.lanes * kind.slices;  // units of a step
  const bool exact = kind.steps * stride == kind.units;
  const auto unit = [&](const std::string& wanted) { return exact ? wanted : message("min(", wanted, ", ", kind.units - 1, "u)"); };
  const auto load = [&](uint32_t r, const std::string& at) { return message("load_", type, "(row", r, ", ", at, ", ", units, ")"); };
  // Sums up the products of the loaded w<suffix>_<row> at unit `at`, which is there if `exists`.
  const auto dots = [&](const std::string& suffix, const std::string& at, const std::string& exists) {
    std::string text;
    for (uint32_t r = 0; r < kind.rows; ++r) {
      const std::string w = message("w", suffix, "_", r), d = message("d", suffix, "_", r);
      const std::string block = message("unpack_", type, "(", w, ", row", r, ", ", at, ", ", units, ")");
      if (is_float) {
        text += message("let ", d, " = unpack_", type, "(", w, ");\n  ");
      } else if (int8) {
        text += message("var ", d, " = ", block, ";\n  ");
        if (!exact) text += message("if (!(", exists, ")) { ", d, ".scale = vec2(0.0); ", d, ".offset = vec2(0.0); }\n  ");
      } else {
        text += message("let ", d, " = unit_values(", block, ");\n  ");
      }
    }
    const auto values = [&](const std::string& m) {
      return message("part.input + (tile + ", m, ") * ", in.values_stride(), "u");
    };
    const auto where_it_exists = [&](std::string product) {
      return exact ? product : message("select(0.0, ", product, ", ", exists, ")");
    };
    if (!is_float && !int8) {  // a loop: what it saves is the time of a compiler
      text += message("for (var m = 0u; m < ", columns, "u; m++) {\n    let x = load_input_f32(", values("m"), ", ", at, ");\n    ");
      for (uint32_t r = 0; r < kind.rows; ++r) {
        text += message("sums[m * ", kind.rows, "u + ", r, "u] += ",
                        where_it_exists(message("dot_f32(d", suffix, "_", r, ", x)")), ";\n    ");
      }
      return text + "}\n  ";
    }
    for (uint32_t m = 0; m < columns; ++m) {
      const std::string x = message("x", suffix, "_", m);
      if (is_float) {
        const std::string first = values(message(m, "u")) + " + 2u * " + at;
        text += message("let ", x, "l = act_vec4(", first, ");\n  let ", x, "h = act_vec4(", first, " + 1u);\n  ");
      } else {
        text += message("let ", x, " = load_input(part.input + (tile + ", m, "u) * ", in.codes_stride(), "u, part.heads + (tile + ",
                        m, "u) * ", in.heads_stride(), "u, ", at, ", ", in.heads_stride(), "u);\n  ");
      }
      for (uint32_t r = 0; r < kind.rows; ++r) {
        const std::string sum = message("sums[", m * kind.rows + r, "]"), d = message("d", suffix, "_", r);
        text += int8 ? message(sum, " = add_dot", sixteens ? "16(" : "32(", sum, ", ", d, ", ", x, ");\n  ")
                     : message(sum, " += ", where_it_exists(message("dot(", d, ".low, ", x, "l) + dot(", d, ".high, ", x, "h)")),
                               ";\n  ");
      }
    }
    return text;
  };

  std::string text;
  for (uint32_t r = 0; r < kind.rows; ++r) {
    text += message("let row", r, " = part.weights + min(part.first + group * ", kind.rows, "u + ", r, "u, part.rows - 1u) * ",
                    row_vec4s, "u;\n  ");
  }
  text += message("var sums: array<f32, ", columns * kind.rows, ">;\n  ");
  text += message("let first = slice * ", kind.lanes, "u + lane;\n  ");
  if (kind.steps <= kStraightSteps) {
    const auto load_step = [&](uint32_t step) {
      std::string loads = message("let at", step, " = ", unit(message("first + ", step * stride, "u")), ";\n  ");
      for (uint32_t r = 0; r < kind.rows; ++r)
        loads += message("let w", step, "_", r, " = ", load(r, message("at", step)), ";\n  ");
      return loads;
    };
    text += load_step(0);
    for (uint32_t step = 0; step < kind.steps; ++step) {
      if (step + 1 < kind.steps) text += load_step(step + 1);
      text += dots(message(step), message("at", step), message("first + ", step * stride, "u < ", units));
    }
  } else {
    text += "var wanted = first;\n  ";
    for (uint32_t r = 0; r < kind.rows; ++r) text += message("var next", r, " = ", load(r, unit("wanted")), ";\n  ");
    text += message("for (var step = 0u; step < ", kind.steps, "u; step++) {\n  let at = ", unit("wanted"), ";\n  let exists = ",
                    exact ? std::string("true") : "wanted < " + units, ";\n  wanted += ", stride, "u;\n  ");
    for (uint32_t r = 0; r < kind.rows; ++r) {
      text += message("let w_", r, " = next", r, ";\n  next", r, " = ", load(r, message("min(wanted, ", kind.units - 1, "u)")),
                      ";\n  ");
    }
    text += dots("", "at", "exists") + "}\n  ";
  }

  const uint32_t n = columns * kind.rows;
  const Meeting meeting = meet(n, kind.lanes);
  std::string together = meeting.text + message("let at_sums = thread / ", kind.lanes, "u * ", n, "u + ", meeting.base, ";\n  ");
  for (size_t i = 0; i < meeting.names.size(); ++i)
    together += message("column_sums[at_sums + ", i, "u] = ", meeting.names[i], ";\n  ");
  const std::string finish = instantiate(quantize_out ? "columns_finish_quantized" : "columns_finish",
                                         {{"LOCAL", message(kind.local())},
                                          {"ROWS", message(kind.rows)},
                                          {"SLICES", message(kind.slices)}});
  return instantiate("columns_kind", {{"NAME", message("k", kind.number)},
                                      {"LANES", message(kind.lanes)},
                                      {"SLICES", message(kind.slices)},
                                      {"ROWS", message(kind.rows)},
                                      {"STEPS", text},
                                      {"MEET", together},
                                      {"FINISH", finish}});
}

}  // namespace rwkvnative::webgpu
