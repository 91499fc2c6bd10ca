// Linear ops and the head for many rows of activations: tiles of outputs, multiplied by subgroup matrices (float16, float32
// sums) where the device has them, or in float32 by registers.
#include <algorithm>
#include <array>
#include <map>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

// A workgroup's tile and how its subgroups share it: `down` of them over the rows, `along` over the outputs. Measured on a
// large GPU (docs/performance.md); fewer rows take a smaller tile rather than compute what is thrown away.
struct Tile {
  uint32_t rows, outs, down, along;
};
constexpr std::array kTiles = {Tile{16, 64, 1, 4}, Tile{32, 64, 2, 2}, Tile{64, 64, 2, 2}, Tile{128, 128, 2, 4}};
constexpr uint32_t kPlainThreads = 128;  // of the product without subgroup matrices
constexpr uint32_t kFloatTile = 64;      // of kernels/matmat_f32.wgsl

// Weights become float16 times this: a scale of a block may be small, and a float16 below 2^-14 loses digits.
constexpr float kWeightScale = 16.0f;

// The text that multiplies a slice, for the $ of kernels/matmat_run.wgsl.
struct Product {
  std::string start, multiply, finish;
};

Product matrix_product(const Tile& tile, const MatrixShape& shape) {
  const uint32_t down = tile.rows / tile.down / shape.m, along = tile.outs / tile.along / shape.n;
  Product text;
  text.start = "let left = subgroup % kSubgroupsDown * kSubgroupRows * kRowHalves;\n"
               "  let right = kWeightsAt + subgroup / kSubgroupsDown * kSubgroupOuts * kRowHalves;\n";
  for (uint32_t i = 0; i < down; ++i) {
    for (uint32_t j = 0; j < along; ++j) {
      text.start += message("  var sum_", i, "_", j, ": subgroup_matrix_result<f32, ", shape.n, ", ", shape.m, ">;\n");
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

// How a program multiplies `rows` rows of activations with a matrix.
MatMat Compiler::matmat(uint32_t rows) const {
  const bool software = device_.info().kind == DeviceKind::Software;
  switch (tuning_.matmat) {
    case 0:
      if (rows < tuning_.matmat_rows || software) return MatMat::None;
      return model_.int8 && device_.matrix() ? MatMat::Matrix : MatMat::Float;
    case 1:
      return MatMat::None;
    default:
      if (rows < tuning_.matmat_rows) return MatMat::None;
      break;
  }
  const auto form = static_cast<MatMat>(tuning_.matmat - 1);
  if ((form == MatMat::Matrix && !device_.matrix()) || (form == MatMat::Plain && !device_.half())) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: matmat=", tuning_.matmat, ": ", device_.info().name, " has no ",
                             form == MatMat::Plain ? "shader-f16" : "subgroup matrices of f16 with f32 sums"));
  }
  return form;
}

// Rows of activations that a workgroup takes; slots have room for whole tiles.
uint32_t Compiler::matmat_tile_rows(uint32_t rows) const {
  switch (matmat(rows)) {
    case MatMat::None:
      return 1;
    case MatMat::Float:
      return kFloatTile;
    default:
      return choose_tile(device_, rows, tuning_.matmat_tile, max_threads_).rows;
  }
}

// Packs the inputs of `matrices` as float16: kernels/pack_halves.wgsl.
void Compiler::add_pack(std::span<const LinearMatrix> matrices, bool of_head) {
  std::vector<size_t> inputs;
  for (const LinearMatrix& matrix : matrices) {
    if (std::find(inputs.begin(), inputs.end(), matrix.in) == inputs.end()) inputs.push_back(matrix.in);
  }
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
      weights, {compiled_.activations.buffer().get()}, {compiled_.params.get()}, {buffer.get()}};
  compiled_.tables.push_back(std::move(buffer));
  return model_.pipelines->bind(label, Bindings::Parts, ranges);
}

