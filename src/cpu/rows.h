#pragma once

#include <cmath>
#include <limits>

#include "core/dtype_dispatch.h"
#include "core/parallel.h"

namespace graft::cpu {

/// Calls body(row, channels) for every row of the last axis; a task takes enough rows to pay for waking a thread.
template <class Body>
void for_each_row(const Shape& shape, const Body& body) {
  const Index channels = shape.channels();
  parallel_ranges(shape.rows(), std::max<Index>(1, (1 << 12) / std::max<Index>(1, channels)),
                  [&](Index begin, Index end) {
                    for (Index row = begin; row < end; ++row) body(row, channels);
                  });
}

/// log(sum of exp(x)), without overflow: the largest x is taken out first. Minus infinity for no x at all.
template <class Sum, class T>
Sum log_sum_exp(const T* x, Index count) {
  Sum most = -std::numeric_limits<Sum>::infinity();
  for (Index i = 0; i < count; ++i) most = std::max(most, static_cast<Sum>(x[i]));
  if (most == -std::numeric_limits<Sum>::infinity()) return most;
  Sum sum = 0;
  for (Index i = 0; i < count; ++i) sum += std::exp(static_cast<Sum>(x[i]) - most);
  return most + std::log(sum);
}

}  // namespace graft::cpu
