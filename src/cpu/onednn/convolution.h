#pragma once

#include "cpu/onednn/engine.h"
#include "kernels/conv2d.h"

// conv2d and depthwise_conv2d are one primitive to oneDNN: a depthwise convolution has as many groups as channels, and
// its weights another layout.
namespace graft::kernels::onednn {

struct Convolution {
  ConvGeometry geometry;
  bool depthwise = false;  ///< weights are [Kh, Kw, Co] instead of [Co, Kh, Kw, Ci / groups]
};

bool supports_forward(const Convolution&, const Operand& x, const Operand& w, const Operand& bias,
                      const Operand& residual, Activation, const Operand& y);
void forward(const Convolution&, const Operand& x, const Operand& w, const Operand& bias, const Operand& residual,
             Activation, const Operand& y);
bool supports_backward_input(const Convolution&, const Operand& dz, const Operand& w, Gradient dx);
void backward_input(const Convolution&, const Operand& dz, const Operand& w, Gradient dx);
bool supports_backward_weight(const Convolution&, const Operand& x, const Operand& dz, Gradient dw);
void backward_weight(const Convolution&, const Operand& x, const Operand& dz, Gradient dw);

}  // namespace graft::kernels::onednn
