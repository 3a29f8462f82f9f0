#pragma once

#include <string_view>

#include "graft/core/device.h"
#include "graft/core/generator.h"
#include "graft/core/stream.h"

namespace graft {

/// Who computes an op.
enum class Engine : std::uint8_t {
  automatic,  ///< the fastest implementation that supports the call
  native,     ///< graft's own kernels, which run everything
  library,    ///< oneDNN on the CPU, cuDNN and cuBLAS on the GPU; an error where the library does not have the op
  reference,  ///< `native` without the kernels for one instruction set: the readable loops that define each op
};

std::string_view name(Engine engine);
/// Reads `auto`, `native`, `library`, `reference`. Throws Error for anything else.
Engine engine_from_name(std::string_view name);

/// Everything a kernel needs beside its operands. Each thread has a current one.
struct Context {
  Device device;
  Stream stream;  ///< where kernels and copies are queued; by default the device's own
  Engine engine = Engine::automatic;
  Generator generator;  ///< where dropout draws from
  /// If set: i64 [2] in the memory of the device, a seed that stands for the generator's and a count that is added to
  /// its offset. A kernel reads them when it runs, so that a recorded step draws anew each time it is replayed.
  const std::int64_t* random_state = nullptr;
  /// Lets products of f32 on a GPU run on tensor cores, which read 10 of the 23 bits of each factor's fraction (TF32).
  bool allow_tf32 = false;
  /// Lets `auto` take kernels that no committed result of a GPU has proved yet.
  bool allow_unproved = false;

  static Context& current();
};

/// Makes a copy of the current Context current until the end of the scope, to be changed freely:
/// `ContextScope scope; scope->engine = Engine::native;`
class ContextScope {
 public:
  ContextScope() : saved_(Context::current()) {}
  ~ContextScope() { Context::current() = saved_; }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
  Context* operator->() { return &Context::current(); }

 private:
  Context saved_;
};

/// How many threads kernels use, one budget for the process; 0 asks for all cores. OMP_THREAD_LIMIT is the most.
void set_threads(int threads);
int threads();

}  // namespace graft
