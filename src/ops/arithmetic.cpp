#include "graft/ops/arithmetic.h"

#include "ops/support.h"

namespace graft::ops {

std::vector<Spec> Arithmetic::infer(std::span<const Spec> in) const {
  check(is_floating(in[0].dtype), "[{}] needs a floating type, got {}", name(), in[0].dtype);
  check(in[0].dtype == in[1].dtype, "[{}] expected two operands of one type, got {} and {}", name(), in[0].dtype,
        in[1].dtype);
  return {{broadcast(name(), in[0].shape, in[1].shape), in[0].dtype}};
}

void Arithmetic::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::binary_forward(context, function, in[0], in[1], out[0]);
}

// d(ab) = b da + a db and d(a/b) = da / b - (a / b^2) db; the derivatives of sums are constant.
Saves Arithmetic::saves(Slots wanted) const {
  Saves saves;
  const bool product = function == Binary::multiply, quotient = function == Binary::divide;
  if ((product || quotient) && wanted.has(0)) saves.inputs.add(1);
  if ((product || quotient) && wanted.has(1)) saves.inputs.add(0);
  if (quotient) saves.inputs.add(1);
  return saves;
}

void Arithmetic::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                          std::span<const Gradient> dx) const {
  // What lies where dy is, is its gradient already.
  const auto other = [&](const Gradient& to) { return to && to.to.data == dy[0].data ? Gradient{} : to; };
  kernels::binary_backward(context, function, saved.inputs[0], saved.inputs[1], dy[0], other(dx[0]), other(dx[1]));
}

Tensor add(const Tensor& a, const Tensor& b) { return autograd::apply(Arithmetic(Binary::add), {a, b}); }
Tensor subtract(const Tensor& a, const Tensor& b) { return autograd::apply(Arithmetic(Binary::subtract), {a, b}); }
Tensor multiply(const Tensor& a, const Tensor& b) { return autograd::apply(Arithmetic(Binary::multiply), {a, b}); }
Tensor divide(const Tensor& a, const Tensor& b) { return autograd::apply(Arithmetic(Binary::divide), {a, b}); }

}  // namespace graft::ops
