// Linear ops and the head for a few rows of activations: kernels/columns.wgsl.
#include <algorithm>
#include <bit>
#include <map>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMostSlices = 8;
constexpr uint32_t kMostFloatThreads = 128;  // of a row of a float matrix
constexpr uint32_t kManyRows = 6144, kHeadRows = 32768;  // of the matrices of a dispatch

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

// A type, width and precision: `lanes` threads and `slices` times as many share `rows` rows. They go over a row's units in chunks,
// whose activations, `planes` vec4s of a unit, are staged in workgroup memory; chunk 0: nothing is, each thread reads for itself.
struct Compiler::ColumnKind {
  bool is_float, int8;
  uint32_t number, lanes, slices, groups, rows, units, planes, chunk;
  uint32_t local() const { return groups * rows; }  // matrix rows of a workgroup
  uint32_t stride() const { return lanes * slices; }
  uint32_t staged(uint32_t columns) const { return columns * planes * chunk; }
};

// What a dispatch does: so many rows of matrices in all, for `tiles` times `columns` rows of activations.
struct Compiler::ColumnWork {
  uint32_t rows = 0, float_rows = 0, columns = 0, tiles = 0, workgroup = 0, most_lanes = 0;
  bool quantize_out = false, all_int8 = false;
  bool head() const { return rows >= kHeadRows; }
  bool many() const { return rows >= kManyRows && float_rows < rows; }
  bool wide() const { return columns >= 8; }  // the activations of a row's unit are more than its weights
};

// Threads of a workgroup. What counts is that all of them run at once, and as evenly on the multiprocessors as can be.
uint32_t Compiler::column_workgroup(const ColumnWork& work) const {
  if (tuning_.column_workgroup != 0) return tuning_.column_workgroup;
  if (work.float_rows == work.rows) return tuning_.workgroup;
  if (work.wide() && (work.quantize_out || work.head() || work.tiles > 1)) return tuning_.workgroup / 2;
  if (work.quantize_out) return tuning_.quantizing_workgroup;
  return work.head() || (work.many() && work.columns > 2) ? tuning_.workgroup : tuning_.workgroup / 2;
}

// Each choice is what measured best on a large GPU, kernel by kernel (docs/kernels.md).
void Compiler::spread(ColumnKind& kind, const ColumnWork& work) const {
  const uint32_t rows = kind.is_float ? work.float_rows : work.rows;
  const auto threads = [&] { return uint64_t{ceil_div(rows, kind.rows)} * work.tiles * kind.stride(); };
  const uint32_t wish = kind.is_float ? tuning_.float_lanes : tuning_.lanes;
  kind.slices = 1;
  kind.lanes = wish != 0 ? std::min(std::bit_floor(wish), work.most_lanes) : choose_lanes(kind.units, work.most_lanes, work.rows, 0);
  kind.rows = tuning_.column_rows != 0                         ? tuning_.column_rows
              : device_.info().kind == DeviceKind::Software    ? 1  // its compiler is slow
              : work.head()                                    ? (kind.int8 && work.wide() ? 4 : 2)
              : work.columns <= 2                              ? 1
              : work.many() && (work.tiles > 1 || (work.quantize_out && work.wide())) ? 4
                                                               : 2;
  // A quantizing workgroup needs 32 rows, and more rows a thread than these are more than it has registers for.
  while (work.quantize_out && kind.lanes > 1 && work.workgroup / kind.lanes * kind.rows < 32) kind.lanes /= 2;
  // Of workgroup memory an eighth is for sums, the rest for what is staged and for reductions.
  const uint32_t memory = device_.limits().maxComputeWorkgroupStorageSize;
  const auto too_many_sums = [&] { return work.workgroup / kind.lanes * kind.rows * work.columns > memory / 8 / sizeof(float); };
  while (kind.rows > 1 && too_many_sums()) kind.rows /= 2;
  while (kind.lanes < work.most_lanes && too_many_sums()) kind.lanes *= 2;

  // Staging pays where many matrix rows read the same activations, and all of these have room.
  const uint32_t reductions = work.workgroup * (use_subgroups(work.workgroup, kind.lanes) ? 1 : 16);
  const uint32_t fit = (memory - memory / 8 - reductions) / 16 / (work.columns * kind.planes);
  const bool whole = ceil_div(kind.units, kind.lanes) * kind.lanes <= fit;
  bool stage = whole && (kind.is_float ? kind.units <= 64 : work.all_int8 && work.many() && !work.wide());
  if (tuning_.column_stage != 0) stage = tuning_.column_stage == 2 && kind.lanes <= fit;
  // Threads that take little each are more at once; and rows of floats take long, and beside others are few.
  const bool light = kind.is_float || work.columns <= 2;
  const uint64_t wanted = light && !stage && work.tiles == 1 ? uint64_t{tuning_.threads} * 2 : tuning_.threads;
  const uint32_t most = kind.is_float ? std::min(work.workgroup, kMostFloatThreads) : work.workgroup;
  const auto possible = [&](uint32_t stride) { return stride <= std::min({kind.units, most, stage ? fit : UINT32_MAX}); };
  while (kind.slices < kMostSlices && possible(kind.stride() * 2) &&
         (tuning_.column_slices != 0 ? kind.slices < tuning_.column_slices : threads() < wanted)) {
    kind.slices *= 2;
  }
  const auto local = [&] { return work.workgroup / kind.stride() * kind.rows; };
  while (work.quantize_out && kind.slices > 1 && local() % 32 != 0) kind.slices /= 2;
  while (work.quantize_out && local() % 32 != 0) kind.rows *= 2;
  kind.groups = work.workgroup / kind.stride();
  kind.chunk = stage ? std::min(fit / kind.stride(), ceil_div(kind.units, kind.stride())) * kind.stride() : 0;
}

