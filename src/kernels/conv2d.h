#pragma once

#include "graft/core/activation.h"
#include "graft/core/window.h"

#include "kernels/kernel.h"

namespace graft {

/// A convolution's numbers: the window, and how channels are connected.
struct ConvGeometry : WindowGeometry {
  Index out_channels = 0;
  Index groups = 1;

  Index in_group() const { return channels / groups; }       ///< input channels that an output channel sees
  Index out_group() const { return out_channels / groups; }  ///< output channels of one group
};
void describe(std::string& call, const ConvGeometry& g, const Operand& written);

namespace kernels {
namespace cpu {
void conv2d_forward(Context&, const ConvGeometry&, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation, const Operand& y);
void conv2d_backward_input(Context&, const ConvGeometry&, const Operand& dz, const Operand& w, Gradient dx);
void conv2d_backward_weight(Context&, const ConvGeometry&, const Operand& x, const Operand& dz, Gradient dw);
}  // namespace cpu
namespace onednn {
void conv2d_forward(Context&, const ConvGeometry&, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation, const Operand& y);
bool conv2d_forward_supports(const Context&, const ConvGeometry&, const Operand& x, const Operand& w,
                             const Operand& bias, const Operand& residual, Activation, const Operand& y);
void conv2d_backward_input(Context&, const ConvGeometry&, const Operand& dz, const Operand& w, Gradient dx);
bool conv2d_backward_input_supports(const Context&, const ConvGeometry&, const Operand& dz, const Operand& w,
                                    Gradient dx);
void conv2d_backward_weight(Context&, const ConvGeometry&, const Operand& x, const Operand& dz, Gradient dw);
bool conv2d_backward_weight_supports(const Context&, const ConvGeometry&, const Operand& x, const Operand& dz,
                                     Gradient dw);
}  // namespace onednn
namespace vectorized {
void conv2d_forward(Context&, const ConvGeometry&, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation, const Operand& y);
bool conv2d_forward_supports(const Context&, const ConvGeometry&, const Operand& x, const Operand& w,
                             const Operand& bias, const Operand& residual, Activation, const Operand& y);
bool conv2d_forward_yields(const Context&, const ConvGeometry&, const Operand& x, const Operand& w, const Operand& bias,
                           const Operand& residual, Activation, const Operand& y);
void conv2d_backward_input(Context&, const ConvGeometry&, const Operand& dz, const Operand& w, Gradient dx);
bool conv2d_backward_input_supports(const Context&, const ConvGeometry&, const Operand& dz, const Operand& w,
                                    Gradient dx);
bool conv2d_backward_input_yields(const Context&, const ConvGeometry&, const Operand& dz, const Operand& w,
                                  Gradient dx);
void conv2d_backward_weight(Context&, const ConvGeometry&, const Operand& x, const Operand& dz, Gradient dw);
bool conv2d_backward_weight_supports(const Context&, const ConvGeometry&, const Operand& x, const Operand& dz,
                                     Gradient dw);
bool conv2d_backward_weight_yields(const Context&, const ConvGeometry&, const Operand& x, const Operand& dz,
                                   Gradient dw);
}  // namespace vectorized
GRAFT_DECLARE_GPU(conv2d_forward)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, conv2d_forward)
GRAFT_DECLARE_YIELDS(cudnn, conv2d_forward)
GRAFT_DECLARE_GPU(conv2d_backward_input)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, conv2d_backward_input)
GRAFT_DECLARE_YIELDS(cudnn, conv2d_backward_input)
GRAFT_DECLARE_GPU(conv2d_backward_weight)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, conv2d_backward_weight)
GRAFT_DECLARE_YIELDS(cudnn, conv2d_backward_weight)

/// y = activation(conv(x, w) + bias + residual). x [N, H, W, Ci], w [Co, Kh, Kw, Ci / groups], bias [Co] or absent,
/// residual like y or absent.
inline constexpr Kernel<const ConvGeometry&, const Operand&, const Operand&, const Operand&, const Operand&, Activation,
                        const Operand&>
    conv2d_forward{"conv2d",
                   {.native = {cpu::conv2d_forward},
                    .library = GRAFT_ONEDNN(onednn::conv2d_forward, onednn::conv2d_forward_supports),
                    .vectorized = GRAFT_VECTORIZED(vectorized::conv2d_forward, vectorized::conv2d_forward_supports,
                                                   vectorized::conv2d_forward_yields)},
                   GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, conv2d_forward)};
/// dx (+)= the transposed convolution of dz with w.
inline constexpr Kernel<const ConvGeometry&, const Operand&, const Operand&, Gradient> conv2d_backward_input{
    "conv2d_backward_input",
    {.native = {cpu::conv2d_backward_input},
     .library = GRAFT_ONEDNN(onednn::conv2d_backward_input, onednn::conv2d_backward_input_supports),
     .vectorized = GRAFT_VECTORIZED(vectorized::conv2d_backward_input, vectorized::conv2d_backward_input_supports,
                                    vectorized::conv2d_backward_input_yields)},
    GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, conv2d_backward_input)};
/// dw (+)= the correlation of x with dz. dw has the type of w.
inline constexpr Kernel<const ConvGeometry&, const Operand&, const Operand&, Gradient> conv2d_backward_weight{
    "conv2d_backward_weight",
    {.native = {cpu::conv2d_backward_weight},
     .library = GRAFT_ONEDNN(onednn::conv2d_backward_weight, onednn::conv2d_backward_weight_supports),
     .vectorized = GRAFT_VECTORIZED(vectorized::conv2d_backward_weight, vectorized::conv2d_backward_weight_supports,
                                    vectorized::conv2d_backward_weight_yields)},
    GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, conv2d_backward_weight)};

}  // namespace kernels
}  // namespace graft
