// What a budget for device memory must leave room for beside the weights (core/residency.h).
#pragma once

#include "core/plan.h"
#include "core/residency.h"

namespace rwkvnative::webgpu {

// What running a plan takes beside its weights, estimated: programs for one token and for `rows`, with their results, and a
// few states of `state_bytes`.
uint64_t working_bytes(const Plan& plan, uint32_t rows, uint64_t state_bytes);

}  // namespace rwkvnative::webgpu
