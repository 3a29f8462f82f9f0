#pragma once

#include "graft/core/activation.h"
#include "graft/core/window.h"

#include "kernels/kernel.h"

namespace graft {

/// A depthwise convolution's numbers: the window, and how many kernels each channel has.
struct DepthwiseGeometry : WindowGeometry {
  Index multiplier = 1;

  Index out_channels() const { return channels * multiplier; }
};

namespace kernels {
namespace cpu {
void depthwise_conv2d_forward(Context&, const DepthwiseGeometry&, const Operand& x, const Operand& w,
                              const Operand& bias, Activation, const Operand& y);
void depthwise_conv2d_backward_input(Context&, const DepthwiseGeometry&, const Operand& dz, const Operand& w,
                                     Gradient dx);
void depthwise_conv2d_backward_weight(Context&, const DepthwiseGeometry&, const Operand& x, const Operand& dz,
                                      Gradient dw);
}  // namespace cpu
namespace onednn {
void depthwise_conv2d_forward(Context&, const DepthwiseGeometry&, const Operand& x, const Operand& w,
                              const Operand& bias, Activation, const Operand& y);
bool depthwise_conv2d_forward_supports(const Context&, const DepthwiseGeometry&, const Operand& x, const Operand& w,
                                       const Operand& bias, Activation, const Operand& y);
void depthwise_conv2d_backward_input(Context&, const DepthwiseGeometry&, const Operand& dz, const Operand& w,
                                     Gradient dx);
bool depthwise_conv2d_backward_input_supports(const Context&, const DepthwiseGeometry&, const Operand& dz,
                                              const Operand& w, Gradient dx);
void depthwise_conv2d_backward_weight(Context&, const DepthwiseGeometry&, const Operand& x, const Operand& dz,
                                      Gradient dw);
bool depthwise_conv2d_backward_weight_supports(const Context&, const DepthwiseGeometry&, const Operand& x,
                                               const Operand& dz, Gradient dw);
}  // namespace onednn

GRAFT_DECLARE_GPU(depthwise_conv2d_forward)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, depthwise_conv2d_forward)
GRAFT_DECLARE_YIELDS(cudnn, depthwise_conv2d_forward)
GRAFT_DECLARE_GPU(depthwise_conv2d_backward_input)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, depthwise_conv2d_backward_input)
GRAFT_DECLARE_YIELDS(cudnn, depthwise_conv2d_backward_input)
GRAFT_DECLARE_GPU(depthwise_conv2d_backward_weight)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, depthwise_conv2d_backward_weight)
GRAFT_DECLARE_YIELDS(cudnn, depthwise_conv2d_backward_weight)

/// y = activation(conv(x, w) + bias), each channel by itself. x [N, H, W, C], w [Kh, Kw, C M], bias [C M] or absent.
inline constexpr Kernel<const DepthwiseGeometry&, const Operand&, const Operand&, const Operand&, Activation,
                        const Operand&>
    depthwise_conv2d_forward{
        "depthwise_conv2d",
        {.native = {cpu::depthwise_conv2d_forward},
         .library = GRAFT_ONEDNN(onednn::depthwise_conv2d_forward, onednn::depthwise_conv2d_forward_supports)},
        GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, depthwise_conv2d_forward)};
/// dx (+)= the transposed convolution of dz with w.
inline constexpr Kernel<const DepthwiseGeometry&, const Operand&, const Operand&, Gradient>
    depthwise_conv2d_backward_input{"depthwise_conv2d_backward_input",
                                    {.native = {cpu::depthwise_conv2d_backward_input},
                                     .library = GRAFT_ONEDNN(onednn::depthwise_conv2d_backward_input,
                                                             onednn::depthwise_conv2d_backward_input_supports)},
                                    GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, depthwise_conv2d_backward_input)};
/// dw (+)= the correlation of x with dz. dw has the type of w.
inline constexpr Kernel<const DepthwiseGeometry&, const Operand&, const Operand&, Gradient>
    depthwise_conv2d_backward_weight{"depthwise_conv2d_backward_weight",
                                     {.native = {cpu::depthwise_conv2d_backward_weight},
                                      .library = GRAFT_ONEDNN(onednn::depthwise_conv2d_backward_weight,
                                                              onednn::depthwise_conv2d_backward_weight_supports)},
                                     GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, depthwise_conv2d_backward_weight)};

}  // namespace kernels
}  // namespace graft
