// The kernels of a float type: one file for each type includes this and ends with INSTANTIATE(Type, matmul_NAME, Tile), the
// tile that holds its values exactly.
#pragma once

#include "embed.h"
#include "floats.h"
#include "matmul.h"
#include "matvec.h"
#include "mix_linear.h"

// Names: matvec_ROWSxTILE.
#define INSTANTIATE(Type, matmul_name, Tile) \
  template [[host_name("matvec_1x1")]] kernel decltype(matvec<FloatMatrix<Type>, 1, 1>) matvec<FloatMatrix<Type>, 1, 1>; \
  template [[host_name("matvec_2x1")]] kernel decltype(matvec<FloatMatrix<Type>, 2, 1>) matvec<FloatMatrix<Type>, 2, 1>; \
  template [[host_name("matvec_1x4")]] kernel decltype(matvec<FloatMatrix<Type>, 1, 4>) matvec<FloatMatrix<Type>, 1, 4>; \
  template [[host_name("embed")]] kernel decltype(embed<FloatMatrix<Type>>) embed<FloatMatrix<Type>>; \
  template [[host_name("mix_linear_1")]] kernel decltype(mix_linear<FloatMatrix<Type>, 1>) mix_linear<FloatMatrix<Type>, 1>; \
  template [[host_name("mix_linear_2")]] kernel decltype(mix_linear<FloatMatrix<Type>, 2>) mix_linear<FloatMatrix<Type>, 2>; \
  template [[host_name(matmul_name)]] kernel decltype(matmul<FloatMatrix<Type>, Tile>) matmul<FloatMatrix<Type>, Tile>;
