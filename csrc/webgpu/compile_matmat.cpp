// Linear ops and the head for many rows of activations: tiles of outputs, multiplied by subgroup matrices (float16, float32
// sums) where the device has them, or in float32 by registers.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

// Measured on a large GPU (docs/performance.md); fewer rows take a smaller tile rather than compute what is thrown away.
using Tile = MatMatTile;
constexpr std::array kTiles = {Tile{16, 64, 1, 4}, Tile{32, 64, 2, 2}, Tile{64, 64, 2, 2}, Tile{128, 128, 2, 4}};
constexpr uint32_t kPlainThreads = 128;  // of the product without subgroup matrices
constexpr uint32_t kFloatTile = 64;      // of kernels/matmat_f32.wgsl
constexpr uint32_t kFloatThreads = 256;
constexpr uint32_t kMaxSplits = 16;
constexpr uint32_t kMinSteps = 4;  // of a split

// Weights become float16 times this: a scale of a block may be small, and a float16 below 2^-14 loses digits.
constexpr float kWeightScale = 16.0f;

// The text that multiplies a slice, for the $ of kernels/matmat_run.wgsl.
struct Product {
  std::string start, multiply, store, finish;
};

Product matrix_product(const Tile& tile, const MatrixShape& shape) {
  const uint32_t down = tile.rows / tile.down / shape.m, along = tile.outs / tile.along / shape.n;
  Product text;
  text.start = "let left = subgroup % kSubgroupsDown * kSubgroupRows * kRowHalves;\n"
               "  let right = kWeightsAt + subgroup / kSubgroupsDown * kSubgroupOuts * kRowHalves;\n";
  for (uint32_t i = 0; i < down; ++i) {
    for (uint32_t j = 0; j < along; ++j) {
      text.start += message("  var sum_", i, "_", j, ": subgroup_matrix_result<f32, ", shape.n, ", ", shape.m, ">;\n");
      text.store += message("subgroupMatrixStore<row_major>(&sums, at + ", i * shape.m, "u * part.out_stride + ", j * shape.n,
                            "u, sum_", i, "_", j, ", part.out_stride);\n    ");
      text.finish += message("subgroupMatrixStore<row_major>(&done, subgroup * kMatrixM * kDone, sum_", i, "_", j,
                             ", kDone);\n  finish(part, row, thread, ", i * shape.m, "u, ", j * shape.n, "u);\n  ");
    }
  }
  for (uint32_t k = 0; k < 64; k += shape.k) {
    for (uint32_t i = 0; i < down; ++i) {
      text.multiply += message("let a", k, "_", i, " = subgroupMatrixLoad<subgroup_matrix_left<f16, ", shape.k, ", ", shape.m,
                               ">, row_major>(&slice, left + ", i * shape.m, "u * kRowHalves + ", k, "u, kRowHalves);\n    ");
    }
    for (uint32_t j = 0; j < along; ++j) {
      text.multiply += message("let b", k, "_", j, " = subgroupMatrixLoad<subgroup_matrix_right<f16, ", shape.n, ", ", shape.k,
                               ">, col_major>(&slice, right + ", j * shape.n, "u * kRowHalves + ", k, "u, kRowHalves);\n    ");
    }
    for (uint32_t i = 0; i < down; ++i) {
      for (uint32_t j = 0; j < along; ++j) {
        const std::string sum = message("sum_", i, "_", j);
        text.multiply +=
            message(sum, " = subgroupMatrixMultiplyAccumulate(a", k, "_", i, ", b", k, "_", j, ", ", sum, ");\n    ");
      }
    }
  }
  text.finish = "if (part.to_sums == 1u) {\n"
                "    let at = part.out + (row + subgroup % kSubgroupsDown * kSubgroupRows) * part.out_stride + part.first +\n"
                "             subgroup / kSubgroupsDown * kSubgroupOuts;\n    " +
                text.store + "return;\n  }\n  " + text.finish;
  return text;
}

