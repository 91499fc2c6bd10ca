// The CPU backend: always there.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

std::vector<DeviceInfo> cpu_devices();

// n_threads 0: one per available processor. reference: the plain kernels instead of the fast ones.
std::unique_ptr<Backend> open_cpu(uint32_t n_threads, bool reference);

}  // namespace rwkvnative
