#include <chrono>
#include <unordered_map>

#include "graft/autograd/tape.h"
#include "graft/nn/network.h"

#include "core/format.h"
#include "nn/batched.h"
#include "nn/rounding.h"

namespace graft::nn {
namespace {

// Where each value is read for the last time, so that it can be dropped there.
std::vector<std::size_t> last_uses(const Program& program) {
  std::vector<std::size_t> last(program.values.size(), 0);
  for (std::size_t i = 0; i < program.calls.size(); ++i) {
    for (const Value input : program.calls[i].inputs) last[static_cast<std::size_t>(input.index)] = i;
    for (const Value output : program.calls[i].outputs) last[static_cast<std::size_t>(output.index)] = i;
  }
  return last;
}

}  // namespace

void Network::round_weights(DType dtype) {
  for (const auto& [key, parameter] : parameters_) {
    if (!parameter->is_statistic) keep_rounded(parameter->value, dtype);
  }
}

RunResult Network::run(const Tensor& input, const RunOptions& options) {
  materialize();
  for (const LayerEntry& entry : layers_) {
    for (const std::string& key : entry.parameters) {
      Parameter& parameter = *parameters_.at(key);
      const bool trained = autograd::recording() && entry.trainable;
      if (autograd::recording()) parameter.value.set_requires_grad(trained && !parameter.is_statistic);
      if (parameter.shape.rank() > 1 && device_.kind == Device::Kind::cpu)
        parameter.value.storage()->keep_packed(!trained);
    }
  }
  check(input.defined() || !options.given.empty(), "[network] '{}' is given neither an input nor values to start from",
        name);
  const Spec first = input.defined() ? input.spec() : options.given.begin()->second.spec();
  const Shape shape = input.defined() ? first.shape : batched(input_shape_, first.shape[0]);
  LowerOptions lower_options{.training = options.training, .dtype = first.dtype, .outputs = options.until, .given = {}};
  for (const auto& [node, value] : options.given) lower_options.given.emplace(node, value.spec());
  if (lower_options.outputs.empty()) lower_options.outputs.push_back(output().name);
  lower_options.outputs.insert(lower_options.outputs.end(), options.watch.begin(), options.watch.end());
  lower_options.outputs.insert(lower_options.outputs.end(), options.leaves.begin(), options.leaves.end());
  const Program program = lower(shape, lower_options);
  round_weights(lower_options.dtype);

  std::vector<Tensor> values(program.values.size());
  std::vector<char> kept(program.values.size(), 0), leaf(program.values.size(), 0);
  const auto mark = [&](std::vector<char>& flags, Value value) { flags[static_cast<std::size_t>(value.index)] = 1; };
  for (const std::string& node : options.watch) mark(kept, program.node(node));
  for (const std::string& node : options.leaves) mark(leaf, program.node(node));
  mark(kept, program.output);
  mark(kept, program.logits());

  const auto set = [&](Value value, Tensor tensor) {
    const auto i = static_cast<std::size_t>(value.index);
    if (leaf[i] && autograd::recording()) {
      tensor = tensor.detach();
      tensor.set_requires_grad(true);
    }
    values[i] = std::move(tensor);
  };
  for (std::size_t i = 0; i < program.values.size(); ++i) {
    const Program::ValueInfo& info = program.values[i];
    const Value value{static_cast<int>(i)};
    if (info.kind == Program::Kind::parameter)
      values[i] = parameters_.at(info.name)->value.to(info.spec.dtype);
    else if (info.kind == Program::Kind::input && value != program.input)
      set(value, options.given.at(info.name).to(device_));
    else if (value == program.input && input.defined())
      set(value, input.to(device_));
  }

  const std::vector<std::size_t> last = last_uses(program);
  for (std::size_t c = 0; c < program.calls.size(); ++c) {
    const Program::Call& call = program.calls[c];
    std::vector<Tensor> inputs;
    for (const Value from : call.inputs) inputs.push_back(values[static_cast<std::size_t>(from.index)]);
    const auto start = std::chrono::steady_clock::now();
    std::vector<Tensor> results;
    try {
      results = autograd::apply(call.op, inputs);
    } catch (const Error& error) {
      fail("layer '{}': {}", call.node, error.what());
    }
    if (options.observe) {
      synchronize(device_);
      options.observe(call, results, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    for (std::size_t i = 0; i < results.size(); ++i) set(call.outputs[i], results[i]);
    const auto drop = [&](Value value) {
      const auto i = static_cast<std::size_t>(value.index);
      if (last[i] == c && !kept[i]) values[i] = {};
    };
    for (const Value value : call.inputs) drop(value);
    for (const Value value : call.outputs) drop(value);
  }

  RunResult result;
  const auto value_of = [&](Value value) { return values[static_cast<std::size_t>(value.index)]; };
  result.output = value_of(program.output);
  result.logits = value_of(program.logits());
  for (const std::string& node : options.watch) result.watched[node] = value_of(program.node(node));
  return result;
}

}  // namespace graft::nn
