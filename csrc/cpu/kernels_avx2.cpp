// The kernels for avx2; CMakeLists.txt gives the compiler flags.
#include "cpu/isa.h"

#if RWKVNATIVE_X86
#include "cpu/simd_avx2.h"
// After the vocabulary:
#include "cpu/kernels_body.h"

namespace rwkvnative::cpu {
const Kernels& kernels_avx2() { return kKernels; }
}  // namespace rwkvnative::cpu
#endif
