#include "dense.h"
#include "device/gemm_choice.h"
#include "kernels/linear.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// One product of one term.
DenseProduct one(const Operand& a, const Operand& b, Gradient to) {
  const Strided point(Operand(nullptr, Shape{1}, DType::f32));
  return {.a = a,
          .b = b,
          .products = JoinedAxes<3>({&point, &point, &point}),
          .terms = JoinedAxes<2>({&point, &point}),
          .to = to};
}

}  // namespace

void linear_forward(Context& context, const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                    const Operand& y) {
  dispatch_floating("linear", x.dtype, [&]<class T>(Type<T>) {
    const RoundedWeights<T> weights(context, w);
    DenseProduct product = one(x, *weights, {y, false});
    product.transpose_b = true;
    product.rows = x.shape.rows();
    product.columns = w.shape[0];
    product.depth = w.shape[1];
    product.bias = bias.data;
    product.activation = activation;
    dense_product(context, "linear", product);
  });
}

void linear_backward_input(Context& context, const Operand& dz, const Operand& w, Gradient dx) {
  dispatch_floating("linear", dz.dtype, [&]<class T>(Type<T>) {
    const RoundedWeights<T> weights(context, w);
    DenseProduct product = one(dz, *weights, dx);
    product.rows = dz.shape.rows();
    product.columns = w.shape[1];
    product.depth = w.shape[0];
    dense_product(context, "linear_backward_input", product);
  });
}

void linear_backward_weight(Context& context, const Operand& x, const Operand& dz, Gradient dw) {
  dispatch_floating("linear", x.dtype, [&]<class T>(Type<T>) {
    sum_weight_gradient<T>(context, "linear_backward_weight", dw, [&](Gradient sums) {
      DenseProduct product = one(dz, x, sums);
      product.transpose_a = true;
      product.rows = dw.to.shape[0];
      product.columns = dw.to.shape[1];
      product.depth = x.shape.rows();
      dense_product(context, "linear_backward_weight", product);
    });
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
