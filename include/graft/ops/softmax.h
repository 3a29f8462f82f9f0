#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

/// exp(x) / sum of exp(x) over the last axis, computed relative to the largest x so that nothing overflows.
///
/// x  [..., C], a floating type, which the result shares. Throws Error if x is a scalar.
Tensor softmax(const Tensor& x);
/// x - log(sum of exp(x)) over the last axis: the logarithm of `softmax`, exact where that would round to 0.
Tensor log_softmax(const Tensor& x);

/// The op behind them. Input: x.
struct Softmax final : Op {
  bool log = false;

  explicit Softmax(bool logarithm) : log(logarithm) {}
  std::string_view name() const override { return log ? "log_softmax" : "softmax"; }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
