// Dawn's process-wide entry point.
#pragma once

#include "webgpu/dawn.h"

namespace rwkvnative::webgpu {

// Made on first use and kept: adapters and devices of one process share it.
WGPUInstance instance();

}  // namespace rwkvnative::webgpu
