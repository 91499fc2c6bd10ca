// Kernels for F32 matrices.
#include "float_kernels.h"

INSTANTIATE(F32, "matmul_float", FloatTile)
