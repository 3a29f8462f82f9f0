#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/activation.h"

namespace graft::ops {

/// A fully connected layer: y = f(x w^T + bias), row by row.
///
/// x           [..., in], f32, bf16, f16 or f64
/// w           [out, in], the type of x, or f32 beside a half x (each weight is then rounded to x's type first)
/// bias        [out], the type of x, or f32 beside a half x; undefined for none
/// activation  fused; for training one whose derivative needs only the result
/// returns     [..., out], the type of x
/// throws      Error if shapes, types or the activation do not fit
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias = {}, Activation activation = Activation::linear);

/// The op behind `linear`. Inputs: x, w, then bias where it is there.
struct Linear final : Op {
  Activation activation = Activation::linear;
  bool has_bias = false;

  Linear(Activation f, bool bias) : activation(f), has_bias(bias) {}
  std::string_view name() const override { return "linear"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool channel_ranges() const override { return true; }
  std::shared_ptr<const Op> with_activation(Activation function) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
