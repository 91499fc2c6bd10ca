// The profiler's experiment: kernels without decoding, or without loads of weights, to tell the two costs apart.
#pragma once

#include <string>

#include "webgpu/options.h"

namespace rwkvnative::webgpu {

// The text of a kernel that multiplies matrices, changed as `experiment` says.
std::string changed_for(Experiment experiment, std::string source);

}  // namespace rwkvnative::webgpu
