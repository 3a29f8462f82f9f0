#pragma once

#include "core/format.h"
#include "graft/autograd/op.h"
#include "kernels/elementwise.h"

namespace graft::ops {

/// Checks that a weight, bias or statistic has the type of x, or f32 beside a half x.
inline void check_parameter_type(std::string_view op, std::string_view what, DType x, DType parameter) {
  check(parameter == x || parameter == exact(x), "[{}] expected {} in {} (input {}), got {}", op, what, exact(x), x, parameter);
}

/// The gradient before a fused activation: dy itself for `linear`, else dy f'(y) in memory of its own that lives as long as this.
class BeforeActivation {
 public:
  BeforeActivation(Context& context, Activation activation, const Operand& y, const Operand& dy) : dz_(dy) {
    if (activation == Activation::linear) return;
    memory_ = Tensor::empty(dy.shape, dy.dtype, context.device);
    dz_ = memory_;
    kernels::activation_backward(context, activation, y, dy, {dz_, false});
  }
  const Operand& get() const { return dz_; }

 private:
  Tensor memory_;
  Operand dz_;
};

}  // namespace graft::ops
