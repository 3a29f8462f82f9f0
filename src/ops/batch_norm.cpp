#include "graft/ops/batch_norm.h"

#include "ops/attributes.h"
#include "ops/support.h"

namespace graft::ops {

BatchNormAttributes batch_norm_attributes(const BatchNormOptions& o) {
  return {.epsilon = o.epsilon, .momentum = o.momentum, .unbiased = o.unbiased, .activation = o.activation};
}

namespace {

const Operand& at(std::span<const Operand> operands, int index) { return operands[static_cast<std::size_t>(index)]; }

}  // namespace

std::string BatchNorm::attributes() const {
  std::string text = options.statistics == Statistics::batch
                         ? fmt::format("batch statistics, momentum {}", options.momentum)
                         : "moving statistics";
  text += fmt::format(", epsilon {}", options.epsilon);
  if (has_residual) text += ", residual";
  if (options.activation != Activation::linear) text += fmt::format(", {}", graft::name(options.activation));
  return text;
}

std::vector<Spec> BatchNorm::infer(std::span<const Spec> in) const {
  const Spec& x = in[0];
  const bool batch = options.statistics == Statistics::batch;
  check(is_floating(x.dtype) && x.shape.rank() >= 2, "[batch_norm] expected a floating input [..., C], got {} {}",
        x.dtype, x.shape);
  const Spec channel{{x.shape.channels()}, exact(x.dtype)};
  const auto check_channels = [&](std::string_view what, int index) {
    const Spec& spec = in[static_cast<std::size_t>(index)];
    check(spec == channel, "[batch_norm] expected {} {} {} (input {}), got {} {}", what, channel.dtype, channel.shape,
          x.shape, spec.dtype, spec.shape);
  };
  if (has_scale) check_channels("gamma", gamma());
  if (has_center) check_channels("beta", beta());
  check_channels("moving mean", moving_mean());
  check_channels("moving variance", moving_variance());
  if (has_residual)
    check(in.back() == x, "[batch_norm] expected residual {} {}, got {} {}", x.dtype, x.shape, in.back().dtype,
          in.back().shape);
  check(options.epsilon >= 0 && options.momentum >= 0 && options.momentum <= 1,
        "[batch_norm] expected epsilon >= 0 and momentum in 0..1, got {} and {}", options.epsilon, options.momentum);
  if (!batch) return {x};
  const Index least = options.unbiased ? 2 : 1;
  check(x.shape.elements() == 0 ? x.shape.channels() == 0 : x.shape.rows() >= least,
        "[batch_norm] batch statistics need {} or more elements a channel, got {}", least, x.shape);
  return {x, channel, channel};
}

void BatchNorm::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  const Operand scale = has_scale ? at(in, gamma()) : Operand{}, shift = has_center ? at(in, beta()) : Operand{};
  const Operand added = has_residual ? in.back() : Operand{};
  const ChannelStatistics moving{at(in, moving_mean()), at(in, moving_variance())};
  if (options.statistics == Statistics::batch) {
    kernels::batch_norm_batch(context, batch_norm_attributes(options), in[0], scale, shift, added, moving, out[0],
                              {out[1], out[2]});
  } else {
    kernels::batch_norm_moving(context, batch_norm_attributes(options), in[0], scale, shift, added, moving, out[0]);
  }
}

std::shared_ptr<const Op> BatchNorm::again() const {
  auto op = std::make_shared<BatchNorm>(*this);
  op->options.momentum = 1;  // the moving statistics stay as they are
  return op;
}

Saves BatchNorm::saves(Slots wanted) const {
  check_fused(name(), options.activation);
  Saves saves;
  const bool batch = options.statistics == Statistics::batch;
  const bool x = wanted.has(0), scale = has_scale && wanted.has(gamma());
  if (scale || (x && batch)) saves.inputs.add(0);
  if (x && has_scale) saves.inputs.add(gamma());
  if (x || scale) {
    (batch ? saves.outputs : saves.inputs).add(batch ? 1 : moving_mean());
    (batch ? saves.outputs : saves.inputs).add(batch ? 2 : moving_variance());
  }
  if (options.activation != Activation::linear) saves.outputs.add(0);
  if (masks() && (x || scale)) {
    if (has_scale) saves.inputs.add(gamma());
    if (has_center) saves.inputs.add(beta());
  }
  return saves;
}

// Where something was added, dz is a result itself.
bool BatchNorm::masks() const {
  const bool clamps = options.activation == Activation::relu || options.activation == Activation::relu6;
  return clamps && !has_residual && options.statistics == Statistics::batch;
}

