// Products of many rows whose weights are float16 tiles in memory: Tuning::matmat_weights, weight_tiles.h.
#include <algorithm>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMostOperands = 96;  // registers of a thread for operands that are on their way

// Registers of a thread for a subgroup's operands, one tile of inputs.
uint32_t operand_registers(const MatMatTile& tile, const MatrixShape& shape) {
  return (tile.rows / tile.down + tile.outs / tile.along) * shape.k / 2 / shape.lanes;
}

}  // namespace

void include_weight_tiles(ShaderText& text, const MatrixShape& shape) {
  text.constant("kWeightTileOuts", shape.n).constant("kWeightTileOctets", shape.k / 8).file("weight_tiles");
}

// What the program's products load, if not packed weights. A model that streams or has a budget has no room for tiles; its logits
// are the same without them.
void Compiler::choose_tiles() {
  if (tuned_.all.matmat_weights == 0 || !takes_halves(matmat(shape_.rows))) return;
  if (model_.weights->streams() || device_.memory().budget() != 0) return;
  compiled_.kept_tiles = model_.tiles->kept(model_);
}

// Where the tiles of a group's matrices are; no buffer: the product decodes packed weights.
Compiler::TiledGroup Compiler::tiled_group(std::span<const LinearMatrix> matrices, const WeightGroup& group) const {
  TiledGroup tiled;
  if (compiled_.kept_tiles == nullptr) return tiled;
  for (const PlacedRows& rows : group.rows) {
    const auto is_of = [&](const LinearMatrix& matrix) { return matrix.weight == rows.tensor; };
    if (std::none_of(matrices.begin(), matrices.end(), is_of)) continue;
    const WeightTiles::Kept& kept = compiled_.kept_tiles->kept(rows.tensor, rows.first_row);
    tiled.places[rows.tensor] = kept.place;
    tiled.buffer = compiled_.kept_tiles->buffer(kept);
  }
  return tiled;
}

// The tile of a workgroup that loads tiled weights: as many rows as where it decodes them, for the sums' places.
Compiler::Tiling Compiler::tiled(Tiling tiling) const {
  const Tuning& tuning = tuned_.all;
  MatMatTile& tile = tiling.tile;
  const MatrixShape shape = matrix_shape_of(device_);
  const uint32_t subgroup_outs = tile.outs / tile.along;
  if (tuning.matmat_outs != 0) tile.outs = std::max(tuning.matmat_outs, shape.n);
  tile.along = tuning.matmat_along != 0 ? tuning.matmat_along : std::max(1u, tile.outs / subgroup_outs);
  const uint32_t subgroups = tile.down * tile.along;
  if (tile.outs < tile.along || tile.outs / tile.along % shape.n != 0 || subgroups * shape.lanes > max_threads_) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: matmat_outs=", tuning.matmat_outs, ",matmat_along=",
                             tuning.matmat_along, ": ", device_.info().name, " cannot share ", tile.outs, " outputs among ",
                             tile.along, " x ", tile.down, " subgroups of ", shape.lanes, " threads and matrices of ", shape.n));
  }
  tiling.threads = tiling.form == MatMat::Matrix ? subgroups * shape.lanes : std::min(kPlainThreads, tile.outs * 2);
  return tiling;
}

