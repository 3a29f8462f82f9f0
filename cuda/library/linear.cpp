#include "kernels/linear.h"

#include "library/operands.h"
#include "library/preference.h"
#include "library/product.h"

namespace graft::kernels::cublas {
namespace {

using namespace graft::cublas;
using library::Rounded;

Product forward(const Operand& x, const Operand& w, const Operand& bias, Activation activation, const Operand& y) {
  return {.a = x,
          .b = w,
          .transpose_b = true,
          .rows = x.shape.rows(),
          .columns = w.shape[0],
          .depth = w.shape[1],
          .bias = bias,
          .activation = activation,
          .y = {y, false}};
}

Product backward_input(const Operand& dz, const Operand& w, const Gradient& dx) {
  return {.a = dz, .b = w, .rows = dz.shape.rows(), .columns = w.shape[1], .depth = w.shape[0], .y = dx};
}

// Halves are summed in f32, and a gradient in f32 is written as such.
Product backward_weight(const Operand& x, const Operand& dz, const Gradient& dw) {
  return {.a = dz,
          .b = x,
          .transpose_a = true,
          .rows = dw.to.shape[0],
          .columns = dw.to.shape[1],
          .depth = x.shape.rows(),
          .y = dw};
}

}  // namespace

void linear_forward(Context& context, const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                    const Operand& y) {
  const Rounded weights(context, w, x.dtype);
  const Product product = forward(x, *weights, bias, activation, y);
  run(context, "cublas_linear", *plan_for(context, product), product);
}
bool linear_forward_supports(const Context& context, const Operand& x, const Operand& w, const Operand& bias,
                             Activation activation, const Operand& y) {
  return plan_for(context, forward(x, Rounded::like(w, x.dtype), bias, activation, y)) != nullptr;
}
// Another activation is a pass over the product, in f32.
bool linear_forward_yields(const Context& context, const Operand& x, const Operand&, const Operand&,
                           Activation activation, const Operand&) {
  return !fuses(activation) && library::own_products_suffice(context, x.dtype);
}

void linear_backward_input(Context& context, const Operand& dz, const Operand& w, Gradient dx) {
  const Rounded weights(context, w, dz.dtype);
  const Product product = backward_input(dz, *weights, dx);
  run(context, "cublas_linear_backward_input", *plan_for(context, product), product);
}
bool linear_backward_input_supports(const Context& context, const Operand& dz, const Operand& w, Gradient dx) {
  return plan_for(context, backward_input(dz, Rounded::like(w, dz.dtype), dx)) != nullptr;
}

void linear_backward_weight(Context& context, const Operand& x, const Operand& dz, Gradient dw) {
  const Product product = backward_weight(x, dz, dw);
  run(context, "cublas_linear_backward_weight", *plan_for(context, product), product);
}
bool linear_backward_weight_supports(const Context& context, const Operand& x, const Operand& dz, Gradient dw) {
  return !is_half(dw.to.dtype) && plan_for(context, backward_weight(x, dz, dw)) != nullptr;
}

}  // namespace graft::kernels::cublas
