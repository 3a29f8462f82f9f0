#pragma once

#include <functional>
#include <string>
#include <type_traits>

#include "graft/core/activation.h"
#include "graft/core/operand.h"

// Which implementation of a kernel is the fastest for a call, measured at its first time where GRAFT_AUTOTUNE asks for
// it: docs/cpu.md.
namespace graft {

/// Appends what a choice of an implementation depends on. An operand that lies where the call writes is in place.
void describe(std::string& call, const Operand& x, const Operand& written);
void describe(std::string& call, const Gradient& to, const Operand& written);
void describe(std::string& call, Activation activation, const Operand& written);

/// What a call may be told by.
template <class Argument>
concept Describable = requires(std::string& call, const std::remove_cvref_t<Argument>& argument,
                               const Operand& written) {
  describe(call, argument, written);
};

inline const Operand& memory_of(const Operand& y) { return y; }
inline const Operand& memory_of(const Gradient& to) { return to.to; }

/// Memory of its own for an operand that is written, so that measuring overwrites nobody's result.
class StandIn {
 public:
  explicit StandIn(const Operand& written);

  /// Whoever lies where the call writes lies here instead.
  void replace(const Operand& written, Operand& x) const;
  void replace(const Operand& written, Gradient& to) const { replace(written, to.to); }
  template <class Other>
  void replace(const Operand&, Other&) const {}

 private:
  std::shared_ptr<Storage> memory_;
};

namespace kernels {

/// True if the library was, or now is, measured to be faster for the call than graft's own vectorized kernel. Both are
/// run a few times in turns, unless the choice is kept from an earlier time.
bool library_is_faster(const std::string& call, const std::function<void()>& vectorized,
                       const std::function<void()>& library);

}  // namespace kernels
}  // namespace graft
