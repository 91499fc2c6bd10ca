// What this device can do at best, by small kernels (kernels/ceiling.metal).
#pragma once

#include "core/profile.h"
#include "metal/pipelines.h"

namespace rwkvnative::metal {

// int8_per_second is 0: Apple GPUs have no dot product of bytes. Throws OutOfDeviceMemory, DeviceError.
Ceilings measure_ceilings(const Device& device, Pipelines& pipelines);

}  // namespace rwkvnative::metal