bool fits(const Tile& tile, const MatrixShape& shape) {
  return tile.rows / tile.down % shape.m == 0 && tile.outs / tile.along % shape.n == 0 && 64 % shape.k == 0;
}

// Bytes of workgroup memory that kernels/matmat_halves.wgsl and matmat_matrix.wgsl take.
uint32_t memory(const Tile& tile, const MatrixShape& shape) {
  return (tile.rows + tile.outs) * 72 * 2 + tile.down * tile.along * shape.m * (shape.n + 4) * 4;
}

const Tile& choose_tile(const Device& device, uint32_t rows, uint32_t wish, uint32_t max_threads) {
  const MatrixShape shape = device.matrix().value_or(MatrixShape{16, 16, 16, 32});
  const auto possible = [&](const Tile& tile) {
    return fits(tile, shape) && memory(tile, shape) <= device.limits().maxComputeWorkgroupStorageSize &&
           tile.down * tile.along * shape.lanes <= max_threads;
  };
  const Tile* best = nullptr;
  for (const Tile& tile : kTiles) {
    if (!possible(tile)) continue;
    if (wish != 0 && tile.rows != wish) continue;
    best = &tile;
    if (tile.rows >= rows) break;
  }
  if (best == nullptr) {
    throw InputError(message("[webgpu] ", device.info().name, ": no tile of ", wish, " rows; there are 16, 32, 64 and 128, as "
                             "far as workgroup memory allows"));
  }
  return *best;
}

}  // namespace

// How a program multiplies `rows` rows of activations with a matrix. Constants of the whole model, not of a kind of dispatch:
// what the inputs are packed as depends on it.
MatMat Compiler::matmat(uint32_t rows) const {
  const Tuning& tuning = tuned_.all;
  if (tuning.matmat == 1 || rows < tuning.matmat_rows) return MatMat::None;
  if (tuning.matmat == 0) {
    if (device_.info().kind == DeviceKind::Software) return MatMat::None;  // its compiler takes longer than this saves
    if (model_.int8 && device_.matrix()) return MatMat::Matrix;
    return rows < kFloatTile / 2 ? MatMat::None : MatMat::Float;
  }
  const auto form = static_cast<MatMat>(tuning.matmat - 1);
  if ((form == MatMat::Matrix && !device_.matrix()) || (form == MatMat::Plain && !device_.half())) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: matmat=", tuning.matmat, ": ", device_.info().name, " has no ",
                             form == MatMat::Plain ? "shader-f16" : "subgroup matrices of f16 with f32 sums"));
  }
  return form;
}

// Packs the inputs of `matrices` as float16: kernels/pack_halves.wgsl.
void Compiler::add_pack(std::span<const LinearMatrix> matrices, bool of_head) {
  std::vector<size_t> inputs;
  for (const LinearMatrix& matrix : matrices) {
    const bool packed = matrix.in < uses_.size() && uses_[matrix.in].halves_by_producer;
    if (!packed && std::find(inputs.begin(), inputs.end(), matrix.in) == inputs.end()) inputs.push_back(matrix.in);
  }
  if (inputs.empty()) return;
  std::vector<uint32_t> table;
  for (size_t input : inputs) {
    const SlotPlace& in = slot(input);
    table.insert(table.end(), {in.values, in.values_stride(), in.halves, in.halves_stride(), in.scales, 0, 0, 0});
  }
  ShaderText text;
  text.constant("kWorkgroup", 128u).file("activations").file("pack_halves");
  dispatch("pack", text.str(), Bindings::Parts, bind_parts("pack", nullptr, table),
           of_head ? Grid::HeadRows : Grid::RowsBy, static_cast<uint32_t>(inputs.size()));
}

