#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

/// Normalises each row of channels: y = (x - mean) / sqrt(variance + epsilon) gamma + beta, with mean and variance
/// (divided by C) of that row (Ba, Kiros and Hinton, "Layer Normalization", 2016).
///
/// x            [..., C], f32, bf16, f16 or f64
/// gamma, beta  [C], the type of x, or f32 beside a half x
/// epsilon      above 0; PyTorch's default is 1e-5, Keras's 1e-3, timm's vision transformers use 1e-6
/// returns      like x
/// throws       Error if shapes or types do not fit
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon = 1e-5);

/// The op behind `layer_norm`. Inputs: x, gamma, beta. Besides the result it keeps mean and 1 / sqrt(variance +
/// epsilon) of each row.
struct LayerNorm final : Op {
  double epsilon = 1e-5;

  explicit LayerNorm(double e) : epsilon(e) {}
  std::string_view name() const override { return "layer_norm"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  std::shared_ptr<const Op> again() const override { return std::make_shared<LayerNorm>(*this); }
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
