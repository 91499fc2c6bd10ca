// What a budget for device memory must leave room for beside the weights (core/residency.h).
#pragma once

#include "core/plan.h"
#include "core/residency.h"

namespace rwkvnative::webgpu {

// What a program takes, estimated: for `rows` rows and the logits of `logits_rows` of them.
uint64_t program_bytes(const Plan& plan, uint64_t rows, uint64_t logits_rows);

}  // namespace rwkvnative::webgpu
