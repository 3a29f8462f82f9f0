#pragma once

#include <atomic>
#include <cmath>
#include <limits>

#include "graft/core/tensor.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/parallel.h"

namespace graft::io {

/// Throws Error naming the tensor and the first element that is NaN or infinite.
inline void check_finite(std::string_view name, const Tensor& tensor) {
  if (!is_floating(tensor.dtype())) return;
  dispatch_floating("check_finite", tensor.dtype(), [&]<class T>(Type<T>) {
    using Wide = Accumulator<T>;
    const T* values = tensor.data<T>();
    const Index count = tensor.elements();
    std::atomic<bool> finite = true;
    parallel_ranges(count, Index{1} << 16, [&](Index begin, Index end) {
      bool all = true;  // without a branch, so that it becomes vector instructions
      for (Index i = begin; i < end; ++i)
        all &= std::fabs(static_cast<Wide>(values[i])) <= std::numeric_limits<Wide>::max();
      if (!all) finite = false;
    });
    for (Index i = 0; i < count && !finite; ++i) {
      const auto value = static_cast<double>(values[i]);
      check(std::isfinite(value), "tensor '{}': element {} is {}, expected a finite number", name, i, value);
    }
  });
}

}  // namespace graft::io