void Compiler::add_columns(const std::string& label, std::span<const LinearMatrix> matrices, std::span<const WeightGroup> groups,
                           bool of_head) {
  const uint32_t rows_at_once = of_head ? head_rows() : shape_.rows;
  ColumnWork work;
  work.columns = tile(rows_at_once);
  work.tiles = ceil_div(rows_at_once, work.columns);
  work.quantize_out = quantizes_out(matrices[0]);
  const uint32_t columns = work.columns;
  const bool quantize_out = work.quantize_out;
  tune(label);

  for (const WeightGroup& group : groups) {
    std::map<std::tuple<DType, uint32_t, bool>, ColumnKind> kinds;
    PartText parts("(part, thread, tile)");
    uint32_t sums = 0, staged = 0;
    work.rows = work.float_rows = 0;
    for (const LinearMatrix& matrix : matrices) {
      const auto here = [&](const PlacedRows& rows) { return rows.tensor == matrix.weight; };
      if (std::none_of(group.rows.begin(), group.rows.end(), here)) continue;
      const Tensor& weight = plan_.tensor(matrix.weight);  // all of it: how a head is cut must not change its sums
      work.rows += weight.ne1;
      if (is_float(weight.type)) work.float_rows += weight.ne1;
    }
    work.all_int8 = std::all_of(matrices.begin(), matrices.end(),
                                [&](const LinearMatrix& m) { return !m.float_input && reads_codes(m.weight); });
    work.workgroup = std::min(column_workgroup(work), max_threads_);
    const bool subgroups = use_subgroups(work.workgroup, quantize_out ? 8 : 1);
    work.most_lanes = subgroups ? std::min(32u, std::bit_floor(device_.subgroup_min_size())) : 32u;
    ShaderText text = begin(work.workgroup, work.most_lanes);
    text.constant("kTile", columns).constant("kHeadRows", of_head);
    text.file("weights").file("activations").file("activate").file("linear_part").file("dot_int8").file("dot_f32").file("float_weights");
    if (quantize_out) text.file("quantize_quad");
    for (const PlacedMatrix& placed : placed_matrices(group, matrices)) {
      const auto [found, is_new] = kinds.emplace(placed.kind(), ColumnKind{});
      ColumnKind& kind = found->second;
      if (is_new) {
        kind.is_float = is_float(placed.weight.type);
        kind.int8 = placed.int8;
        kind.number = static_cast<uint32_t>(kinds.size() - 1);
        kind.units = row_units(placed.weight);
        kind.planes = kind.int8 ? 3 : kind.is_float ? 2 : 8;
        spread(kind, work);
        if (!kind.is_float) text.file("decode_" + lower(traits(placed.weight.type).name));
        parts.add_kind(kind.number, column_kind_text(kind, placed, work));
        sums = std::max(sums, kind.local() * kind.slices * columns);
        staged = std::max(staged, kind.staged(columns));
      }
      count(placed.rows, placed.weight, placed.int8);
      parts.add(placed.part(kind.number, quantize_out), kind.local());
    }
    text.constant("kSums", sums).constant("kStaged", std::max(1u, staged)).file("columns_sum");
    parts.put(text, "columns");
    dispatch(label, text.str(), Bindings::Main, bind_main(label, &group), of_head ? Grid::HeadTiles : Grid::RowTiles,
             parts.workgroups(), columns);
  }
}

