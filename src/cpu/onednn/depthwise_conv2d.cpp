#include "kernels/depthwise_conv2d.h"

#include "cpu/onednn/convolution.h"

namespace graft::kernels::onednn {
namespace {

Convolution grouped(const DepthwiseGeometry& g) { return {{g, g.out_channels(), g.channels}, true}; }

}  // namespace

bool depthwise_conv2d_forward_supports(const Context&, const DepthwiseGeometry& g, const Operand& x, const Operand& w,
                                       const Operand& bias, Activation activation, const Operand& y) {
  return supports_forward(grouped(g), x, w, bias, {}, activation, y);
}
void depthwise_conv2d_forward(Context&, const DepthwiseGeometry& g, const Operand& x, const Operand& w,
                              const Operand& bias, Activation activation, const Operand& y) {
  forward(grouped(g), x, w, bias, {}, activation, y);
}

bool depthwise_conv2d_backward_input_supports(const Context&, const DepthwiseGeometry& g, const Operand& dz,
                                              const Operand& w, Gradient dx) {
  return supports_backward_input(grouped(g), dz, w, dx);
}
void depthwise_conv2d_backward_input(Context&, const DepthwiseGeometry& g, const Operand& dz, const Operand& w,
                                     Gradient dx) {
  backward_input(grouped(g), dz, w, dx);
}

bool depthwise_conv2d_backward_weight_supports(const Context&, const DepthwiseGeometry& g, const Operand& x,
                                               const Operand& dz, Gradient dw) {
  return supports_backward_weight(grouped(g), x, dz, dw);
}
void depthwise_conv2d_backward_weight(Context&, const DepthwiseGeometry& g, const Operand& x, const Operand& dz,
                                      Gradient dw) {
  backward_weight(grouped(g), x, dz, dw);
}

}  // namespace graft::kernels::onednn
