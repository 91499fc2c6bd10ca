// The Metal backend: Apple GPUs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

// The Mac's GPU as "metal:0"; empty, with the reason in metal_unavailable(), where there is none that the kernels run
// on.
std::vector<DeviceInfo> metal_devices();
std::string metal_unavailable();

// "metal" or "metal:0". Throws DeviceError: no such device, or one that lacks what the kernels need.
std::unique_ptr<Backend> open_metal(const std::string& device);

}  // namespace rwkvnative
