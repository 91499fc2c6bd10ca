// The one place that knows every backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

std::vector<DeviceInfo> list_devices();

// device: "auto", "cpu:" and a kernel set, or an id from list_devices(). n_threads: for the CPU; 0 means one per core.
std::unique_ptr<Backend> open_backend(const std::string& device, uint32_t n_threads);

}  // namespace rwkvnative
