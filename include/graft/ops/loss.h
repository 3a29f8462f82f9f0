#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

struct CrossEntropyOptions {
  double label_smoothing = 0;  ///< s in [0, 1): the target is (1 - s) at the label plus s / C everywhere
  Tensor weights = {};  ///< [N], what each row counts; 0 leaves a row out, such as one that only fills up a batch.
                        ///< Undefined: all count 1
};

/// Mean over the rows of -sum over c of target_c log(softmax(logits)_c).
///
/// logits   [N, C], f32, bf16, f16 or f64
/// labels   [N], i32 or i64, in 0 .. C-1, on any device; rows of weight 0 are not looked at, neither label nor logits
/// returns  a scalar, f64 for f64 logits, else f32: sum of weight times loss over sum of weights, 0 if that is 0
///
/// It has no gradient for the weights. Throws Error if shapes or types do not fit, and on the CPU for a label that is
/// not a class, naming row and value; on a device, where nobody waits for the kernel, such a label makes the loss NaN.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options = {});

/// Mean over all elements of -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), exact for large x.
///
/// logits   [N, ...], f32, bf16, f16 or f64
/// targets  like logits, in [0, 1]
/// weights  [N], what each row counts; undefined: all count 1
/// returns  a scalar, as `softmax_cross_entropy`
/// throws   Error if shapes or types do not fit
Tensor binary_cross_entropy(const Tensor& logits, const Tensor& targets, const Tensor& weights = {});

/// The op behind `softmax_cross_entropy`. Inputs: logits, labels, then weights where they are there. Besides the loss
/// it keeps log(sum of exp(logits)) of each row: N numbers, from which backward makes each probability by one
/// exponential. The N C probabilities themselves would be C times as many to keep.
struct SoftmaxCrossEntropy final : Op {
  double label_smoothing = 0;
  bool has_weights = false;

  SoftmaxCrossEntropy(double smoothing, bool weights) : label_smoothing(smoothing), has_weights(weights) {}
  std::string_view name() const override { return "softmax_cross_entropy"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

/// The op behind `binary_cross_entropy`. Inputs: logits, targets, then weights where they are there.
struct BinaryCrossEntropy final : Op {
  bool has_weights = false;

  explicit BinaryCrossEntropy(bool weights) : has_weights(weights) {}
  std::string_view name() const override { return "binary_cross_entropy"; }
  std::string attributes() const override { return has_weights ? "weights" : ""; }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
