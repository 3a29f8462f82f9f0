#pragma once

#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"

namespace graft::ops {

/// A convolution and the batch normalisation of its result with the batch's statistics, as training has them one behind
/// the other: on a GPU the convolution's tiles leave with the sums that the statistics need, so that its result is read
/// once less. It computes what `conv2d` and `batch_norm` compute, gradients and moving statistics too.
///
/// z = conv2d(x, w) + bias,  y = f( gamma (z - mean) / sqrt(variance + epsilon) + beta + residual )
///
/// x, w, bias       as of `conv2d`, whose options have no activation
/// gamma, beta, moving_mean, moving_variance, residual  as of `batch_norm`, whose statistics are the batch's
/// returns          [N, Ho, Wo, Co], the type of x
/// throws           Error if shapes, types or options do not fit
Tensor conv2d_batch_norm(const Tensor& x, const Tensor& w, const Conv2dOptions& convolution, const Tensor& bias,
                         const Tensor& gamma, const Tensor& beta, const Tensor& moving_mean,
                         const Tensor& moving_variance, const BatchNormOptions& norm, const Tensor& residual = {});

/// The op behind `conv2d_batch_norm`. Inputs: those of its convolution, then those of its norm but x. Hidden outputs:
/// z, then those of the norm.
struct Conv2dBatchNorm final : Op {
  Conv2d convolution;
  BatchNorm norm;

  Conv2dBatchNorm(const Conv2d& c, const BatchNorm& n) : convolution(c), norm(n) {}
  std::string_view name() const override { return "conv2d_batch_norm"; }
  std::string attributes() const override { return convolution.attributes() + ", " + norm.attributes(); }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  Slots updates() const override { return {input(norm.moving_mean()), input(norm.moving_variance())}; }
  Slots in_place() const override { return norm.has_residual ? Slots{input(norm.residual())} : Slots{}; }
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;

  /// How many inputs are the convolution's, and which input is number `of_norm`, 1 or more, of the norm.
  int convolution_inputs() const { return 2 + convolution.has_bias; }
  int input(int of_norm) const { return convolution_inputs() - 1 + of_norm; }
};

}  // namespace graft::ops
