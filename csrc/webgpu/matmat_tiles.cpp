#include "webgpu/matmat_tiles.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace rwkvnative::webgpu {
namespace {

// Measured on a large GPU (docs/kernels.md). Few rows: one subgroup a workgroup, which waits for no other; many: large
// tiles, where an operand that has been loaded is multiplied four times.
constexpr std::array kTiles = {MatMatTile{16, 32, 1, 1}, MatMatTile{32, 32, 1, 1}, MatMatTile{64, 32, 1, 1},
                               MatMatTile{128, 64, 2, 1}, MatMatTile{128, 128, 2, 2}};

bool fits(const MatMatTile& tile, const MatrixShape& shape) {
  return tile.rows / tile.down % shape.m == 0 && tile.outs / tile.along % shape.n == 0 && 64 % shape.k == 0 && shape.k % 8 == 0 &&
         tile.outs * 2 % (tile.down * tile.along * shape.lanes) == 0;
}

// Bytes of workgroup memory that kernels/matmat_halves.wgsl and matmat_matrix.wgsl take.
uint32_t memory(const MatMatTile& tile, const MatrixShape& shape) {
  return tile.outs * 72 * 2 + tile.down * tile.along * shape.m * (shape.n + 4) * 4;
}

}  // namespace

MatrixShape matrix_shape_of(const Device& device) { return device.matrix().value_or(MatrixShape{16, 16, 16, 32}); }

const MatMatTile& choose_tile(const Device& device, uint32_t rows, uint32_t wish, uint32_t outs, uint32_t max_threads) {
  const MatrixShape shape = matrix_shape_of(device);
  const MatMatTile* best = nullptr;
  for (const MatMatTile& tile : kTiles) {
    if (!fits(tile, shape) || memory(tile, shape) > device.limits().maxComputeWorkgroupStorageSize) continue;
    if (tile.down * tile.along * shape.lanes > max_threads || (wish != 0 && tile.rows != wish)) continue;
    if (best != nullptr && best->rows >= rows && tile.rows > best->rows) break;
    if (best != nullptr && tile.rows == best->rows && tile.outs != outs) continue;
    best = &tile;
  }
  if (best == nullptr) {
    throw InputError(message("[webgpu] ", device.info().name, ": no tile of ", wish, " rows; there are 16, 32, 64 and 128, as "
                             "far as workgroup memory allows"));
  }
  return *best;
}

MatrixProduct matrix_product(const MatMatTile& tile, const MatrixShape& shape, bool ahead) {
  const uint32_t down = tile.rows / tile.down / shape.m, along = tile.outs / tile.along / shape.n;
  const uint32_t matrix = shape.m * shape.k;  // halves of a tile of activations
  MatrixProduct text;
  // `line`: halves from some rows' tiles to those of the rows below.
  text.left = message("let line = 8u * part.input_stride * kMatrixM;\n"
                       "  let left = 8u * part.input + (row / kMatrixM + subgroup % kSubgroupsDown * ", down, "u) * line;\n");
  text.right = "  let right = subgroup / kSubgroupsDown * kSubgroupOuts * kRowHalves;\n";
  for (uint32_t i = 0; i < down; ++i) {
    for (uint32_t j = 0; j < along; ++j)
      text.sums += message("  var sum_", i, "_", j, ": subgroup_matrix_result<f32, ", shape.n, ", ", shape.m, ">;\n");
  }
  const auto load_left = [&](uint32_t k) {
    std::string loads;
    for (uint32_t i = 0; i < down; ++i) {
      loads += message("let a", k, "_", i, " = subgroupMatrixLoad<subgroup_matrix_left<f16, ", shape.k, ", ", shape.m,
                       ">, row_major>(&halves, left + ", i, "u * line + step * ", 64 * shape.m, "u + ", k / shape.k * matrix,
                       "u, ", shape.k, "u);\n    ");
    }
    return loads;
  };
  if (ahead) text.first = load_left(0);
  for (uint32_t k = 0; k < 64; k += shape.k) {
    if (!ahead) text.multiply += load_left(k);
    if (ahead && k + shape.k < 64) text.multiply += load_left(k + shape.k);
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
  const uint32_t sums = down * along;
  std::string store, choose;
  for (uint32_t n = 0; n < sums; ++n) {
    const std::string sum = message("sum_", n / along, "_", n % along);
    store += message("subgroupMatrixStore<row_major>(&sums, at + ", n / along * shape.m, "u * part.out_stride + ",
                     n % along * shape.n, "u, ", sum, ", part.out_stride);\n    ");
    choose += message(n + 1 == sums ? "default" : message("case ", n, "u"), ": { subgroupMatrixStore<row_major>(&done, subgroup * "
                      "kMatrixM * kDone, ", sum, ", kDone); }\n      ");
  }
  // params[0].w is 0: of a constant number of turns, finish() would be written out once for each sum.
  text.finish = message("if (part.to_sums == 1u) {\n"
                        "    let at = part.out + (row + subgroup % kSubgroupsDown * kSubgroupRows) * part.out_stride + part.first +\n"
                        "             subgroup / kSubgroupsDown * kSubgroupOuts;\n    ",
                        store, "return;\n  }\n  let rows = rows_of(part);\n  for (var n = 0u; n < ", sums,
                        "u + params[0].w; n++) {\n    switch (n) {\n      ", choose, "}\n    finish(part, row, rows, thread, n / ", along,
                        "u * ", shape.m, "u, n % ", along, "u * ", shape.n, "u);\n  }");
  return text;
}

// The time of a product is that of its workgroups, `slots` of them side by side: waves of a split's steps, and of what a workgroup
// costs besides (in steps: its beginning and its end; with splits, also the sums' way through memory). Measured where a few
// shapes and rows are best (benchmarks/experiments/matmat.py). A larger number must be worth it.
uint32_t choose_splits(uint64_t tiles, uint32_t steps, uint64_t slots, uint32_t most) {
  constexpr double kAlone = 4, kShared = 8;
  const auto cost = [&](uint32_t splits) {
    const auto waves = static_cast<double>((tiles * splits + slots - 1) / slots);
    const uint32_t each = (steps + splits - 1) / splits;
    return waves * (each + (splits == 1 ? kAlone : kShared));
  };
  uint32_t best = 1;
  for (uint32_t splits = 2; splits <= most; ++splits) {
    if (cost(splits) < 0.95 * cost(best)) best = splits;
  }
  return best;
}

}  // namespace rwkvnative::webgpu
