#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "graft/core/tensor.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/parallel.h"

namespace graft::io {

/// Throws Error naming the tensor and the first element that is NaN or infinite.
inline void check_finite(std::string_view name, const Tensor& tensor) {
  if (!is_floating(tensor.dtype())) return;
  dispatch_floating("check_finite", tensor.dtype(), [&]<class T>(Type<T>) {
    // NaN and infinity are the numbers whose exponent is all ones.
    using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                    std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
    const Bits exponent = std::bit_cast<Bits>(static_cast<T>(std::numeric_limits<Accumulator<T>>::infinity()));
    const T* values = tensor.data<T>();
    const Index count = tensor.elements();
    std::atomic<bool> finite = true;
    parallel_ranges(count, Index{1} << 16, [&](Index begin, Index end) {
      Bits found = 0;  // without a branch, so that it becomes vector instructions
      for (Index i = begin; i < end; ++i) {
        const auto bits = std::bit_cast<Bits>(values[i]);
        found = static_cast<Bits>(found | static_cast<Bits>((bits & exponent) == exponent));
      }
      if (found != 0) finite = false;
    });
    for (Index i = 0; i < count && !finite; ++i) {
      const auto value = static_cast<double>(values[i]);
      check(std::isfinite(value), "tensor '{}': element {} is {}, expected a finite number", name, i, value);
    }
  });
}

}  // namespace graft::io
