#pragma once

#include "graft/core/activation.h"
#include "graft/core/context.h"
#include "graft/core/operand.h"

#include "device/language.h"
#include "kernels/joined_axes.h"

namespace graft::kernels::GRAFT_TARGET {

/// Products of matrices in memory, C(p) = activation(sum over t of A(p, t) B(p, t) + bias), in the terms of
/// device/gemm.h. A matrix is named by its first element in the first product; C has type `to.dtype`, f32 or that of
/// A and B.
struct DenseProduct {
  Operand a, b;  ///< as they are stored: pitch and type count
  bool transpose_a = false, transpose_b = false;
  Index rows = 0, columns = 0, depth = 0;
  JoinedAxes<3> products;  ///< where A, B and C of a product begin
  JoinedAxes<2> terms;     ///< and how much further on A and B of its terms
  const void* bias = nullptr;
  Activation activation = Activation::linear;
  Gradient to;
};

void dense_product(Context& context, const char* name, const DenseProduct& product);

}  // namespace graft::kernels::GRAFT_TARGET
