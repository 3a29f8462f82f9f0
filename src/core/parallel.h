#pragma once

#include <algorithm>
#include <exception>

#include "graft/core/context.h"

namespace graft {

/// Calls body(i) for i in 0 .. count-1, spread over the threads of the budget. Each call must write what no other call
/// touches, so the result does not depend on the number of threads. An exception is thrown again here, the first one
/// that came.
template <class Body>
void parallel_for(Index count, Body&& body) {
  if (count <= 1) {
    if (count == 1) body(Index{0});
    return;
  }
  std::exception_ptr error;
#pragma omp parallel for schedule(static) num_threads(threads())
  for (Index i = 0; i < count; ++i) {
    try {
      body(i);
    } catch (...) {
#pragma omp critical(graft_parallel_for)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

/// The same over ranges of at most `grain` neighbours: body(begin, end). The ranges depend on `count` and `grain`
/// alone.
template <class Body>
void parallel_ranges(Index count, Index grain, Body&& body) {
  parallel_for((count + grain - 1) / grain,
               [&](Index chunk) { body(chunk * grain, std::min(count, (chunk + 1) * grain)); });
}

}  // namespace graft
