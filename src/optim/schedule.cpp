#include "graft/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/format.h"

namespace graft::optim {

std::string_view name(Schedule::Kind kind) {
  switch (kind) {
    case Schedule::Kind::constant:
      return "constant";
    case Schedule::Kind::step:
      return "step";
    case Schedule::Kind::cosine:
      return "cosine";
  }
  return {};
}

Schedule::Kind schedule_from_name(std::string_view text) {
  for (const auto kind : {Schedule::Kind::constant, Schedule::Kind::step, Schedule::Kind::cosine}) {
    if (name(kind) == text) return kind;
  }
  fail("[schedule] expected constant, step or cosine, got '{}'", text);
}

double factor(const Schedule& s, Index step) {
  check(s.warmup >= 0, "[schedule] a warm-up of {} steps", s.warmup);
  if (step < s.warmup) return static_cast<double>(step + 1) / static_cast<double>(s.warmup);
  const Index since = step - s.warmup;
  switch (s.kind) {
    case Schedule::Kind::constant:
      return 1;
    case Schedule::Kind::step:
      check(s.every > 0, "[schedule] 'step' needs the number of steps between two falls, got {}", s.every);
      return std::pow(s.decay, std::floor(static_cast<double>(since) / static_cast<double>(s.every)));
    case Schedule::Kind::cosine: {
      const Index length = s.total - s.warmup;
      check(length > 0, "[schedule] 'cosine' over {} steps leaves none after a warm-up of {}", s.total, s.warmup);
      const double share = static_cast<double>(std::min(since, length)) / static_cast<double>(length);
      return s.last + (1 - s.last) * (1 + std::cos(std::numbers::pi * share)) / 2;
    }
  }
  return 1;
}

}  // namespace graft::optim
