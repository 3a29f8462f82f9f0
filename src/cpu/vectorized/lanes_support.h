#pragma once

#include <cstdint>
#include <utility>

#include <immintrin.h>

#include "cpu/vectorized/tiles.h"

// What vectors of every instruction set are made with.
#define GRAFT_LANES [[maybe_unused, gnu::always_inline]] inline

namespace graft::kernels::vectorized {
namespace {

/// Calls body(std::integral_constant<int, i>) for i below n. A plain loop may stay one, and sums that it indexes leave
/// their registers then.
template <int n, class Body>
[[gnu::always_inline]] inline void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, n>{});
}

}  // namespace
}  // namespace graft::kernels::vectorized
