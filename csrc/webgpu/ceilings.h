// What this device can do at best, by small kernels (kernels/ceiling_*.wgsl).
#pragma once

#include "core/profile.h"
#include "webgpu/pipelines.h"

namespace rwkvnative::webgpu {

Ceilings measure_ceilings(const Device& device, Pipelines& pipelines);

}  // namespace rwkvnative::webgpu