void Compiler::add_matmat(const std::string& label, std::span<const LinearMatrix> matrices,
                          std::span<const WeightGroup> groups, bool of_head, uint32_t rows_at_once) {
  const MatMat form = matmat(rows_at_once);
  const bool halves = form != MatMat::Float;
  const MatrixShape shape = device_.matrix().value_or(MatrixShape{16, 16, 16, 32});
  Tile tile{kFloatTile, kFloatTile, 1, 1};
  if (halves) tile = choose_tile(device_, rows_at_once, tuning_.matmat_tile, max_threads_);
  if (halves) add_pack(matrices, of_head);

  for (const WeightGroup& group : groups) {
    struct Placed {
      const PlacedRows* rows;
      const LinearMatrix* matrix;
    };
    std::map<DType, std::vector<Placed>> kinds;  // a dispatch each
    for (const PlacedRows& rows : group.rows) {
      const auto matrix =
          std::find_if(matrices.begin(), matrices.end(), [&](const LinearMatrix& m) { return m.weight == rows.tensor; });
      if (matrix != matrices.end()) kinds[plan_.tensor(rows.tensor).type].push_back({&rows, &*matrix});
    }
    for (const auto& [dtype, placed_rows] : kinds) {
      const bool is_float = traits(dtype).block_values == 1;
      const std::string type = lower(traits(dtype).name);
      uint32_t workgroups = 0;
      std::vector<uint32_t> parts;
      for (const auto& [rows, matrix] : placed_rows) {
        const Tensor& weight = plan_.tensor(rows->tensor);
        const SlotPlace& in = slot(matrix->in);
        const SlotPlace& out = slot(matrix->out);
        if (in.width != weight.ne0)
          throw InputError(message("[webgpu] ", weight.name, ": expected ne0 ", in.width, ", got ", weight.ne0));
        count(*rows, weight, false);
        const uint32_t first = workgroups;
        workgroups += ceil_div(rows->rows, tile.outs);
        const uint32_t units = is_float ? ceil_div(weight.ne0, 8) : weight.ne0 / 32;
        parts.insert(parts.end(), {workgroups, first, rows->at, rows->row_vec4s, units, rows->rows,
                                   halves ? in.halves : in.values, halves ? in.halves_stride() : in.values_stride(),
                                   in.scales, ceil_div(weight.ne0, halves ? 64 : 32), out.values, rows->first_row, out.padded,
                                   activation_number(matrix->activation, matrix->accumulate), of_head, 0});
      }
      if (halves) cost_.arithmetic = Arithmetic::F16;
      ShaderText text;
      text.constant("kTileRows", tile.rows).constant("kTileOuts", tile.outs);
      text.file("weights").file("activations").file("activate").file("matmat");
      text.file(is_float ? "float_weights" : "decode_" + type);
      if (!halves) {
        if (!is_float) text.file("dot_f32");
        text.text(instantiate("matmat_f32", {{"FETCH", instantiate(is_float ? "matmat_f32_float" : "matmat_f32_quant",
                                                                   {{"TYPE", type}})}}));
      } else {
        const bool matrix = form == MatMat::Matrix;
        const uint32_t threads = matrix ? tile.down * tile.along * shape.lanes : std::min(kPlainThreads, tile.outs * 2);
        text.enable("f16").constant("kThreads", threads).constant("kWeightScale", kWeightScale);
        text.file("matmat_halves").file("matmat_scaled");
        text.text(instantiate(is_float ? "matmat_float" : "matmat_quant", {{"TYPE", type}}));
        Product product{"var sums: Sums;", "multiply(&sums, thread);", "finish(part, row, &sums, thread);"};
        if (matrix) {
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
        text.text(instantiate("matmat_run", {{"START", product.start},
                                             {"MULTIPLY", product.multiply},
                                             {"FINISH", product.finish},
                                             {"SUBGROUP_ID", matrix ? "subgroup" : "0u"},
                                             {"SUBGROUP", matrix ? ", @builtin(subgroup_id) subgroup: u32" : ""}}));
      }
      const std::string name = kinds.size() == 1 ? label : message(label, " ", traits(dtype).name);
      dispatch(name, text.str(), Bindings::Parts, bind_parts(name, &group, parts), of_head ? Grid::HeadTiles : Grid::RowTiles,
               workgroups, tile.rows);
    }
  }
}

}  // namespace rwkvnative::webgpu
