#include <algorithm>
#include <cmath>

#include "graft/autograd/tape.h"
#include "graft/ops/activation.h"
#include "graft/ops/arithmetic.h"
#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/depthwise_conv2d.h"
#include "graft/ops/shape.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/parallel.h"
#include "plan/graph.h"

namespace graft::plan {
namespace {

// What a batch-norm does to each channel: y = scale x + shift.
struct Affine {
  std::vector<double> scale, shift;
};

struct Norm {
  double epsilon = 0;
  Constant gamma, beta, mean, variance;  // gamma and beta may be empty
};

std::vector<double> numbers(const Constant& constant) {
  const Tensor values = constant.value().to(Device{}).to(DType::f64);
  return {values.data<double>(), values.data<double>() + values.elements()};
}

// scale = gamma / sqrt(variance + epsilon), shift = beta - scale mean.
Affine affine(const Norm& norm) {
  Affine result{numbers(norm.variance), numbers(norm.mean)};
  const auto gamma = norm.gamma.from.empty() ? std::vector<double>{} : numbers(norm.gamma);
  const auto beta = norm.beta.from.empty() ? std::vector<double>{} : numbers(norm.beta);
  for (std::size_t c = 0; c < result.scale.size(); ++c) {
    result.scale[c] = (gamma.empty() ? 1 : gamma[c]) / std::sqrt(result.scale[c] + norm.epsilon);
    result.shift[c] = (beta.empty() ? 0 : beta[c]) - result.scale[c] * result.shift[c];
  }
  return result;
}

// The weights of a convolution, each times the scale of its output channel: the first axis of [Co, Kh, Kw, Ci], the
// last of a depthwise [Kh, Kw, C].
Tensor scaled(const Tensor& weights, const std::vector<double>& scale, bool first_axis) {
  const Tensor from = weights.to(Device{});
  Tensor to = Tensor::empty(from.shape(), from.dtype());
  const Index channels = std::ssize(scale), others = from.elements() / channels;
  dispatch_floating("fold", from.dtype(), [&]<class T>(Type<T>) {
    const T* read = from.data<T>();
    T* write = to.mutable_data<T>();
    const auto times = [](T value, double factor) { return convert<T>(factor * static_cast<double>(value)); };
    parallel_for(first_axis ? channels : others, [&](Index i) {
      const Index length = first_axis ? others : channels, begin = i * length;
      for (Index k = 0; k < length; ++k)
        write[begin + k] = times(read[begin + k], scale[static_cast<std::size_t>(first_axis ? i : k)]);
    });
  });
  return to.to(weights.device());
}

Tensor shifted(const Constant& bias, const Affine& affine, const Tensor& like) {
  std::vector<double> values = affine.shift;
  if (!bias.from.empty()) {
    const std::vector<double> before = numbers(bias);
    for (std::size_t c = 0; c < values.size(); ++c) values[c] += affine.scale[c] * before[c];
  }
  return Tensor::from({std::ssize(values)}, values).to(exact(like.dtype())).to(like.device());
}

Constant all_of(std::initializer_list<Constant> constants, std::string how, std::function<Tensor()> make) {
  Constant result{{}, std::move(make), std::move(how)};
  for (const Constant& constant : constants)
    result.from.insert(result.from.end(), constant.from.begin(), constant.from.end());
  return result;
}

// A convolution without activation and residual, and the norm's activation and residual moved onto it with a bias.
struct Convolution {
  std::shared_ptr<const Op> op;
  bool has_bias = false;
  bool depthwise = false;
};

Convolution convolution_of(const Op& op, const ops::BatchNorm& norm) {
  if (const auto* conv = dynamic_cast<const ops::Conv2d*>(&op);
      conv != nullptr && !conv->has_residual && conv->options.activation == Activation::linear) {
    ops::Conv2dOptions options = conv->options;
    options.activation = norm.options.activation;
    return {std::make_shared<const ops::Conv2d>(options, true, norm.has_residual), conv->has_bias, false};
  }
  if (const auto* conv = dynamic_cast<const ops::DepthwiseConv2d*>(&op);
      conv != nullptr && !norm.has_residual && conv->options.activation == Activation::linear) {
    ops::DepthwiseConv2dOptions options = conv->options;
    options.activation = norm.options.activation;
    return {std::make_shared<const ops::DepthwiseConv2d>(options, true), conv->has_bias, true};
  }
  return {};
}

}  // namespace

void fold_batch_norm(Graph& graph) {
  for (std::size_t i = 0; i < graph.calls().size(); ++i) {
    const Graph::Call call = graph.calls()[i];
    const auto* norm = dynamic_cast<const ops::BatchNorm*>(call.op.get());
    if (norm == nullptr || norm->options.statistics == ops::Statistics::batch) continue;
    const Graph::Call* before = graph.only_read_once(call.inputs[0]);
    if (before == nullptr || before->op == nullptr) continue;
    const Convolution convolution = convolution_of(*before->op, *norm);
    const auto known = [&](int value) { return graph.value(value).kind == Graph::Kind::constant; };
    if (convolution.op == nullptr || !std::all_of(before->inputs.begin() + 1, before->inputs.end(), known) ||
        !std::all_of(call.inputs.begin() + 1, call.inputs.begin() + norm->residual(), known))
      continue;

    const auto constant = [&](const Graph::Call& of, bool there, int input) {
      return there ? graph.constants().at(of.inputs[static_cast<std::size_t>(input)]) : Constant{};
    };
    const Norm numbers{norm->options.epsilon, constant(call, norm->has_scale, norm->gamma()),
                       constant(call, norm->has_center, norm->beta()), constant(call, true, norm->moving_mean()),
                       constant(call, true, norm->moving_variance())};
    const int weight_value = before->inputs[1];
    const Constant weight = constant(*before, true, 1), bias = constant(*before, convolution.has_bias, 2);
    const Spec spec = graph.value(weight_value).spec;  // a copy: constants are added below
    const bool first_axis = !convolution.depthwise;
    const std::string how = fmt::format("folded with epsilon {}", numbers.epsilon);
    std::vector<int> inputs{
        before->inputs[0],
        graph.add_constant(graph.value(weight_value).name, spec,
                           all_of({weight, numbers.gamma, numbers.variance}, how,
                                  [=] { return scaled(weight.value(), affine(numbers).scale, first_axis); })),
        graph.add_constant(before->nodes.back() + "/bias", {{spec.shape[first_axis ? 0 : 2]}, exact(spec.dtype)},
                           all_of({bias, numbers.gamma, numbers.beta, numbers.mean, numbers.variance}, how,
                                  [=] { return shifted(bias, affine(numbers), weight.value()); }))};
    if (norm->has_residual) inputs.push_back(call.inputs.back());
    graph.replace(i, convolution.op, std::move(inputs));
  }
}

void fold_constants(Graph& graph) {
  for (std::size_t i = 0; i < graph.calls().size(); ++i) {
    const Graph::Call& call = graph.calls()[i];
    const bool known = std::all_of(call.inputs.begin(), call.inputs.end(),
                                   [&](int value) { return graph.value(value).kind == Graph::Kind::constant; });
    if (call.op == nullptr || !known || call.op->is_random() || call.op->results() != 1) continue;
    std::vector<Constant> inputs;
    Constant result;
    for (const int input : call.inputs) {
      inputs.push_back(graph.constants().at(input));
      result.from.insert(result.from.end(), inputs.back().from.begin(), inputs.back().from.end());
    }
    result.make = [op = call.op, inputs] {
      const autograd::NoGrad off;
      std::vector<Tensor> values;
      values.reserve(inputs.size());
      for (const Constant& input : inputs) values.push_back(input.value());
      return autograd::apply(op, values).front();
    };
    graph.make_constant(i, std::move(result));
  }
}

// Whether a value comes from an activation that is nowhere negative.
bool is_never_negative(const Graph& graph, int value) {
  const int producer = graph.value(value).producer;
  const Op* op = producer < 0 ? nullptr : graph.calls()[static_cast<std::size_t>(producer)].op.get();
  Activation last = Activation::linear;
  if (const auto* activate = dynamic_cast<const ops::Activate*>(op)) last = activate->function;
  if (const auto* norm = dynamic_cast<const ops::BatchNorm*>(op)) last = norm->options.activation;
  if (const auto* conv = dynamic_cast<const ops::Conv2d*>(op)) last = conv->options.activation;
  return last == Activation::relu || last == Activation::relu6;
}

void fold_padding(Graph& graph) {
  for (std::size_t i = 0; i < graph.calls().size(); ++i) {
    const Graph::Call& call = graph.calls()[i];
    if (call.op == nullptr) continue;
    const Graph::Call* before = graph.only_read_once(call.inputs[0]);
    const auto* pad = before == nullptr ? nullptr : dynamic_cast<const ops::Pad*>(before->op.get());
    if (pad == nullptr || pad->options.value != 0 || graph.value(call.inputs[0]).spec.shape.rank() != 4) continue;
    const auto &first = pad->options.before, &last = pad->options.after;
    if (first[0] != 0 || last[0] != 0 || first[3] != 0 || last[3] != 0) continue;
    auto op = call.op->with_padding({.top = first[1], .bottom = last[1], .left = first[2], .right = last[2]},
                                    is_never_negative(graph, before->inputs[0]));
    if (op == nullptr) continue;
    std::vector<int> inputs = call.inputs;
    inputs[0] = before->inputs[0];
    graph.replace(i, std::move(op), std::move(inputs));
  }
}

void fuse_epilogues(Graph& graph) {
  const std::vector<char> need_gradients = graph.need_gradients();
  for (std::size_t i = 0; i < graph.calls().size(); ++i) {
    const Graph::Call& call = graph.calls()[i];
    if (call.op == nullptr) continue;
    if (const auto* activate = dynamic_cast<const ops::Activate*>(call.op.get())) {
      const bool backward = need_gradients[static_cast<std::size_t>(call.inputs[0])] != 0;
      if (backward && !derivative_from_result(activate->function)) continue;
      const Graph::Call* before = graph.only_read_once(call.inputs[0]);
      auto op = before == nullptr ? nullptr : before->op->with_activation(activate->function);
      if (op != nullptr) graph.replace(i, std::move(op), std::vector<int>(before->inputs));
      continue;
    }
    const auto* sum = dynamic_cast<const ops::Arithmetic*>(call.op.get());
    if (sum == nullptr || sum->function != Binary::add) continue;
    for (const std::size_t side : {1u, 0u}) {
      const int one = call.inputs[side], other = call.inputs[1 - side];
      if (graph.value(one).spec != graph.value(other).spec) break;
      const Graph::Call* before = graph.only_read_once(one);
      auto op = before == nullptr ? nullptr : before->op->with_residual();
      if (op == nullptr) continue;
      std::vector<int> inputs = before->inputs;
      inputs.push_back(other);
      graph.replace(i, std::move(op), std::move(inputs));
      break;
    }
  }
}

}  // namespace graft::plan
