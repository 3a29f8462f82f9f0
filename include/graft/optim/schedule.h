#pragma once

#include <string_view>

#include "graft/core/dtype.h"

namespace graft::optim {

/// How the learning rate changes over the steps of a run: a factor in [0, 1] by which every rate is multiplied.
///
/// During the first `warmup` steps it rises linearly, factor(t) = (t + 1) / warmup; the rest of the schedule counts its
/// steps from there, u = t - warmup:
///   constant  1
///   step      decay^floor(u / every)
///   cosine    last + (1 - last) (1 + cos(pi min(u, n) / n)) / 2, n = total - warmup (Loshchilov and Hutter 2017)
struct Schedule {
  enum class Kind : std::uint8_t { constant, step, cosine };

  Kind kind = Kind::constant;
  Index warmup = 0;    ///< steps
  Index every = 0;     ///< `step`: steps between two falls
  double decay = 0.1;  ///< `step`: what is left after a fall
  Index total = 0;     ///< `cosine`: steps of the whole run, warm-up included
  double last = 0;     ///< `cosine`: the factor it ends at

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

std::string_view name(Schedule::Kind kind);
/// Reads `constant`, `step`, `cosine`. Throws Error for anything else.
Schedule::Kind schedule_from_name(std::string_view name);

/// The factor at a step, counted from 0. Throws Error if `every` or `total` is missing or negative, or `total` is not
/// beyond the warm-up.
double factor(const Schedule& schedule, Index step);

}  // namespace graft::optim