// bind_main() and a table for the kernel.
BindGroupHandle Compiler::bind_parts(const std::string& label, const WeightGroup* group, std::span<const uint32_t> table) {
  Buffer buffer = device_.create_buffer(label, table.size_bytes(), WGPUBufferUsage_Storage | WGPUBufferUsage_CopyDst);
  device_.write(buffer.get(), 0, std::as_bytes(table));
  const Pipelines::Range weights = group == nullptr
                                       ? Pipelines::Range{compiled_.dummy.get(), 0, 16}
                                       : Pipelines::Range{model_.weights->buffer(*group), group->offset, group->bytes};
  const Pipelines::Range ranges[] = {
      weights, {compiled_.activations.buffer().get()}, {compiled_.params.get()}, {buffer.get()},
      {compiled_.sums.get()}};
  compiled_.tables.push_back(std::move(buffer));
  return model_.pipelines->bind(label, Bindings::Parts, ranges);
}

Compiler::Tiling Compiler::tiling(uint32_t rows) const {
  Tiling tiling{.form = matmat(rows), .tile = {kFloatTile, kFloatTile, 1, 1}, .threads = kFloatThreads};
  if (tiling.form == MatMat::Matrix || tiling.form == MatMat::Plain) {
    tiling.tile = choose_tile(device_, rows, tuned_.all.matmat_tile, max_threads_);
    tiling.threads = tiling.form == MatMat::Matrix ? tiling.tile.down * tiling.tile.along * device_.matrix()->lanes
                                                   : std::min(kPlainThreads, tiling.tile.outs * 2);
  }
  return tiling;
}

// How many workgroups share a tile of each of an op's matrices.
std::vector<uint32_t> Compiler::splits(std::span<const LinearMatrix> matrices, uint32_t rows) const {
  // A chunk that a memory budget made shorter is split like the usual one: the same sums, to the bit.
  if (rows == model_.prefill_rows || (rows == model_.logits_rows && shape_.readout == Readout::AllLogits)) rows = model_.usual_rows;
  const Tiling tiling = this->tiling(rows);
  uint64_t threads = 0;
  for (const LinearMatrix& matrix : matrices)
    threads += uint64_t{ceil_div(plan_.tensor(matrix.weight).ne1, tiling.tile.outs)} * tiling.threads;
  threads *= ceil_div(rows, tiling.tile.rows);
  const auto wanted = static_cast<uint32_t>(tuned_.all.threads / std::max<uint64_t>(1, threads));
  std::vector<uint32_t> splits;
  for (const LinearMatrix& matrix : matrices) {
    const uint32_t steps = ceil_div(plan_.tensor(matrix.weight).ne0, tiling.step());
    const uint32_t count = std::clamp(wanted, 1u, std::max(1u, std::min(kMaxSplits, steps / kMinSteps)));
    splits.push_back(ceil_div(steps, ceil_div(steps, count)));  // none without a step
  }
  return splits;
}

// Where the sums of a matrix go: outputs of a split, whole tiles of them.
static uint32_t sums_width(const Tensor& weight, const MatMatTile& tile) { return ceil_div(weight.ne1, tile.outs) * tile.outs; }

// Values of memory for the sums of each row of activations: of the op that has most.
uint32_t Compiler::all_sums_width() const {
  const Tiling of_rows = tiling(shape_.rows);
  if (of_rows.form == MatMat::None) return 0;
  uint32_t most = 0;
  const auto consider = [&](std::span<const LinearMatrix> matrices) {
    const std::vector<uint32_t> split = splits(matrices, shape_.rows);
    uint32_t width = 0;
    for (size_t i = 0; i < matrices.size(); ++i) width += split[i] * sums_width(plan_.tensor(matrices[i].weight), of_rows.tile);
    most = std::max(most, width);
  };
  for (const Op& op : plan_.ops) {
    if (const auto* linear = std::get_if<LinearOp>(&op)) consider(linear_matrices(*linear));
    if (const auto* wkv7 = std::get_if<Wkv7Op>(&op)) consider(second_loras(*wkv7));
  }
  return most;
}