// The loop of tiles_product.wgsl. A ring of operands: a tile of inputs is multiplied, then its registers are asked for again, `loads`
// tiles further on (at the end of a split for nothing).
static std::string tiles_loop(const MatMatTile& tile, const MatrixShape& shape, uint32_t loads, uint32_t unroll) {
  const uint32_t down = tile.rows / tile.down / shape.m, along = tile.outs / tile.along / shape.n;
  const uint32_t of_step = 64 / shape.k, written = std::max(unroll / shape.k, loads);
  // One tile of inputs of each operand, the `at`-th, into the ring's registers `slot`.
  const auto load = [&](const std::string& declare, uint32_t slot, const std::string& at) {
    std::string text;
    for (uint32_t j = 0; j < along; ++j) {
      text += message(declare, "b", slot, "_", j, " = subgroupMatrixLoad<subgroup_matrix_right<f16, ", shape.n, ", ", shape.k,
                      ">, col_major>(&tiles, right + ", j, "u * right_line + ", at, " * ", shape.n * shape.k, "u, ", shape.k,
                      "u);\n    ");
    }
    for (uint32_t i = 0; i < down; ++i) {
      text += message(declare, "a", slot, "_", i, " = subgroupMatrixLoad<subgroup_matrix_left<f16, ", shape.k, ", ", shape.m,
                      ">, row_major>(&halves, left + ", i, "u * line + ", at, " * ", shape.m * shape.k, "u, ", shape.k,
                      "u);\n    ");
    }
    return text;
  };
  std::string text = message("let right_line = 8u * part.stride * kMatrixN;\n"
                             "  let first_out = part.first + subgroup / kSubgroupsDown * kSubgroupOuts;\n"
                             "  let right = 8u * part.weights + first_out / kMatrixN * right_line;\n"
                             "  let begin = part.step * ", of_step, "u;\n"
                             "  let end = part.last * ", of_step, "u;\n  ");
  for (uint32_t slot = 0; slot < loads; ++slot) text += load("var ", slot, message("min(begin + ", slot, "u, end - 1u)"));
  text += message("for (var k = begin; k < end; k += ", written, "u) {\n    ");
  for (uint32_t at = 0; at < written; ++at) {
    const bool may_end = at != 0 && at % of_step == 0;
    if (may_end) text += message("if (k + ", at, "u < end) {\n    ");
    for (uint32_t i = 0; i < down; ++i) {
      for (uint32_t j = 0; j < along; ++j) {
        const std::string sum = message("sum_", i, "_", j);
        text += message(sum, " = subgroupMatrixMultiplyAccumulate(a", at % loads, "_", i, ", b", at % loads, "_", j, ", ", sum,
                        ");\n    ");
      }
    }
    text += message("let next", at, " = min(k + ", at + loads, "u, end - 1u);\n    ");
    text += load("", at % loads, message("next", at));
    if (at >= of_step && (at + 1) % of_step == 0) text += "}\n    ";
  }
  return text + "}";
}

std::string Compiler::tiles_product_text(const Tiling& tiling, size_t parts) const {
  const MatMatTile& tile = tiling.tile;
  const MatrixShape shape = matrix_shape_of(device_);
  ShaderText text;
  begin_product(text, tiling, parts);
  include_weight_tiles(text, shape);
  Substitutions product_text;
  if (tiling.form == MatMat::Matrix) {
    uint32_t loads = std::max(1u, tuned_.all.matmat_loads);
    if (tuned_.all.matmat_loads == 0)
      while (loads < 8 && 2 * loads * operand_registers(tile, shape) <= kMostOperands) loads *= 2;
    const MatrixProduct product = matrix_product(tile, shape, false);
    product_text = {{"START", product.left + product.sums},
                    {"MULTIPLY", tiles_loop(tile, shape, loads, tuned_.all.matmat_unroll)},
                    {"FINISH", product.finish},
                    {"SUBGROUP", ", @builtin(subgroup_id) subgroup: u32"}};
  } else {
    text.file("tiles_plain");
    constexpr const char* kLoop =
        "for (var step = part.step; step < part.last; step++) { multiply(part, row, step, &mine, thread); }";
    product_text = {{"START", "workgroupBarrier();\n  var mine: Sums;"},
                    {"MULTIPLY", kLoop},
                    {"FINISH", "finish(part, row, &mine, thread);"},
                    {"SUBGROUP", ""}};
  }
  return text.text(instantiate("tiles_product", product_text)).str();
}

}  // namespace rwkvnative::webgpu
