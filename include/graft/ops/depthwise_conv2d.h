#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/activation.h"
#include "graft/core/window.h"

namespace graft::ops {

struct DepthwiseConv2dOptions {
  Extent stride = 1;
  Extent dilation = 1;
  Padding padding = kValid;                    ///< kValid, kSame, pad(1), or each side by itself
  Activation activation = Activation::linear;  ///< fused; for training one whose derivative needs only the result
};

/// Convolves each channel by itself, with M kernels of its own; bias and activation in the same pass.
///
/// y[n,i,j,cM+m] = f( sum over p,q of x[n, i s + p d - top, j s + q d - left, c] w[p,q,cM+m] + bias[cM+m] )
///
/// x        [N, H, W, C], f32, bf16, f16 or f64
/// w        [Kh, Kw, C M], the type of x, or f32 beside a half x (each weight is then rounded to x's type first)
/// bias     [C M], the type of x, or f32 beside a half x; undefined for none
/// returns  [N, Ho, Wo, C M], the type of x
/// throws   Error if shapes, types or the activation do not fit
Tensor depthwise_conv2d(const Tensor& x, const Tensor& w, const DepthwiseConv2dOptions& options = {},
                        const Tensor& bias = {});

/// The op behind `depthwise_conv2d`. Inputs: x, w, then bias where it is there.
struct DepthwiseConv2d final : Op {
  DepthwiseConv2dOptions options;
  bool has_bias = false;

  DepthwiseConv2d(const DepthwiseConv2dOptions& o, bool bias) : options(o), has_bias(bias) {}
  std::string_view name() const override { return "depthwise_conv2d"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool channel_ranges() const override { return true; }
  std::shared_ptr<const Op> with_activation(Activation function) const override;
  std::shared_ptr<const Op> with_padding(const Padding& more, bool never_negative) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
