#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/activation.h"

namespace graft::ops {

/// Where batch_norm takes mean and variance from.
enum class Statistics : std::uint8_t {
  batch,   ///< from the batch, which also updates the moving statistics
  moving,  ///< from the moving statistics, which stay as they are
};

struct BatchNormOptions {
  Statistics statistics = Statistics::moving;
  double epsilon = 1e-3;  ///< added to the variance
  double momentum =
      0.99;  ///< of the moving statistics, as Keras has it: moving = momentum moving + (1 - momentum) batch
  bool unbiased = false;  ///< the moving variance learns from m / (m - 1) times the batch's variance (PyTorch,
                          ///< TensorFlow 2) instead of the variance itself (Keras 3)
  Activation activation = Activation::linear;  ///< fused; for training one whose derivative needs only the result
};

/// Normalises each channel over all other axes, then scales, shifts, adds the residual and applies the activation.
///
/// y = f( gamma (x - mean) / sqrt(variance + epsilon) + beta + residual ),  variance = mean of (x - mean)^2
///
/// x                [..., C], f32, bf16, f16 or f64
/// gamma, beta      [C], f32 (f64 beside f64); undefined for 1 and 0
/// moving_mean, moving_variance  [C], of the same type; changed in place with Statistics::batch
/// residual         like x; undefined for none
/// returns          like x
/// throws           Error if shapes or types do not fit, or the batch has too few elements a channel for the statistics
/// (1; 2 if unbiased)
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& moving_mean,
                  const Tensor& moving_variance, const BatchNormOptions& options = {}, const Tensor& residual = {});

/// The op behind `batch_norm`. Inputs: x, gamma and beta where they are there, moving_mean, moving_variance, residual
/// where it is there. Hidden outputs with Statistics::batch: the batch's mean and 1 / sqrt(variance + epsilon).
struct BatchNorm final : Op {
  BatchNormOptions options;
  bool has_scale = true;   ///< gamma
  bool has_center = true;  ///< beta
  bool has_residual = false;

  BatchNorm(const BatchNormOptions& o, bool scale, bool center, bool residual)
      : options(o), has_scale(scale), has_center(center), has_residual(residual) {}
  std::string_view name() const override { return "batch_norm"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  Slots updates() const override {
    return options.statistics == Statistics::batch ? Slots{moving_mean(), moving_variance()} : Slots{};
  }
  std::shared_ptr<const Op> again() const override;
  Slots in_place() const override { return has_residual ? Slots{0, residual()} : Slots{0}; }
  Slots gradient_in_place() const override { return has_residual ? Slots{residual()} : Slots{}; }
  bool channel_ranges() const override { return true; }
  std::shared_ptr<const Op> with_activation(Activation function) const override;
  std::shared_ptr<const Op> with_residual() const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;

  /// Which input each of them is.
  int gamma() const { return 1; }
  int beta() const { return 1 + has_scale; }
  int moving_mean() const { return 1 + has_scale + has_center; }
  int moving_variance() const { return moving_mean() + 1; }
  int residual() const { return moving_mean() + 2; }
  /// Whether backward finds what the activation let through while it reads x, without a pass for that.
  bool masks() const;
  /// Whether the backward kernel of the Context's device leaves the gradient of the residual on its way.
  bool leaves_residual(const Context& context) const;
};

}  // namespace graft::ops
