#include "graft/ops/conv2d_batch_norm.h"

#include <algorithm>

#include "kernels/conv2d_batch_norm.h"
#include "ops/attributes.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

constexpr int kZ = 1;  // the hidden output that is the convolution's result; 0 is y

// What the norm sees: z, then the inputs behind the convolution's; its outputs without z.
template <class T>
std::vector<T> norm_inputs(const T& z, std::span<const T> inputs, int of_convolution) {
  std::vector<T> result{z};
  result.insert(result.end(), inputs.begin() + of_convolution, inputs.end());
  return result;
}
template <class T>
std::vector<T> norm_outputs(std::span<const T> outputs) {
  std::vector<T> result{outputs[0]};
  result.insert(result.end(), outputs.begin() + kZ + 1, outputs.end());
  return result;
}

}  // namespace

std::vector<Spec> Conv2dBatchNorm::infer(std::span<const Spec> in) const {
  check(convolution.options.activation == Activation::linear && !convolution.has_residual,
        "[conv2d_batch_norm] expected a convolution without activation and residual, got {}", convolution.attributes());
  check(norm.options.statistics == Statistics::batch,
        "[conv2d_batch_norm] expected a norm with batch statistics, got {}", norm.attributes());
  const int count = convolution_inputs();
  const Spec z = convolution.infer(in.first(static_cast<std::size_t>(count))).front();
  std::vector<Spec> outputs = norm.infer(norm_inputs(z, in, count));
  outputs.insert(outputs.begin() + kZ, z);
  return outputs;
}

void Conv2dBatchNorm::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  const auto of_norm = [&](int index) { return in[static_cast<std::size_t>(input(index))]; };
  kernels::conv2d_batch_norm(context, conv_geometry(convolution.options, in[0].shape, in[1].shape),
                             batch_norm_attributes(norm.options),
                             {.x = in[0],
                              .w = in[1],
                              .bias = convolution.has_bias ? in[2] : Operand{},
                              .gamma = norm.has_scale ? of_norm(norm.gamma()) : Operand{},
                              .beta = norm.has_center ? of_norm(norm.beta()) : Operand{},
                              .residual = norm.has_residual ? of_norm(norm.residual()) : Operand{},
                              .moving = {of_norm(norm.moving_mean()), of_norm(norm.moving_variance())},
                              .z = out[kZ],
                              .y = out[0],
                              .saved = {out[kZ + 1], out[kZ + 2]}});
}

Saves Conv2dBatchNorm::saves(Slots wanted) const {
  const int count = convolution_inputs();
  Slots of_convolution, of_norm;
  of_convolution.bits = wanted.bits & ((1u << count) - 1);
  if (of_convolution.any()) of_norm.add(0);
  for (int i = 1; i <= norm.residual(); ++i) {
    if (wanted.has(input(i))) of_norm.add(i);
  }
  Saves saves = convolution.saves(of_convolution);
  const Saves more = norm.saves(of_norm);
  if (more.inputs.has(0)) saves.outputs.add(kZ);
  for (int i = 1; i <= norm.residual(); ++i) {
    if (more.inputs.has(i)) saves.inputs.add(input(i));
  }
  for (const int i : {0, 1, 2}) {
    if (more.outputs.has(i)) saves.outputs.add(i == 0 ? 0 : kZ + i);
  }
  return saves;
}

// The chain rule: the norm's gradient of its input is the convolution's of its result.
void Conv2dBatchNorm::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                               std::span<const Gradient> dx) const {
  const auto count = static_cast<std::size_t>(convolution_inputs());
  const std::span<const Gradient> of_convolution = dx.first(count);
  const bool further =
      std::any_of(of_convolution.begin(), of_convolution.end(), [](const Gradient& g) { return bool(g); });
  const Operand& z = saved.outputs[kZ];
  Tensor memory;
  Gradient dz;
  if (further) {
    memory = Tensor::empty(z.shape, z.dtype, context.device);
    dz = {memory, false};
  }
  const auto inputs = norm_inputs(z, saved.inputs, convolution_inputs()), outputs = norm_outputs(saved.outputs);
  norm.backward(context, {inputs, outputs, saved.dy_is_scratch}, dy, norm_inputs(dz, dx, convolution_inputs()));
  if (further) convolution.backward(context, {saved.inputs.first(count), {&z, 1}, true}, {&dz.to, 1}, of_convolution);
}

double Conv2dBatchNorm::operations(std::span<const Spec> in, std::span<const Spec> out) const {
  return convolution.operations(in, out) + norm.operations(in, out);
}

Tensor conv2d_batch_norm(const Tensor& x, const Tensor& w, const Conv2dOptions& convolution, const Tensor& bias,
                         const Tensor& gamma, const Tensor& beta, const Tensor& moving_mean,
                         const Tensor& moving_variance, const BatchNormOptions& norm, const Tensor& residual) {
  std::vector<Tensor> inputs;
  for (const Tensor& tensor : {x, w, bias, gamma, beta, moving_mean, moving_variance, residual}) {
    if (tensor.defined()) inputs.push_back(tensor);
  }
  return autograd::apply(std::make_shared<const Conv2dBatchNorm>(
                             Conv2d(convolution, bias.defined(), false),
                             BatchNorm(norm, gamma.defined(), beta.defined(), residual.defined())),
                         inputs)
      .front();
}

}  // namespace graft::ops