// The switch cases that call `call` with each type; the last one is the default.
static std::string by_kind(const std::vector<DType>& kinds, std::string_view begin, std::string_view end) {
  std::string cases;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const std::string label = i + 1 == kinds.size() ? "default" : message("case ", i, "u");
    cases += message(label, ": { ", begin, lower(traits(kinds[i]).name), end, " }\n    ");
  }
  return cases;
}

// The kernel's text for tiles of matrices of these types.
std::string Compiler::matmat_text(const Tiling& tiling, const std::vector<DType>& kinds) const {
  const auto is_float = [](DType type) { return traits(type).block_values == 1; };
  const Tile& tile = tiling.tile;
  ShaderText text;
  text.constant("kTileRows", tile.rows).constant("kTileOuts", tile.outs);
  text.file("weights").file("activations").file("activate").file("matmat");
  for (DType type : kinds) text.file(is_float(type) ? "float_weights" : "decode_" + lower(traits(type).name));
  if (tiling.form == MatMat::Float) {
    std::string fetches;
    for (DType type : kinds) {
      if (!is_float(type)) text.file("dot_f32");
      fetches += instantiate(is_float(type) ? "matmat_f32_float" : "matmat_f32_quant", {{"TYPE", lower(traits(type).name)}});
    }
    return text
        .text(instantiate("matmat_f32",
                          {{"FETCHES", fetches}, {"FETCH", by_kind(kinds, "return fetch_", "(row, unit, half, part.units);")}}))
        .str();
  }
  text.enable("f16").constant("kThreads", tiling.threads).constant("kWeightScale", kWeightScale);
  text.file("matmat_halves").file("matmat_scaled");
  Product product{"var mine: Sums;", "multiply(&mine, thread);", "", "finish(part, row, &mine, thread);"};
  const bool matrix = tiling.form == MatMat::Matrix;
  if (matrix) {
    const MatrixShape shape = *device_.matrix();
    text.enable("subgroups").enable("chromium_experimental_subgroup_matrix");
    // The subgroup's number is the same in all of a subgroup, which the analysis does not know.
    text.directive("diagnostic(off, chromium_experimental.subgroup_matrix_uniformity)");
    text.constant("kMatrixM", shape.m).constant("kMatrixN", shape.n).constant("kLanes", shape.lanes);
    text.constant("kSubgroupsDown", tile.down).constant("kSubgroupRows", tile.rows / tile.down);
    text.constant("kSubgroupOuts", tile.outs / tile.along).file("matmat_matrix");
    product = matrix_product(tile, shape);
  } else {
    text.file("matmat_plain");
  }
  for (DType type : kinds) {
    const std::string name = lower(traits(type).name);
    if (!is_float(type)) text.file("matmat_codes");
    text.text(instantiate(is_float(type) ? "matmat_float" : "matmat_quant", {{"TYPE", name}}));
    text.text(instantiate("matmat_weights", {{"TYPE", name}}));
    text.text(instantiate("matmat_run", {{"TYPE", name},
                                         {"START", product.start},
                                         {"MULTIPLY", product.multiply},
                                         {"FINISH", product.finish}}));
  }
  return text
      .text(instantiate("matmat_kinds",
                        {{"RUN", by_kind(kinds, "run_", matrix ? "(part, row, thread, subgroup);" : "(part, row, thread, 0u);")},
                         {"SUBGROUP", matrix ? ", @builtin(subgroup_id) subgroup: u32" : ""}}))
      .str();
}

