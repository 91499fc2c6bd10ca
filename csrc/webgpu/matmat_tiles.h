// The tiles that products of many rows of activations are made of (kernels/matmat.wgsl), and how subgroups multiply one.
#pragma once

#include <string>

#include "webgpu/device.h"

namespace rwkvnative::webgpu {

// What a workgroup makes of a product, and how its subgroups share it: `down` of them over the rows of activations, `along` over
// the outputs.
struct MatMatTile {
  uint32_t rows, outs, down, along;
};
constexpr uint32_t kPartWords = 24;  // of kernels/matmat.wgsl's Part

// The tiles' operands are of this shape also where a plain loop stands for the subgroup matrices.
MatrixShape matrix_shape_of(const Device& device);

// The smallest tile that holds `rows` rows, or that of `wish` rows if it is not 0; of `outs` outputs if there is one. Throws InputError
// where there is none.
const MatMatTile& choose_tile(const Device& device, uint32_t rows, uint32_t wish, uint32_t outs, uint32_t max_threads);

// The text of a product by subgroup matrices, for the $ of kernels/matmat_run.wgsl. `ahead`: activations are asked for before the
// weights of a step are decoded, and then a matrix ahead of their product.
struct MatrixProduct {
  std::string left, right, sums;  // where a subgroup's operands begin; what it sums in
  std::string first, multiply, finish;
};
MatrixProduct matrix_product(const MatMatTile& tile, const MatrixShape& shape, bool ahead);

// How many workgroups share each of `tiles` tiles of `steps` steps, `most` at most, on a device that runs `slots` of them at once.
uint32_t choose_splits(uint64_t tiles, uint32_t steps, uint64_t slots, uint32_t most);

}  // namespace rwkvnative::webgpu
