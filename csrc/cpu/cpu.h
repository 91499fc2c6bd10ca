// The CPU backend: always there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

std::vector<DeviceInfo> cpu_devices();

// The kernel sets that this processor runs, fastest first; the last is "reference", the plain one.
std::vector<std::string> cpu_kernels();

// device: "cpu", or "cpu:" and one of cpu_kernels(). n_threads 0: one per available processor.
std::unique_ptr<Backend> open_cpu(const std::string& device, uint32_t n_threads);

}  // namespace rwkvnative
