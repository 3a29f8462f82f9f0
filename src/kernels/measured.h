#pragma once

#include <functional>
#include <string>

#include "graft/core/activation.h"
#include "graft/core/operand.h"

// Which implementation of a kernel is the fastest for a call, measured at its first time where GRAFT_AUTOTUNE asks for
// it: docs/cpu.md.
namespace graft {

/// Appends what a choice of an implementation depends on.
void describe(std::string& call, const Operand& x);
void describe(std::string& call, const Gradient& to);
void describe(std::string& call, Activation activation);

/// Memory of its own for an operand that is written, so that measuring overwrites nobody's result.
class StandIn {
 public:
  explicit StandIn(const Operand& x);

  Operand operand() const;

 private:
  Operand like_;
  std::shared_ptr<Storage> memory_;
};

namespace kernels {

/// True if the library was, or now is, measured to be faster for the call than graft's own vectorized kernel. Both are
/// run a few times in turns, unless the choice is kept from an earlier time.
bool library_is_faster(const std::string& call, const std::function<void()>& vectorized,
                       const std::function<void()>& library);

}  // namespace kernels
}  // namespace graft
