#pragma once

#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "graft/core/context.h"
#include "graft/core/operand.h"

#include "core/choices.h"
#include "kernels/measured.h"

namespace graft::kernels {

/// One implementation of a kernel. A null `run` says that there is none.
template <class... Args>
struct Implementation {
  void (*run)(Context&, Args...) = nullptr;
  /// Whether it can compute this call; null means every call.
  bool (*supports)(const Context&, Args...) = nullptr;
  /// Of calls that it can compute, those that `auto` leaves to the next, because that was measured to be faster or to
  /// be ready sooner: a vectorized one to the library, a library to graft's own; null means none.
  bool (*yields)(const Context&, Args...) = nullptr;

  explicit constexpr operator bool() const { return run != nullptr; }
};

/// The type of the function that says whether an implementation can compute a call.
template <class Run>
struct Supports;
template <class... Args>
struct Supports<void(Context&, Args...)> {
  using Function = bool(const Context&, Args...);
};

/// What one device has: graft's own kernel, the library's, and graft's own for the instruction set of the machine.
template <class... Args>
struct Engines {
  Implementation<Args...> native;
  Implementation<Args...> library;
  Implementation<Args...> vectorized = {};
};

[[noreturn]] void fail_no_device(std::string_view kernel, Device device);
[[noreturn]] void fail_no_kernel(std::string_view kernel, std::string_view engine, Device device);
[[noreturn]] void fail_unsupported(std::string_view kernel, std::string_view engine, Device device);

/// A row of the kernel contract: a function of the operands, and who computes it on which device. Calling it runs the
/// implementation that the Context asks for. `native` takes the vectorized one where it supports the call; `auto` the
/// vectorized one too, unless it yields to the library, then the library's where that supports the call and does not
/// yield, then native. Where both support a call and GRAFT_AUTOTUNE asks for it, `auto` takes the faster one instead.
template <class... Args>
struct Kernel {
  std::string_view name;
  Engines<Args...> cpu;
  Engines<Args...> cuda = {};
  Engines<Args...> emulated = {};  ///< its native column is that of cuda, compiled for the CPU

  void operator()(Context& context, Args... args) const { choose(context, args...).run(context, args...); }

  const Engines<Args...>& on(Device device) const {
    switch (device.kind) {
      case Device::Kind::cpu:
        return cpu;
      case Device::Kind::cuda:
        return cuda;
      case Device::Kind::emulated:
        return emulated;
    }
    fail_no_device(name, device);
  }

  const Implementation<Args...>& choose(const Context& context, const Args&... args) const {
    const Engines<Args...>& engines = on(context.device);
    const auto supported = [&](const Implementation<Args...>& one) {
      return one && (one.supports == nullptr || one.supports(context, args...));
    };
    if (context.engine == Engine::library) {
      if (!engines.library) fail_no_kernel(name, "library", context.device);
      if (!supported(engines.library)) fail_unsupported(name, "library", context.device);
      return engines.library;
    }
    const bool vectorized = context.engine != Engine::reference && supported(engines.vectorized);
    if (context.engine == Engine::automatic) {
      if constexpr (kMeasurable) {
        if (vectorized && autotunes() && supported(engines.library))
          return library_is_faster(context, args...) ? engines.library : engines.vectorized;
      }
      const bool yields =
          vectorized && engines.vectorized.yields != nullptr && engines.vectorized.yields(context, args...);
      if (vectorized && !yields) return engines.vectorized;
      // Asked first, for a library may compile a kernel to say that it supports a call.
      const bool left = engines.library.yields != nullptr && engines.library.yields(context, args...);
      if (!left && supported(engines.library)) return engines.library;
    }
    if (vectorized) return engines.vectorized;
    if (!engines.native) fail_no_kernel(name, "native", context.device);
    if (!supported(engines.native)) fail_unsupported(name, "native", context.device);
    return engines.native;
  }

