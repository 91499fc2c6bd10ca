// Products of many rows whose weights are float16 tiles in memory: Tuning::matmat_weights, weight_tiles.h.
#include <algorithm>
#include <bit>

#include "core/error.h"
#include "webgpu/compile.h"

namespace rwkvnative::webgpu {
namespace {

constexpr uint32_t kMostChosenRows = 128;  // measured; 256: with smaller tiles not, with these not measured
constexpr uint32_t kTiledOuts = 32;        // of a subgroup
constexpr uint32_t kTileStep = 64;         // kStep of kernels/matmat_halves.wgsl
constexpr uint32_t kFewTiledRows = 32;

// Bytes of workgroup memory that kernels/tiles_slices.wgsl, matmat_halves.wgsl, matmat_matrix.wgsl and matmat_part_once.wgsl take.
uint32_t tiled_memory(const MatMatTile& tile, const MatrixShape& shape, size_t parts) {
  return tile.rows * ((kTileStep + 8) * 2 * 2 + 4) + tile.along * shape.m * (shape.n + 4) * 4 +
         static_cast<uint32_t>(std::bit_ceil(parts)) * (kPartWords + 1) * 4;
}

}  // namespace

void include_weight_tiles(ShaderText& text, const MatrixShape& shape) {
  text.constant("kWeightTileOuts", shape.m).constant("kWeightTileOctets", shape.k / 8).file("weight_tiles");
}

// What the program's products load, if not packed weights: up to kTiledRows rows, the sums are the same, to the bit. Chosen are tiles
// for a step of so many sequences that decode, where they are faster (docs/kernels.md): not for prompts alone, which would wait
// until they are made. A model that streams or has a budget has no room for them.
void Compiler::choose_tiles() {
  const MatrixShape shape = matrix_shape_of(device_);
  const uint32_t way = tuned_.all.matmat_weights;
  if (way == 1 || !takes_halves(matmat(shape_.rows))) return;
  if (way == 0 && !(crowd() && shape_.rows <= kMostChosenRows && device_.info().kind != DeviceKind::IntegratedGpu)) return;
  if (shape.m != shape.n) return;  // activations, which lie in tiles of a left operand, are the right one
  if (tiled_memory(tiled(tiling(std::min(shape_.rows, kTiledRows))).tile, shape, products_.parts) > device_.limits().maxComputeWorkgroupStorageSize) return;
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

// The tile of a workgroup that loads tiled weights: as many rows as where it decodes them, for the sums' places; its subgroups, which
// share the activations in workgroup memory, make some of the outputs each.
Compiler::Tiling Compiler::tiled(Tiling tiling) const {
  const Tuning& tuning = tuned_.all;
  MatMatTile& tile = tiling.tile;
  const MatrixShape shape = matrix_shape_of(device_);
  tile.down = 1;
  tile.outs = tuning.matmat_outs != 0 ? tuning.matmat_outs : kTiledOuts * (tuning.matmat_along != 0 ? tuning.matmat_along : 4);
  tile.along = tuning.matmat_along != 0 ? tuning.matmat_along : std::max(1u, tile.outs / kTiledOuts);
  const uint32_t threads = tile.along * shape.lanes;
  if (tile.outs < tile.along || tile.outs / tile.along % shape.m != 0 || threads > max_threads_ || tile.rows * 8 % threads != 0) {
    throw InputError(message("[webgpu] RWKVNATIVE_WEBGPU_TUNING: matmat_outs=", tuning.matmat_outs, ",matmat_along=",
                             tuning.matmat_along, ": ", device_.info().name, " cannot share ", tile.outs, " outputs among ",
                             tile.along, " subgroups of ", shape.lanes, " threads and matrices of ", shape.m));
  }
  tiling.threads = tiling.form == MatMat::Matrix ? threads : std::min(kPlainThreads, tile.outs * 2);
  return tiling;
}

// The $ of tiles_product.wgsl. A ring of weights: a tile of inputs is multiplied, then its registers are asked for again, `loads` tiles
// further on (at the end of a split for nothing). `finishes`: not all sums go to the memory of sums.
Substitutions Compiler::tiles_loop(const MatMatTile& tile, uint32_t loads, bool finishes) const {
  const MatrixShape shape = matrix_shape_of(device_);
  const uint32_t down = tile.rows / tile.down / shape.n, along = tile.outs / tile.along / shape.m, of_step = kTileStep / shape.k;
  const auto for_sums = [&](const auto& line) {
    std::string text;
    for (uint32_t i = 0; i < down; ++i) {
      for (uint32_t j = 0; j < along; ++j) text += line(i, j) + "\n    ";
    }
    return text;
  };
  const auto load_weights = [&](const char* declare, uint32_t slot, const std::string& at) {
    std::string text;
    for (uint32_t j = 0; j < along; ++j) {
      text += message(declare, "w", slot, "_", j, " = subgroupMatrixLoad<subgroup_matrix_left<f16, ", shape.k, ", ", shape.m,
                      ">, row_major>(&tiles, weights + ", j, "u * weights_line + ", at, " * ", shape.k * shape.m, "u, ", shape.k,
                      "u);\n    ");
    }
    return text;
  };
  const std::string sums = for_sums([&](uint32_t i, uint32_t j) {
    return message("var sum_", i, "_", j, ": subgroup_matrix_result<f32, ", shape.n, ", ", shape.m, ">;");
  });
  std::string first, multiply;
  for (uint32_t slot = 0; slot < loads; ++slot)
    first += load_weights("var ", slot, message("min(part.step * kTilesOfStep + ", slot, "u, last_tile)"));
  for (uint32_t at = 0; at < of_step; ++at) {
    const uint32_t slot = at % loads;
    for (uint32_t i = 0; i < down; ++i) {
      multiply += message("let a", at, "_", i, " = subgroupMatrixLoad<subgroup_matrix_right<f16, ", shape.n, ", ", shape.k,
                          ">, col_major>(&slice, rows_at + ", i * shape.n, "u * kRowHalves + ", at * shape.k, "u, kRowHalves);\n    ");
    }
    multiply += for_sums([&](uint32_t i, uint32_t j) {
      const std::string sum = message("sum_", i, "_", j);
      return message(sum, " = subgroupMatrixMultiplyAccumulate(w", slot, "_", j, ", a", at, "_", i, ", ", sum, ");");
    });
    multiply += message("let next", at, " = min(step * kTilesOfStep + ", at + loads, "u, last_tile);\n    ");
    multiply += load_weights("", slot, message("next", at));
  }
  const std::string store = for_sums([&](uint32_t i, uint32_t j) {
    return message("subgroupMatrixStore<col_major>(&sums, at + ", i * shape.n, "u * part.out_stride + ", j * shape.m, "u, sum_", i, "_",
                   j, ", part.out_stride);");
  });
  const std::string cases = for_sums([&](uint32_t i, uint32_t j) {
    const bool last = i + 1 == down && j + 1 == along;
    return message(last ? std::string("default") : message("case ", i * along + j, "u"),
                   ": { subgroupMatrixStore<col_major>(&done, subgroup * kMatrixM * kDone, sum_", i, "_", j, ", kDone); }");
  });
  const std::string to_sums = "let at = part.out + (row + first_row) * part.out_stride + first_out;\n    " + store;
  const Substitutions of_end = {{"STORE", to_sums}, {"CASES", cases}, {"MATRICES", std::to_string(down * along)}, {"ALONG", std::to_string(along)}};
  const std::string end = finishes ? instantiate("tiles_finish", of_end) : to_sums;
  return {{"SUMS", sums}, {"FIRST", first}, {"MULTIPLY", multiply}, {"END", end}};
}

// Measured (docs/kernels.md): products of few rows gain from one wait for the table of parts, those of many lose registers by it;
// the head, whose workgroups have workgroup memory for finishing besides, gains where more of them fit.
std::string Compiler::tiles_product_text(const Tiling& tiling, size_t parts, bool finishes) const {
  const Tuning& tuning = tuned_.all;
  const bool few = tiling.tile.rows <= kFewTiledRows;
  const uint32_t slices = tuning.matmat_slices != 0 ? tuning.matmat_slices : few && finishes ? 1 : 2;
  ShaderText text;
  begin_product(text, tiling, parts, tuning.matmat_table != 0 ? tuning.matmat_table == 2 : few != finishes);
  include_weight_tiles(text, matrix_shape_of(device_));
  text.constant("kSlices", slices).file("tiles_slices").file("slice_put");
  if (tiling.form == MatMat::Plain) return text.file("tiles_plain").str();
  return text.text(instantiate("tiles_product", tiles_loop(tiling.tile, tuning.matmat_loads, finishes))).str();
}

}  // namespace rwkvnative::webgpu
