// The kernels of a quantized type: one file for each type includes this and ends with INSTANTIATE(Type).
#pragma once

#include "embed.h"
#include "matmul.h"
#include "matvec.h"
#include "mix_linear.h"
#include "quant.h"

// Names: matvec_ROWSxTILE.
#define INSTANTIATE(Type) \
  template [[host_name("matvec_1x1")]] kernel decltype(matvec<QuantMatrix<Type>, 1, 1>) matvec<QuantMatrix<Type>, 1, 1>; \
  template [[host_name("matvec_2x1")]] kernel decltype(matvec<QuantMatrix<Type>, 2, 1>) matvec<QuantMatrix<Type>, 2, 1>; \
  template [[host_name("matvec_1x4")]] kernel decltype(matvec<QuantMatrix<Type>, 1, 4>) matvec<QuantMatrix<Type>, 1, 4>; \
  template [[host_name("mix_linear_1")]] kernel decltype(mix_linear<QuantMatrix<Type>, 1>) mix_linear<QuantMatrix<Type>, 1>; \
  template [[host_name("mix_linear_2")]] kernel decltype(mix_linear<QuantMatrix<Type>, 2>) mix_linear<QuantMatrix<Type>, 2>; \
  template [[host_name("embed")]] kernel decltype(embed<QuantMatrix<Type>>) embed<QuantMatrix<Type>>; \
  template [[host_name("matmul_half")]] kernel decltype(matmul<QuantMatrix<Type>, HalfTile>) matmul<QuantMatrix<Type>, HalfTile>; \
  template [[host_name("matmul_float")]] kernel decltype(matmul<QuantMatrix<Type>, FloatTile>) matmul<QuantMatrix<Type>, FloatTile>;