 private:
  // Calls that can be told from one another, and write no more than their last operand.
  using Written = std::remove_cvref_t<std::tuple_element_t<sizeof...(Args) - 1, std::tuple<Args...>>>;
  static constexpr bool kMeasurable =
      (Describable<Args> && ...) && (std::is_same_v<Written, Operand> || std::is_same_v<Written, Gradient>);

  bool library_is_faster(const Context& context, const Args&... args) const {
    const Operand& written = memory_of(std::get<sizeof...(Args) - 1>(std::tie(args...)));
    std::string call(name);
    (describe(call, args, written), ...);
    std::optional<StandIn> stand_in;
    const auto run = [&](const Implementation<Args...>& one) {
      if (!stand_in) stand_in.emplace(written);
      std::tuple<std::remove_cvref_t<Args>...> own(args...);
      std::apply([&](auto&... each) { (stand_in->replace(written, each), ...); }, own);
      Context scope = context;
      std::apply([&](auto&... each) { one.run(scope, each...); }, own);
    };
    const Engines<Args...>& engines = on(context.device);
    return kernels::library_is_faster(
        call, [&] { run(engines.vectorized); }, [&] { run(engines.library); });
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

/// A vectorized entry of a kernel table: null in a build for another processor than x86-64.
#if GRAFT_HAS_VECTORIZED
#define GRAFT_VECTORIZED(run, supports, yields) \
  { run, supports, yields }
#else
#define GRAFT_VECTORIZED(run, supports, yields) \
  {}
#endif

// NOLINTBEGIN(bugprone-macro-parentheses): a name that is declared or qualified cannot stand in parentheses.

/// Declares the implementation of a kernel for the GPU and for the emulated device, with the type of the CPU's: one
/// source, compiled twice.
#define GRAFT_DECLARE_GPU(name) \
  namespace cuda {              \
  decltype(cpu::name) name;     \
  }                             \
  namespace emulated {          \
  decltype(cpu::name) name;     \
  }

/// The columns of both in a kernel table: null in a build without them.
#if GRAFT_HAS_CUDA
#define GRAFT_CUDA(name)                  \
  {                                       \
    .native = {cuda::name}, .library = {} \
  }
#else
#define GRAFT_CUDA(name) \
  {}
#endif
#if GRAFT_HAS_EMULATED
#define GRAFT_EMULATED(name)                  \
  {                                           \
    .native = {emulated::name}, .library = {} \
  }
#else
#define GRAFT_EMULATED(name) \
  {}
#endif
#define GRAFT_GPU(name) GRAFT_CUDA(name), GRAFT_EMULATED(name)

/// Declares a GPU library's implementation, `library` being the namespace cudnn or cublas, and which calls it takes.
#define GRAFT_DECLARE_GPU_LIBRARY(library, name)           \
  namespace library {                                      \
  decltype(cpu::name) name;                                \
  Supports<decltype(cpu::name)>::Function name##_supports; \
  }

/// Declares which calls of those that a GPU library takes `auto` leaves to graft's own kernel.
#define GRAFT_DECLARE_YIELDS(library, name)              \
  namespace library {                                    \
  Supports<decltype(cpu::name)>::Function name##_yields; \
  }

/// The columns of both devices where a GPU library has the kernel too: null in a build without it.
#if GRAFT_HAS_CUDNN
#define GRAFT_GPU_AND_LIBRARY(library_, name) \
  {.native = {cuda::name}, .library = {library_::name, library_::name##_supports}}, GRAFT_EMULATED(name)
#define GRAFT_GPU_AND_YIELDING_LIBRARY(library_, name)                                                       \
  {.native = {cuda::name}, .library = {library_::name, library_::name##_supports, library_::name##_yields}}, \
      GRAFT_EMULATED(name)
#else
#define GRAFT_GPU_AND_LIBRARY(library_, name) GRAFT_GPU(name)
#define GRAFT_GPU_AND_YIELDING_LIBRARY(library_, name) GRAFT_GPU(name)
#endif

// NOLINTEND(bugprone-macro-parentheses)
