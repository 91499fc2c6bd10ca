// How much work one submit may be. A driver gives a submit up that takes 2 s, and with it the device (Windows: timeout detection and
// recovery; Linux: amdgpu's lockup_timeout): on a slow GPU, a chunk of a prompt takes longer than that. So what takes longer than
// Tuning::submit_us on the slowest GPUs that there are is several submits, and chunks are so short that no dispatch of theirs does.
#pragma once

#include "core/plan.h"
#include "core/profile.h"
#include "webgpu/device.h"

namespace rwkvnative::webgpu {

// Seconds that a dispatch for so many rows takes on the slowest GPUs with the features of this one.
double slow_seconds(const Device& device, const Cost& cost, uint32_t rows);
// The same of bytes that come from the host.
double slow_upload_seconds(uint64_t bytes);
// What a submit, by these estimates, should not exceed.
double most_seconds(const Device& device);

// Rows for which no dispatch exceeds that, of a chunk of a prompt without the head, and of the head; at least 1.
uint32_t most_layer_rows(const Device& device, const Plan& plan);
uint32_t most_head_rows(const Device& device, const Plan& plan);

}  // namespace rwkvnative::webgpu
