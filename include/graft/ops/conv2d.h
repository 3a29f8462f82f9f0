#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/activation.h"
#include "graft/core/window.h"

namespace graft::ops {

struct Conv2dOptions {
  Extent stride = 1;
  Extent dilation = 1;
  Padding padding = kValid;  ///< kValid, kSame, pad(1), or each side by itself
  Index groups = 1;          ///< input and output channels are cut into so many groups, each connected to its own
  Activation activation = Activation::linear;  ///< fused; for training one whose derivative needs only the result
};

/// 2-D cross-correlation with bias, residual and activation in one pass, as in every CNN library (the kernel is not
/// flipped).
///
/// y[n,i,j,o] = f( sum over p,q,c of x[n, i s + p d - top, j s + q d - left, c] w[o,p,q,c] + bias[o] +
/// residual[n,i,j,o] )
///
/// x         [N, H, W, Ci], f32, bf16, f16 or f64
/// w         [Co, Kh, Kw, Ci / groups], the type of x, or f32 beside a half x (each weight is then rounded to x's type
/// first) bias      [Co], the type of x, or f32 beside a half x; undefined for none residual  like the result;
/// undefined for none returns   [N, Ho, Wo, Co], the type of x throws    Error if shapes, types, groups or the
/// activation do not fit
Tensor conv2d(const Tensor& x, const Tensor& w, const Conv2dOptions& options = {}, const Tensor& bias = {},
              const Tensor& residual = {});

/// The op behind `conv2d`. Inputs: x, w, then bias and residual where they are there.
struct Conv2d final : Op {
  Conv2dOptions options;
  bool has_bias = false;
  bool has_residual = false;

  Conv2d(const Conv2dOptions& o, bool bias, bool residual) : options(o), has_bias(bias), has_residual(residual) {}
  std::string_view name() const override { return "conv2d"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  Slots in_place() const override { return has_residual ? Slots{2 + has_bias} : Slots{}; }
  Slots gradient_in_place() const override { return in_place(); }
  bool channel_ranges() const override { return true; }
  std::shared_ptr<const Op> with_activation(Activation function) const override;
  std::shared_ptr<const Op> with_residual() const override;
  std::shared_ptr<const Op> with_padding(const Padding& more, bool never_negative) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
