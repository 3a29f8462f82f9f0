#pragma once

#include <optional>

#include "graft/autograd/op.h"

#include "core/format.h"
#include "kernels/elementwise.h"

namespace graft::ops {

/// Checks that a weight, bias or statistic has the type of x, or f32 beside a half x.
inline void check_parameter_type(std::string_view op, std::string_view what, DType x, DType parameter) {
  check(parameter == x || parameter == exact(x), "[{}] expected {} in {} (input {}), got {}", op, what, exact(x), x,
        parameter);
}

/// Checks a parameter that stays exact beside a half x: bias, gamma, beta, statistics.
inline void check_exact(std::string_view op, std::string_view what, DType x, const Spec& parameter,
                        const Shape& shape) {
  check(parameter.shape == shape, "[{}] expected {} {}, got {}", op, what, shape, parameter.shape);
  check(parameter.dtype == exact(x), "[{}] expected {} in {}, got {}", op, what, exact(x), parameter.dtype);
}

/// Checks that backward can go through an activation that is fused into the op before it.
inline void check_fused(std::string_view op, Activation activation) {
  check(derivative_from_result(activation), "[{}] {} cannot be fused: its derivative needs more than the result", op,
        graft::name(activation));
}

/// The shape that two operands are repeated to, as in NumPy: aligned at the last axis, an extent of 1 or a missing axis
/// fits anything.
inline Shape broadcast(std::string_view op, const Shape& a, const Shape& b) {
  const Shape &longer = a.rank() >= b.rank() ? a : b, &shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  for (int axis = 1; axis <= shorter.rank(); ++axis) {
    const Index m = longer[-axis], n = shorter[-axis];
    check(m == n || m == 1 || n == 1, "[{}] {} and {} do not broadcast: axis {} from the end has extents {} and {}", op,
          a, b, axis, a[-axis], b[-axis]);
    if (m == 1) result = result.with(-axis, n);
  }
  return result;
}

/// Bits for possibly negative axes. Throws Error for an axis that is not there or given twice.
inline Slots axis_set(std::string_view op, std::span<const int> axes, const Shape& shape) {
  Slots set;
  for (const int axis : axes) {
    const int at = shape.normalize_axis(axis);
    check(!set.has(at), "[{}] axis {} of {} is given twice", op, axis, shape);
    set.add(at);
  }
  return set;
}

/// `more` zeros around an image that has `padding` around it already; nothing for padding of the kind `same`.
inline std::optional<Padding> padded(const Padding& padding, const Padding& more) {
  if (padding.is_same || more.is_same) return std::nullopt;
  return Padding{.top = padding.top + more.top,
                 .bottom = padding.bottom + more.bottom,
                 .left = padding.left + more.left,
                 .right = padding.right + more.right};
}

/// The gradient before a fused activation: dy itself for `linear`, else dy f'(y), in dy's memory where that is scratch,
/// else in memory that lives as long as this.
class BeforeActivation {
 public:
  BeforeActivation(Context& context, Activation activation, const Saved& saved, const Operand& dy) : dz_(dy) {
    if (activation == Activation::linear) return;
    const Operand& y = saved.outputs[0];
    if (!saved.dy_is_scratch) {
      memory_ = Tensor::empty(dy.shape, dy.dtype, context.device);
      dz_ = memory_;
    }
    kernels::activation_backward(context, activation, y, dy, {dz_, false});
  }
  const Operand& get() const { return dz_; }
  /// Gives dz to an input that it is the gradient of, unless it lies there already.
  void give(Context& context, const Gradient& dx) const {
    if (dx && dx.to.data != dz_.data) kernels::cast(context, dz_, dx.to, dx.accumulate);
  }

 private:
  Tensor memory_;
  Operand dz_;
};

}  // namespace graft::ops
