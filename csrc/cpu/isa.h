// The instruction sets that kernels_body.h is compiled for, one table each, and what this processor can run.
#pragma once

#include <span>

#include "cpu/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define RWKVNATIVE_X86 1
#else
#define RWKVNATIVE_X86 0
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
#define RWKVNATIVE_ARM64 1
#else
#define RWKVNATIVE_ARM64 0
#endif

namespace rwkvnative::cpu {

#if RWKVNATIVE_X86
const Kernels& kernels_avx2();
const Kernels& kernels_avxvnni();
const Kernels& kernels_avx512();
#endif
#if RWKVNATIVE_ARM64
const Kernels& kernels_neon();
#endif

// The tables that this processor runs, fastest first; the last is the reference.
std::span<const Kernels* const> runnable_kernels();

}  // namespace rwkvnative::cpu