std::string Compiler::column_kind_text(const ColumnKind& kind, const PlacedMatrix& placed, const ColumnWork& work) const {
  const uint32_t columns = work.columns;
  const SlotPlace& in = placed.in;
  const std::string type = lower(traits(placed.weight.type).name), units = message(kind.units, "u");
  const bool is_float = kind.is_float, int8 = kind.int8;
  const bool direct = kind.chunk == 0;
  const uint32_t chunk = direct ? ceil_div(kind.units, kind.stride()) * kind.stride() : kind.chunk;
  const bool exact = kind.units % chunk == 0;
  const uint32_t chunks = ceil_div(kind.units, chunk);
  const auto load = [&](uint32_t r, const std::string& unit) {
    return message("load_", type, "(row", r, ", min(", unit, ", ", kind.units - 1, "u), ", units, ")");
  };
  // Vec4 p of the activations of a unit, for row m of them.
  const auto staged = [&](const std::string& m, uint32_t p) {
    if (!direct) return message("staged[(", m, " * ", kind.planes, "u + ", p, "u) * ", chunk, "u + at]");
    if (!int8) return message("act[part.input + (tile + ", m, ") * ", in.values_stride(), "u + unit * ", kind.planes, "u + ", p, "u]");
    return p == 2 ? message("act[part.heads + (tile + ", m, ") * ", in.heads_stride(), "u + unit]")
                  : message("act[part.input + (tile + ", m, ") * ", in.codes_stride(), "u + ", p * in.heads_stride(), "u + unit]");
  };
  const auto value = [&](const std::string& m, uint32_t p) { return message("bitcast<vec4<f32>>(", staged(m, p), ")"); };

  // A step: takes the weights that are on their way, asks for the next, multiplies.
  std::string step = message("let unit = min(wanted, ", kind.units - 1, "u);\n  let exists = ",
                             exact ? std::string("true") : "wanted < " + units, ";\n  wanted += ", kind.stride(), "u;\n  ");
  for (uint32_t r = 0; r < kind.rows; ++r)
    step += message("let w", r, " = next", r, ";\n  next", r, " = ", load(r, "wanted"), ";\n  ");
  for (uint32_t r = 0; r < kind.rows; ++r) {
    const std::string block = message("unpack_", type, "(w", r, ", row", r, ", unit, ", units, ")");
    if (is_float) {
      step += message("let d", r, " = unpack_", type, "(w", r, ");\n  ");
    } else if (int8) {
      step += message("var d", r, " = ", block, ";\n  ");
      if (!exact) step += message("if (!exists) { d", r, ".scale = vec2(0.0); d", r, ".offset = vec2(0.0); }\n  ");
    } else {
      step += message("let d", r, " = unit_values(", block, ");\n  ");
    }
  }
  const auto products = [&](const std::string& m, const std::string& x) {
    std::string text;
    for (uint32_t r = 0; r < kind.rows; ++r) {
      const std::string sum = message("sums[", m, " * ", kind.rows, "u + ", r, "u]");
      const std::string product = message(is_float ? "dot_octets(d" : "dot_f32(d", r, ", ", x, ")");
      text += int8    ? message(sum, " = add_dot", scales_sixteens(placed.weight.type) ? "16(" : "32(", sum, ", d", r, ", ", x, ");\n  ")
              : exact ? message(sum, " += ", product, ";\n  ")
                      : message(sum, " += select(0.0, ", product, ", exists);\n  ");
    }
    return text;
  };
  if (int8 || is_float) {
    for (uint32_t m = 0; m < columns; ++m) {
      const std::string row = message(m, "u"), x = message("x", m);
      step += int8 ? message("let ", x, " = Input(", staged(row, 0), ", ", staged(row, 1), ", ", value(row, 2), ");\n  ")
                   : message("let ", x, " = Octet(", value(row, 0), ", ", value(row, 1), ");\n  ");
      step += products(row, x);
    }
  } else {  // a loop: what it saves is the time of a compiler
    step += message("for (var m = 0u; m < ", columns, "u; m++) {\n  let x = Unit(");
    for (uint32_t p = 0; p < kind.planes; ++p) step += (p != 0 ? ", " : "") + value("m", p);
    step += ");\n  " + products("m", "x") + "}\n  ";
  }

  // What a thread stages of the chunk that begins at unit `first`: its vec4 number `i`.
  const uint32_t workgroup = work.workgroup, all = kind.staged(columns), each = ceil_div(all, workgroup);
  const auto fetch = [&](const std::string& first) {
    std::string text;
    for (uint32_t i = 0; i < each; ++i)
      text += message("ahead", i, " = fetch_k", kind.number, "(part, tile, thread + ", i * workgroup, "u, ", first, ");\n  ");
    return text;
  };
  std::string text;
  for (uint32_t r = 0; r < kind.rows; ++r) {
    text += message("let row", r, " = row_at(part.weights, min(part.first + group * ", kind.rows, "u + ", r, "u, part.rows - 1u), ",
                    placed.rows.row_vec4s, "u, part.rows);\n  ");
  }
  text += message("var sums: array<f32, ", columns * kind.rows, ">;\n  let first = slice * ", kind.lanes,
                  "u + lane;\n  var wanted = first;\n  ");
  for (uint32_t r = 0; r < kind.rows; ++r) text += message("var next", r, " = ", load(r, "wanted"), ";\n  ");
  for (uint32_t i = 0; i < each; ++i) text += message("var ahead", i, ": vec4<u32>;\n  ");
  text += fetch("0u");
  if (chunks > 1) text += message("for (var chunk = 0u; chunk < ", chunks, "u; chunk++) {\n  workgroupBarrier();\n  ");
  for (uint32_t i = 0; i < each; ++i) {
    const std::string store = message("staged[thread + ", i * workgroup, "u] = ahead", i, ";");
    text += (i + 1) * workgroup <= all ? store + "\n  " : message("if (thread < ", all - i * workgroup, "u) { ", store, " }\n  ");
  }
  if (!direct) text += "workgroupBarrier();\n  ";
  if (chunks > 1) text += fetch(message("(chunk + 1u) * ", chunk, "u"));
  // A loop, however few its steps are: the kernels of a layer share a multiprocessor's memory for instructions, some 128 KB.
  text += message("for (var at = first; at < ", chunk, "u; at += ", kind.stride(), "u) {\n  ", step, "}\n  ");
  if (chunks > 1) text += "}\n  ";

  const uint32_t n = columns * kind.rows;
  const Meeting meeting = meet(n, kind.lanes);
  std::string together = meeting.text + message("let at_sums = thread / ", kind.lanes, "u * ", n, "u + ", meeting.base, ";\n  ");
  for (size_t i = 0; i < meeting.names.size(); ++i)
    together += message("column_sums[at_sums + ", i, "u] = ", meeting.names[i], ";\n  ");
  const std::string finish = instantiate(work.quantize_out ? "columns_finish_quantized" : "columns_finish",
                                         {{"LOCAL", message(kind.local())},
                                          {"ROWS", message(kind.rows)},
                                          {"SLICES", message(kind.slices)}});
  const std::string fetching = direct ? std::string() : instantiate(int8 ? "columns_fetch_int8" : "columns_fetch_f32",
                     {{"NAME", message("k", kind.number)},
                      {"CHUNK", message(chunk)},
                      {"PLANES", message(kind.planes)},
                      {"UNITS", units},
                      {"VALUES_STRIDE", message(in.values_stride())},
                      {"CODES_STRIDE", message(in.codes_stride())},
                      {"HEADS_STRIDE", message(in.heads_stride())}});
  return fetching + instantiate("columns_kind", {{"NAME", message("k", kind.number)},
                                      {"LANES", message(kind.lanes)},
                                      {"SLICES", message(kind.slices)},
                                      {"ROWS", message(kind.rows)},
                                      {"STEPS", text},
                                      {"MEET", together},
                                      {"FINISH", finish}});
}

}  // namespace rwkvnative::webgpu
