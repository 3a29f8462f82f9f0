#pragma once

#include <string_view>

#include "graft/core/context.h"
#include "graft/core/operand.h"

#include "core/format.h"
#include "kernels/registry.h"

namespace graft::kernels {

/// One implementation of a kernel. A null `run` says that there is none.
template <class... Args>
struct Implementation {
  void (*run)(Context&, Args...) = nullptr;
  /// Whether it can compute this call; null means every call.
  bool (*supports)(const Context&, Args...) = nullptr;

  explicit constexpr operator bool() const { return run != nullptr; }
};

/// What one device has: graft's own kernel and the library's.
template <class... Args>
struct Engines {
  Implementation<Args...> native;
  Implementation<Args...> library;
};

/// A row of the kernel contract: a function of the operands, and who computes it on which device. Calling it runs the
/// implementation that the Context asks for. `auto` takes the library's where there is one that supports the call, and
/// graft's own otherwise.
template <class... Args>
struct Kernel {
  std::string_view name;
  Engines<Args...> cpu;

  void operator()(Context& context, Args... args) const { choose(context, args...).run(context, args...); }

  const Implementation<Args...>& choose(const Context& context, const Args&... args) const {
    check(context.device.kind == Device::Kind::cpu, "[{}] this build has no kernels for device '{}'", name,
          context.device);
    const auto supported = [&](const Implementation<Args...>& one) {
      return one && (one.supports == nullptr || one.supports(context, args...));
    };
    if (context.engine == Engine::library) {
      check(has_cpu_library(),
            "[{}] engine 'library' is oneDNN, which this build of graft is without: install libdnnl-dev and configure "
            "with -DGRAFT_WITH_ONEDNN=ON",
            name);
      check(static_cast<bool>(cpu.library), "[{}] engine 'library' has no such kernel on the CPU; use auto or native",
            name);
      check(supported(cpu.library),
            "[{}] engine 'library' does not support these operands on the CPU; use auto or native", name);
      return cpu.library;
    }
    if (context.engine == Engine::automatic && supported(cpu.library)) return cpu.library;
    return cpu.native;
  }
};

}  // namespace graft::kernels

/// A library entry of a kernel table: null in a build without oneDNN.
#if GRAFT_HAS_ONEDNN
#define GRAFT_ONEDNN(run, supports) \
  { run, supports }
#else
#define GRAFT_ONEDNN(run, supports) \
  {}
#endif
