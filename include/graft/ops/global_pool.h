#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

/// The mean of each channel over the image: y[n,c] = mean of x[n,i,j,c] over i and j.
///
/// x        [N, H, W, C], f32, bf16, f16 or f64
/// returns  [N, C], the type of x
/// throws   Error if x is not 4-D and floating, or has no pixels
Tensor global_average_pool(const Tensor& x);

/// The largest value of each channel over the image: y[n,c] = max of x[n,i,j,c] over i and j. Of equal values the first
/// gets the gradient.
///
/// x        [N, H, W, C], f32, bf16, f16 or f64
/// returns  [N, C], the type of x
/// throws   Error if x is not 4-D and floating, or has no pixels
Tensor global_max_pool(const Tensor& x);

/// The op behind `global_average_pool`: average pooling with one window, the image. Input: x.
struct GlobalAveragePool final : Op {
  std::string_view name() const override { return "global_average_pool"; }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool channel_ranges() const override { return true; }
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

/// The op behind `global_max_pool`: max pooling with one window, the image. Input: x. Hidden output: the pixel i W + j
/// of each maximum.
struct GlobalMaxPool final : Op {
  std::string_view name() const override { return "global_max_pool"; }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool channel_ranges() const override { return true; }
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
