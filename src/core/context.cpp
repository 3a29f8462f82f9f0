#include "graft/core/context.h"

#include <algorithm>
#include <atomic>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/format.h"

namespace graft {
namespace {

std::atomic<int> budget{0};

}  // namespace

std::string_view name(Engine engine) {
  switch (engine) {
    case Engine::automatic:
      return "auto";
    case Engine::native:
      return "native";
    case Engine::library:
      return "library";
    case Engine::reference:
      return "reference";
  }
  return {};
}

Engine engine_from_name(std::string_view text) {
  for (const Engine engine : {Engine::automatic, Engine::native, Engine::library, Engine::reference}) {
    if (name(engine) == text) return engine;
  }
  fail("[engine] expected auto, native, library or reference, got '{}'", text);
}

Context& Context::current() {
  thread_local Context context;
  return context;
}

void set_threads(int threads) {
  check(threads >= 0, "[threads] expected 0 (all cores) or more, got {}", threads);
  budget = threads;
#ifdef _OPENMP
  omp_set_num_threads(graft::threads());
#endif
}

int threads() {
#ifdef _OPENMP
  return std::min(budget > 0 ? budget.load() : omp_get_num_procs(), omp_get_thread_limit());
#else
  return 1;
#endif
}

}  // namespace graft
