#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/activation.h"

namespace graft::ops {

/// f(x), element by element. The formulas stand at `Activation`. x has any shape and a floating type, which the result
/// shares.
Tensor activate(const Tensor& x, Activation function);

/// max(x, 0); the derivative at 0 is 0.
Tensor relu(const Tensor& x);
/// min(max(x, 0), 6); the derivative at 0 and 6 is 0.
Tensor relu6(const Tensor& x);
/// 1 / (1 + exp(-x)).
Tensor sigmoid(const Tensor& x);
Tensor tanh(const Tensor& x);
/// x Phi(x), with the error function (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).
Tensor gelu(const Tensor& x);
/// The same with Phi approximated by a hyperbolic tangent.
Tensor gelu_tanh(const Tensor& x);
/// x sigmoid(x).
Tensor silu(const Tensor& x);

/// The op behind them. Input: x.
struct Activate final : Op {
  Activation function;

  explicit Activate(Activation f) : function(f) {}
  std::string_view name() const override { return graft::name(function); }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  std::shared_ptr<const Op> again() const override { return std::make_shared<Activate>(*this); }
  Slots in_place() const override { return {0}; }
  Slots gradient_in_place() const override { return {0}; }
  bool channel_ranges() const override { return true; }
};

}  // namespace graft::ops
