#include "kernels/conv2d.h"

#include "cpu/onednn/convolution.h"

namespace graft::kernels::onednn {

bool conv2d_forward_supports(const Context&, const ConvGeometry& g, const Operand& x, const Operand& w,
                             const Operand& bias, const Operand& residual, Activation activation, const Operand& y) {
  return supports_forward({g}, x, w, bias, residual, activation, y);
}
void conv2d_forward(Context&, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation activation, const Operand& y) {
  forward({g}, x, w, bias, residual, activation, y);
}

bool conv2d_backward_input_supports(const Context&, const ConvGeometry& g, const Operand& dz, const Operand& w,
                                    Gradient dx) {
  return supports_backward_input({g}, dz, w, dx);
}
void conv2d_backward_input(Context&, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx) {
  backward_input({g}, dz, w, dx);
}

bool conv2d_backward_weight_supports(const Context&, const ConvGeometry& g, const Operand& x, const Operand& dz,
                                     Gradient dw) {
  return supports_backward_weight({g}, x, dz, dw);
}
void conv2d_backward_weight(Context&, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  backward_weight({g}, x, dz, dw);
}

}  // namespace graft::kernels::onednn
