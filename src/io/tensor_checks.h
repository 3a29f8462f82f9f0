#pragma once

#include <cmath>

#include "graft/core/tensor.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"

namespace graft::io {

/// Throws Error naming the tensor and the first element that is NaN or infinite.
inline void check_finite(std::string_view name, const Tensor& tensor) {
  if (!is_floating(tensor.dtype())) return;
  dispatch(tensor.dtype(), [&]<class T>(Type<T>) {
    const T* values = tensor.data<T>();
    for (Index i = 0; i < tensor.elements(); ++i) {
      const auto value = static_cast<double>(values[i]);
      check(std::isfinite(value), "tensor '{}': element {} is {}, expected a finite number", name, i, value);
    }
  });
}

}  // namespace graft::io
