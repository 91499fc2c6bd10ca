// Copies that run beside kernels.
//
// WebGPU has one queue. A copy command in it waits for the kernels before it, and they wait for it; and Dawn puts a barrier, which
// everything waits at, before each dispatch that shares a written buffer with an earlier one. So what is to run beside a kernel has
// to be in the same dispatch: the kernels of a streaming program get a few workgroups more, which copy a share of the next unit from
// host memory to its slot (kernels/carry.wgsl). Measured: benchmarks/experiments/overlap.py, docs/kernels.md.
#pragma once

#include <string>

#include "core/residency.h"
#include "webgpu/dawn.h"

namespace rwkvnative::webgpu {

// A dispatch's share of a unit's way to its slot. The shares of a unit are consecutive among those of a program's dispatches.
struct Carry {
  uint32_t unit = kNoUnit;
  bool first = false, last = false;  // of its unit
  uint32_t threads = 0;
  BindGroupHandle group;

  explicit operator bool() const { return unit != kNoUnit; }
};

// Layers of the grid for so many carrying workgroups, besides a kernel's own of `workgroups`.
uint32_t carrying_layers(uint64_t workgroups, uint32_t carriers);

// A kernel that carries: its text with the copying in it, and the threads of a workgroup.
struct CarryingText {
  std::string source;
  uint32_t threads = 0;
};
// From bind group `group`.
CarryingText carrying(std::string source, uint32_t group);

}  // namespace rwkvnative::webgpu