void Compiler::add_matmat(const std::string& label, std::span<const LinearMatrix> matrices,
                          std::span<const WeightGroup> groups, bool of_head, uint32_t rows_at_once) {
  const Tiling tiling = this->tiling(rows_at_once);
  const Tile& tile = tiling.tile;
  const bool halves = tiling.form != MatMat::Float;
  if (halves) add_pack(matrices, of_head);

  const std::vector<uint32_t> split =
      of_head ? std::vector<uint32_t>(matrices.size(), 1) : splits(matrices, rows_at_once);
  const uint32_t rows_alloc = ceil_div(rows_at_once, tile.rows) * tile.rows;
  std::vector<uint32_t> sums;  // where a matrix's sums begin
  for (uint32_t i = 0, free = 0; i < matrices.size(); ++i) {
    sums.push_back(free);
    free += split[i] * rows_alloc * sums_width(plan_.tensor(matrices[i].weight), tile);
  }

  for (const WeightGroup& group : groups) {
    std::vector<DType> kinds;
    std::vector<uint32_t> parts;
    uint32_t workgroups = 0;
    for (const PlacedRows& rows : group.rows) {
      const auto matrix =
          std::find_if(matrices.begin(), matrices.end(), [&](const LinearMatrix& m) { return m.weight == rows.tensor; });
      if (matrix == matrices.end()) continue;  // a vector of a Wkv7 op's group
      const Tensor& weight = plan_.tensor(rows.tensor);
      const SlotPlace& in = slot(matrix->in);
      const SlotPlace& out = slot(matrix->out);
      if (in.width != weight.ne0)
        throw InputError(message("[webgpu] ", weight.name, ": expected ne0 ", in.width, ", got ", weight.ne0));
      count(rows, weight, false);
      const auto i = static_cast<size_t>(matrix - matrices.begin());
      const auto kind = static_cast<uint32_t>(std::find(kinds.begin(), kinds.end(), weight.type) - kinds.begin());
      if (kind == kinds.size()) kinds.push_back(weight.type);
      const uint32_t units = traits(weight.type).block_values == 1 ? ceil_div(weight.ne0, 8) : weight.ne0 / 32;
      const uint32_t steps = ceil_div(weight.ne0, tiling.step());
      const uint32_t begin = workgroups;
      workgroups += ceil_div(rows.rows, tile.outs) * split[i];
      parts.insert(parts.end(), {workgroups, begin, kind, rows.at, rows.row_vec4s, units, rows.rows,
                                 halves ? in.halves : in.values, halves ? in.halves_stride() : in.values_stride(), in.scales});
      const uint32_t width = of_head ? out.padded : sums_width(weight, tile);
      parts.insert(parts.end(), {(of_head ? 4 * out.values : sums[i]) + rows.first_row, width,
                                 activation_number(matrix->activation, false), of_head, !of_head, split[i], rows_alloc * width,
                                 ceil_div(steps, split[i]), steps, 0, 0, 0});
    }
    if (kinds.empty()) continue;
    if (halves) cost_.arithmetic = Arithmetic::F16;
    dispatch(label, matmat_text(tiling, kinds), Bindings::Parts, bind_parts(label, &group, parts),
             of_head ? Grid::HeadTiles : Grid::RowTiles, workgroups, tile.rows);
  }

  if (of_head) return;
  std::vector<uint32_t> table;
  uint32_t outputs = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Tensor& weight = plan_.tensor(matrices[i].weight);
    const SlotPlace& out = slot(matrices[i].out);
    const uint32_t begin = outputs, width = sums_width(weight, tile);
    outputs += weight.ne1;
    table.insert(table.end(), {outputs, begin, sums[i], width, rows_alloc * width, split[i], 4 * out.values, out.padded,
                               activation_number(matrices[i].activation, matrices[i].accumulate), slot(matrices[i].in).scales, 0,
                               0});
  }
  constexpr uint32_t kWorkgroup = 256;
  ShaderText text;
  text.constant("kWorkgroup", kWorkgroup).constant("kParts", static_cast<uint32_t>(matrices.size())).constant("kHalves", halves);
  text.constant("kWeightScale", kWeightScale).file("activations").file("activate").file("matmat_scaled").file("reduce");
  dispatch("reduce " + label, text.str(), Bindings::Parts, bind_parts("reduce", nullptr, table), Grid::RowsY,
           ceil_div(outputs, kWorkgroup));
}

}  // namespace rwkvnative::webgpu
