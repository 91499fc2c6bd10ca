// How large the values of a tensor can be, from the scales of its blocks: for backends that multiply weights as float16.
#pragma once

#include "core/plan.h"

namespace rwkvnative {

struct Magnitude {
  float value = 0;       // no |y| of the tensor is larger; for quantized types no part of y either (quant_blocks.h: d s q, dmin m)
  float row_length = 0;  // nor is the Euclidean length of any row
};
// From the largest value that each block may hold; of float types the values themselves. Scales that are no numbers are passed over:
// their blocks are none anyway.
Magnitude magnitude_bound(const Tensor& tensor);

// The power of two that brings the tensor's values into float16's range, as far up as is safe (below 2^15): one for each matrix,
// since a matrix product can undo it after its sums. 1 for F16, which fits as it is, and for zeros.
float half_scale(const Tensor& tensor, const Magnitude& magnitude);

}  // namespace rwkvnative
