// By how much the mixes of a norm may be scaled to be halves, which end at 65504.
#pragma once

#include <vector>

#include "core/plan.h"

namespace rwkvnative::metal {

// For each op of the plan the scale of each mix: the power of two that takes the largest value it can have to 2^14 ... 2^15.
// Empty: not a ShiftMixOp that a LinearOp follows, no whole number of 8 values, or a mix without a usable bound.
// Reads the plan's tensors.
std::vector<std::vector<float>> mix_scales(const Plan& plan);

}  // namespace rwkvnative::metal
