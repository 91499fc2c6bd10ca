// Kernels for F16 matrices.
#include "float_kernels.h"

INSTANTIATE(F16, "matmul_half", HalfTile)
