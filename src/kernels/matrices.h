#pragma once

#include "graft/core/operand.h"

#include "kernels/strided.h"

namespace graft {

/// The matrices of an operand [..., rows, columns] as elements of a tensor that has the axes before them, each as long
/// as `batch` says: a stride of 0 repeats one where `batch` has more. Strides count elements of the operand.
inline Strided matrices(const Operand& operand, const Shape& batch) {
  Strided result;
  result.shape = batch;
  Index stride = operand.shape[-2] * operand.pitch;
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    if (operand.shape[axis] == batch[axis]) result.strides[static_cast<std::size_t>(axis)] = stride;
    stride *= operand.shape[axis];
  }
  return result;
}

}  // namespace graft
