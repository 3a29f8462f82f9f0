#include "graft/ops/loss.h"

#include "kernels/loss.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

Tensor apply_with_weights(std::shared_ptr<const Op> op, std::vector<Tensor> inputs, const Tensor& weights) {
  if (weights.defined()) inputs.push_back(weights.to(inputs.front().device()));
  return autograd::apply(std::move(op), inputs).front();
}

Operand weights_of(bool has_weights, std::span<const Operand> inputs) { return has_weights ? inputs[2] : Operand{}; }

void refuse_gradient_of_weights(const Op& op, std::span<const Gradient> dx) {
  check(dx.size() < 3 || !dx[2], "[{}] has no gradient for the weights of the rows", op.name());
}

}  // namespace

std::string SoftmaxCrossEntropy::attributes() const {
  std::string text = label_smoothing == 0 ? "" : fmt::format("label smoothing {}", label_smoothing);
  if (has_weights) text += text.empty() ? "weights" : ", weights";
  return text;
}

std::vector<Spec> SoftmaxCrossEntropy::infer(std::span<const Spec> in) const {
  const Spec &logits = in[0], &labels = in[1];
  check(is_floating(logits.dtype), "[{}] needs logits of a floating type, got {}", name(), logits.dtype);
  check(logits.shape.rank() == 2 && logits.shape[1] > 0, "[{}] expected logits [N, C] with at least one class, got {}",
        name(), logits.shape);
  check(labels.dtype == DType::i32 || labels.dtype == DType::i64, "[{}] expected labels in i32 or i64, got {}", name(),
        labels.dtype);
  check(labels.shape == Shape{logits.shape[0]}, "[{}] expected labels [{}] for logits {}, got {}", name(),
        logits.shape[0], logits.shape, labels.shape);
  check(label_smoothing >= 0 && label_smoothing < 1, "[{}] label smoothing lies in [0, 1), got {}", name(),
        label_smoothing);
  if (has_weights) check_exact(name(), "weights", logits.dtype, in[2], labels.shape);
  return {{Shape{}, exact(logits.dtype)}, {labels.shape, exact(logits.dtype)}};
}

void SoftmaxCrossEntropy::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::softmax_cross_entropy_forward(context, label_smoothing, in[0], in[1], weights_of(has_weights, in), out[0],
                                         out[1]);
}

Saves SoftmaxCrossEntropy::saves(Slots) const {
  return {.inputs = has_weights ? Slots{0, 1, 2} : Slots{0, 1}, .outputs = {1}};
}

// d(log_sum - sum of target x)/dx = softmax(x) - target.
void SoftmaxCrossEntropy::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                                   std::span<const Gradient> dx) const {
  refuse_gradient_of_weights(*this, dx);
  if (!dx[0]) return;
  kernels::softmax_cross_entropy_backward(context, label_smoothing, saved.inputs[0], saved.inputs[1],
                                          weights_of(has_weights, saved.inputs), saved.outputs[1], dy[0], dx[0]);
}

double SoftmaxCrossEntropy::operations(std::span<const Spec> in, std::span<const Spec>) const {
  return 4.0 * static_cast<double>(in[0].shape.elements());
}

std::vector<Spec> BinaryCrossEntropy::infer(std::span<const Spec> in) const {
  const Spec &logits = in[0], &targets = in[1];
  check(is_floating(logits.dtype), "[{}] needs logits of a floating type, got {}", name(), logits.dtype);
  check(logits.shape.rank() > 0, "[{}] expected logits [N, ...], got a scalar", name());
  check(targets == logits, "[{}] expected targets {} {} like the logits, got {} {}", name(), logits.dtype, logits.shape,
        targets.dtype, targets.shape);
  if (has_weights) check_exact(name(), "weights", logits.dtype, in[2], {logits.shape[0]});
  return {{Shape{}, exact(logits.dtype)}};
}

void BinaryCrossEntropy::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::binary_cross_entropy_forward(context, in[0], in[1], weights_of(has_weights, in), out[0]);
}

Saves BinaryCrossEntropy::saves(Slots wanted) const {
  Saves saves{.inputs = {0}, .outputs = {}};
  if (wanted.has(0)) saves.inputs.add(1);
  if (has_weights) saves.inputs.add(2);
  return saves;
}

// d(log(1 + exp(x)) - x t) = (sigmoid(x) - t) dx - x dt.
void BinaryCrossEntropy::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                                  std::span<const Gradient> dx) const {
  refuse_gradient_of_weights(*this, dx);
  kernels::binary_cross_entropy_backward(context, saved.inputs[0], saved.inputs[1],
                                         weights_of(has_weights, saved.inputs), dy[0], dx[0], dx[1]);
}

double BinaryCrossEntropy::operations(std::span<const Spec> in, std::span<const Spec>) const {
  return 6.0 * static_cast<double>(in[0].shape.elements());
}

Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options) {
  return apply_with_weights(
      std::make_shared<const SoftmaxCrossEntropy>(options.label_smoothing, options.weights.defined()),
      {logits, labels.to(logits.device())}, options.weights);
}

Tensor binary_cross_entropy(const Tensor& logits, const Tensor& targets, const Tensor& weights) {
  return apply_with_weights(std::make_shared<const BinaryCrossEntropy>(weights.defined()), {logits, targets}, weights);
}

}  // namespace graft::ops
