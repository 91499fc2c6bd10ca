// Bytes that an op of a plan must move and operations that it must do, whatever the backend makes of it. Vectors are float32;
// an int8 activation counts as one byte.
#pragma once

#include "core/plan.h"
#include "core/profile.h"

namespace rwkvnative {

// Some rows of a matrix times one row of activations.
Cost matrix_cost(const Tensor& matrix, uint32_t rows, bool int8);
Cost norm_cost(uint32_t width);
Cost embed_cost(const Plan& plan, const EmbedOp& op);
Cost shift_mix_cost(const Plan& plan, const ShiftMixOp& op);
// Without the second LoRA matrices.
Cost wkv7_cost(const Plan& plan);
// The best of a row of logits.
Cost choice_cost(const Plan& plan);

// The layer of an op; `before` is that of the op before it.
int32_t layer_of(const Op& op, int32_t before);

Cost operator+(Cost a, const Cost& b);

}  // namespace rwkvnative