bool BatchNorm::leaves_residual(const Context& context) const {
  return has_residual && options.activation != Activation::linear && options.statistics == Statistics::batch &&
         context.device.kind != Device::Kind::cpu && context.engine != Engine::library;
}

namespace {

// Libraries take dz alone, and so do the plain loops of a CPU where a library would be faster.
bool computes_masks(const Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                    const Operand& beta, const ChannelStatistics& saved, const Operand& dy,
                    const BatchNormGradients& to) {
  if (context.engine == Engine::library) return false;
  if (context.device.kind != Device::Kind::cpu || context.engine != Engine::automatic) return true;
  const auto& kernel = kernels::batch_norm_batch_backward;
  return &kernel.choose(context, a, x, gamma, beta, saved, dy, to) == &kernel.cpu.vectorized;
}

}  // namespace

// With z the sum under the activation: dz = dy f'(y), and dresidual = dz; the kernels carry the derivation of the rest.
void BatchNorm::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                         std::span<const Gradient> dx) const {
  const auto gradient = [&](bool there, int index) { return there ? dx[static_cast<std::size_t>(index)] : Gradient{}; };
  check(!gradient(true, moving_mean()) && !gradient(true, moving_variance()),
        "[batch_norm] moving statistics have no gradient");
  const BatchNormGradients to{dx[0], gradient(has_scale, gamma()), gradient(has_center, beta())};
  const Operand scale = has_scale ? at(saved.inputs, gamma()) : Operand{};
  BatchNormAttributes attributes = batch_norm_attributes(options);
  if (masks() && (to.x || to.gamma)) {
    const Operand shift = has_center ? at(saved.inputs, beta()) : Operand{};
    const ChannelStatistics of_batch{saved.outputs[1], saved.outputs[2]};
    if (computes_masks(context, attributes, saved.inputs[0], scale, shift, of_batch, dy[0], to))
      return kernels::batch_norm_batch_backward(context, attributes, saved.inputs[0], scale, shift, of_batch, dy[0],
                                                to);
  }
  if (leaves_residual(context) && (to.x || to.gamma) && dx.back() && !dx.back().accumulate) {
    BatchNormGradients all = to;
    all.residual = dx.back().to;
    all.y = saved.outputs[0];
    return kernels::batch_norm_batch_backward(context, attributes, saved.inputs[0], scale, {},
                                              {saved.outputs[1], saved.outputs[2]}, dy[0], all);
  }
  const BeforeActivation dz(context, options.activation, saved, dy[0]);
  attributes.activation = Activation::linear;
  if (to.x || to.gamma || to.beta) {
    if (options.statistics == Statistics::batch) {
      kernels::batch_norm_batch_backward(context, attributes, saved.inputs[0], scale, {},
                                         {saved.outputs[1], saved.outputs[2]}, dz.get(), to);
    } else {
      const ChannelStatistics moving{at(saved.inputs, moving_mean()), at(saved.inputs, moving_variance())};
      kernels::batch_norm_moving_backward(context, attributes, saved.inputs[0], scale, moving, dz.get(), to);
    }
  }
  if (has_residual) dz.give(context, dx.back());
}

std::shared_ptr<const Op> BatchNorm::with_activation(Activation function) const {
  if (options.activation != Activation::linear) return nullptr;
  auto op = std::make_shared<BatchNorm>(*this);
  op->options.activation = function;
  return op;
}

std::shared_ptr<const Op> BatchNorm::with_residual() const {
  if (has_residual || options.activation != Activation::linear) return nullptr;
  return std::make_shared<const BatchNorm>(options, has_scale, has_center, true);
}

double BatchNorm::operations(std::span<const Spec>, std::span<const Spec> out) const {
  const double passes = options.statistics == Statistics::batch
                            ? 6
                            : 3;  // subtract, scale, shift; the moments take a sum, a difference and a product more
  return passes * static_cast<double>(out[0].shape.elements());
}

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& moving_mean,
                  const Tensor& moving_variance, const BatchNormOptions& options, const Tensor& residual) {
  std::vector<Tensor> inputs{x};
  if (gamma.defined()) inputs.push_back(gamma);
  if (beta.defined()) inputs.push_back(beta);
  inputs.push_back(moving_mean);
  inputs.push_back(moving_variance);
  if (residual.defined()) inputs.push_back(residual);
  return autograd::apply(
             std::make_shared<const BatchNorm>(options, gamma.defined(), beta.defined(), residual.defined()), inputs)
      .front();
}

}  // namespace graft::ops
