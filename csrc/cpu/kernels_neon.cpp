// The kernels for arm64 with the dot-product instructions; CMakeLists.txt gives the compiler flags.
#include "cpu/isa.h"

#if RWKVNATIVE_ARM64
#include "cpu/simd_neon.h"
// After the vocabulary:
#include "cpu/kernels_body.h"

namespace rwkvnative::cpu {
const Kernels& kernels_neon() { return kKernels; }
}  // namespace rwkvnative::cpu
#endif
