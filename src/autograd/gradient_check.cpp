#include "graft/autograd/gradient_check.h"

#include <algorithm>
#include <cmath>

#include "graft/autograd/backward.h"

#include "core/format.h"

namespace graft::autograd {
namespace {

using Function = std::function<Tensor(std::span<const Tensor>)>;

// Calls f with the random state as it is now, and leaves it so.
Tensor call(const Function& f, std::span<const Tensor> inputs) {
  const ContextScope scope;
  return f(inputs);
}

double weighted_sum(const Tensor& y, const Tensor& weights) {
  double sum = 0;
  for (Index i = 0; i < y.elements(); ++i) sum += y.data<double>()[i] * weights.data<double>()[i];
  return sum;
}

double difference(const Function& f, std::vector<Tensor>& inputs, std::size_t input, Index element,
                  double relative_step, const Tensor& weights) {
  const NoGrad off;
  const Tensor point = inputs[input];
  const auto at = [&](double shift) {
    Tensor moved = point.clone();
    moved.mutable_data<double>()[element] += shift;
    inputs[input] = moved;
    return weighted_sum(call(f, inputs), weights);
  };
  const double step = relative_step * std::max(1.0, std::fabs(point.data<double>()[element]));
  const double slope = (at(step) - at(-step)) / (2 * step);
  inputs[input] = point;
  return slope;
}

}  // namespace

std::string GradientReport::to_string() const {
  return fmt::format("{}, {} elements, worst error {:.2g}: input {}, element {}: backward {:.9g}, difference {:.9g}",
                     passed ? "passed" : "failed", compared, error, input, element, analytic, numeric);
}

GradientReport check_gradients(const Function& f, std::span<const Tensor> inputs, const GradientCheckOptions& options) {
  Generator generator{.seed = options.seed};
  std::vector<Tensor> leaves;
  for (const Tensor& input : inputs) {
    const bool floating = is_floating(input.dtype());
    leaves.push_back(floating ? input.to(DType::f64).clone() : input);
    if (floating) leaves.back().set_requires_grad(true);
  }
  const Tensor y = call(f, leaves);
  check(y.dtype() == DType::f64, "[gradient_check] the result of the function must be f64 like its inputs, got {}",
        y.dtype());
  Tensor weights = Tensor::empty(y.shape(), DType::f64);
  for (Index i = 0; i < y.elements(); ++i) weights.mutable_data<double>()[i] = generator.normal();
  const std::vector<Tensor> analytic = gradients(y, leaves, {.seed = weights});

  GradientReport worst;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].requires_grad()) continue;
    const auto slopes = analytic[i].values<double>();
    double scale = 1;
    for (const double slope : slopes) scale = std::max(scale, std::fabs(slope));
    const Index count = analytic[i].elements();
    for (Index probe = 0; probe < std::min(count, options.probes); ++probe) {
      const Index element = count <= options.probes ? probe : generator.below(count);
      const double slope = slopes[static_cast<std::size_t>(element)];
      const double numeric = difference(f, leaves, i, element, options.step, weights);
      const double error = std::fabs(slope - numeric) / scale;
      const bool farther = !(error <= worst.error);  // so that a NaN is the worst of all
      const bool first = worst.compared++ == 0;
      if (!first && (std::isnan(worst.error) || !farther)) continue;
      worst.error = error;
      worst.input = static_cast<int>(i);
      worst.element = element;
      worst.analytic = slope;
      worst.numeric = numeric;
    }
  }
  worst.passed = worst.error <= options.tolerance;
  return worst;
}

}  // namespace graft::autograd
