// Copies that run beside kernels.
//
// WebGPU has one queue. A copy command in it waits for the kernels before it, and they wait for it; and Dawn puts a barrier, which
// everything waits at, before each dispatch that shares a written buffer with an earlier one. So what is to run beside a kernel has
// to be in the same dispatch: the kernels of a streaming program get a few workgroups more, which copy a share of the next unit from
// host memory to its slot (kernels/carry.wgsl). Measured: benchmarks/experiments/overlap.py, docs/performance.md.
#pragma once

#include <string>

#include "core/profile.h"
#include "webgpu/dawn.h"
#include "webgpu/residency.h"

namespace rwkvnative::webgpu {

// A dispatch's share of a unit's way to its slot. The shares of a unit are consecutive among those of a program's dispatches.
struct Carry {
  uint32_t unit = kNoUnit;
  bool first = false, last = false;  // of its unit
  BindGroupHandle group;

  explicit operator bool() const { return unit != kNoUnit; }
};

// Layers of the grid for carrying workgroups, above a kernel's own of `workgroups`.
uint32_t carrying_layers(uint64_t workgroups);

// A kernel's text with the copying in it, from bind group `group`.
std::string carrying(std::string source, uint32_t group);

// Microseconds that a kernel takes, roughly, to share a unit out among several: of a large GPU, but it is their ratio that counts.
double estimated_microseconds(const Cost& cost, uint32_t rows, uint32_t sequences);

}  // namespace rwkvnative::webgpu
