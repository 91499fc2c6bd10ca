// Kernels for BF16 matrices.
#include "float_kernels.h"

INSTANTIATE(BF16, "matmul_float", FloatTile)
