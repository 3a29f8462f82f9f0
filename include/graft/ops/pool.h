#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/window.h"

namespace graft::ops {

/// The largest value of each window, one channel at a time.
///
/// y[n,i,j,c] = max of x[n, i s + p d - top, j s + q d - left, c] over the window positions (p, q) that lie inside x.
/// Padding never wins; of equal values the first does, and gets the whole gradient. A NaN wins over every number.
///
/// x        [N, H, W, C], f32, bf16, f16 or f64
/// returns  [N, Ho, Wo, C], the type of x
/// throws   Error if x is not 4-D and floating, or a window lies wholly in the padding
Tensor max_pool(const Tensor& x, const Window& window);

/// The mean of each window, one channel at a time.
///
/// y[n,i,j,c] = mean of x[n, i s + p d - top, j s + q d - left, c] over the window positions (p, q) that lie inside x.
/// Padding is never counted, as in Keras, so a mean at the border has a smaller denominator.
///
/// x        [N, H, W, C], f32, bf16, f16 or f64
/// returns  [N, Ho, Wo, C], the type of x
/// throws   Error if x is not 4-D and floating, or a window lies wholly in the padding
Tensor average_pool(const Tensor& x, const Window& window);

/// The op behind `max_pool`. Input: x. Hidden output: which position p Kw + q of its window each maximum came from, u8
/// in windows of up to 255 positions, else i32.
struct MaxPool final : Op {
  Window window;

  explicit MaxPool(const Window& w) : window(w) {}
  std::string_view name() const override { return "max_pool"; }
  std::string attributes() const override { return window.to_string(); }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  Slots optional_outputs() const override { return {1}; }
  std::shared_ptr<const Op> with_padding(const Padding& more, bool never_negative) const override;
  bool channel_ranges() const override { return true; }
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

/// The op behind `average_pool`. Input: x.
struct AveragePool final : Op {
  Window window;

  explicit AveragePool(const Window& w) : window(w) {}
  std::string_view name() const override { return "average_pool"; }
  std::string attributes() const override { return window.to_string(); }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool channel_ranges() const override { return true; }
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
