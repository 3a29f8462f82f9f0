#include "train/diagnose.h"

#include <cmath>

#include "graft/autograd/backward.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"

namespace graft::train {
namespace {

bool is_finite(const Tensor& anywhere) {
  if (!anywhere.defined() || !is_floating(anywhere.dtype())) return true;
  const Tensor tensor = anywhere.to(Device{});
  return dispatch_floating("is_finite", tensor.dtype(), [&]<class T>(Type<T>) {
    for (const T value : tensor.values<T>()) {
      if (!std::isfinite(static_cast<double>(convert<Accumulator<T>>(value)))) return false;
    }
    return true;
  });
}

}  // namespace

std::string first_non_finite(nn::Network& network, const Examples& examples, DType dtype, const Loss& loss,
                             bool training) {
  for (const auto& [node, value] : examples.values) {
    if (!is_finite(value))
      return fmt::format("a value given to '{}' is not finite (examples {})", node, fmt::join(examples.indices, ", "));
  }
  for (const nn::Parameter* parameter : network.parameters()) {
    if (!is_finite(parameter->value)) return fmt::format("parameter '{}' is not finite", parameter->name);
  }
  std::string first;
  std::vector<std::pair<std::string, Tensor>> trace;  // in order of computation
  const auto observe = [&](const nn::Program::Call& call, std::span<const Tensor> results, double) {
    for (const Tensor& result : results) {
      trace.emplace_back(call.node, result);
      if (first.empty() && !is_finite(result)) {
        first =
            fmt::format("the first value that is not finite comes from layer '{}' ({})", call.node, call.op->name());
      }
    }
  };
  nn::RunOptions options;
  options.training = training;
  options.observe = observe;
  const nn::RunResult result = run(network, examples, dtype, options);
  if (!first.empty()) return first;
  const Tensor value = loss(result.logits, examples);
  if (!is_finite(value) || !training) return "the loss overflows, though every layer's value is finite";
  std::vector<std::string> nodes;
  std::vector<Tensor> values;
  for (auto call = trace.rbegin(); call != trace.rend(); ++call) {
    if (!call->second.requires_grad()) continue;
    nodes.push_back(call->first);
    values.push_back(call->second);
  }
  const std::vector<Tensor> gradients = autograd::gradients(value, values);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!is_finite(gradients[i]))
      return fmt::format("the first gradient that is not finite is that of layer '{}'", nodes[i]);
  }
  return "the layers' gradients are finite, but not those of all parameters";
}

}  // namespace graft::train
