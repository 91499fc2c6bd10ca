// How a unit's bytes are shared out among the kernels that carry it (carry.h).
#pragma once

#include <cstdint>
#include <vector>

#include "core/profile.h"
#include "webgpu/options.h"

namespace rwkvnative::webgpu {

constexpr uint32_t kCarryStep = 512;  // threads that carry are a multiple of it

struct Share {
  uint64_t bytes = 0;
  uint32_t threads = 0;
};
// A kernel that may carry: microseconds that it takes, and with how much of them it counts while there is time elsewhere.
struct Carrier {
  double time = 0, weight = 1;
};
// Shares of `bytes` for kernels in their order; none above `limit`. All are to be copied in the same part of their kernels' times,
// less what passes until bytes flow: where the link is the faster of the two, none keeps its kernel waiting, and short kernels carry
// nothing. Where there is time, fewer threads copy: they take the places of the kernel's own. Nothing if limit is too small.
std::vector<Share> carried_shares(const std::vector<Carrier>& carriers, uint64_t bytes, uint64_t limit, const Tuning& tuning);

// Microseconds that a kernel takes, roughly, to share a unit out among several: of a large GPU, but it is their ratio that counts.
double estimated_microseconds(const Cost& cost, uint32_t rows, uint32_t sequences);

}  // namespace rwkvnative::webgpu
