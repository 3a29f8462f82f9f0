#include "nn/lowering.h"

#include "core/format.h"

namespace graft::nn {

Value NetworkLowering::add_value(Program::ValueInfo info) {
  program_.values.push_back(std::move(info));
  return {static_cast<int>(program_.values.size()) - 1};
}

Value NetworkLowering::input(const Spec& spec, const std::string& name) {
  return add_value({spec, Program::Kind::input, name});
}

Value NetworkLowering::node(const NodeEntry& node, const std::vector<Value>& inputs) {
  layer_ = node.layer;
  node_ = node.name;
  try {
    const Layer& kind = *layer().layer;
    const int arity = kind.arity();
    check(arity < 0 || static_cast<std::size_t>(arity) == inputs.size(), "{} takes {} inputs, got {}", kind.type(),
          arity, inputs.size());
    const Value value = kind.lower(*this, inputs);
    program_.nodes.push_back({node.name, value});
    return value;
  } catch (const Error& error) {
    fail("layer '{}': {}", node.name, error.what());
  }
}

Value NetworkLowering::declare(Parameter parameter) {
  const std::string name = parameter.name;
  if (const auto found = parameters_.find(name); found != parameters_.end()) return found->second;
  const auto entry = network_.parameters_.find(name);
  if (entry != network_.parameters_.end()) {
    check(entry->second->shape == parameter.shape, "parameter '{}' is {}, the input needs {}", name,
          entry->second->shape, parameter.shape);
  } else {
    check(declaring_ != nullptr, "parameter '{}' is not in the network", name);
    declaring_->layers_[static_cast<std::size_t>(layer_)].parameters.push_back(name);
    declaring_->parameters_.emplace(name, std::make_shared<Parameter>(parameter));
  }
  const Value value = add_value({{parameter.shape, exact(options_.dtype)}, Program::Kind::parameter, name});
  return parameters_[name] = value;
}

Value NetworkLowering::parameter(std::string_view name, const Shape& shape, Initializer initializer, Fan fan) {
  return declare({fmt::format("{}/{}", layer().name, name), layer().name, shape, false, initializer, fan, {}});
}

Value NetworkLowering::statistic(std::string_view name, const Shape& shape, double initial) {
  return declare({fmt::format("{}/{}", layer().name, name),
                  layer().name,
                  shape,
                  true,
                  {Initializer::Kind::constant, initial},
                  {},
                  {}});
}

Value NetworkLowering::call(std::shared_ptr<const Op> op, std::vector<Value> inputs) {
  std::vector<Spec> specs;
  specs.reserve(inputs.size());
  for (const Value input : inputs) specs.push_back(spec(input));
  const std::vector<Spec> outputs = op->infer(specs);
  Program::Call call{std::move(op), std::move(inputs), {}, node_};
  for (int i = 0; i < call.op->results(); ++i)
    call.outputs.push_back(add_value({outputs[static_cast<std::size_t>(i)], Program::Kind::result, node_}));
  program_.calls.push_back(call);
  return call.outputs.front();
}

Statistics NetworkLowering::statistics() const { return options_.training ? layer().statistics : Statistics::moving; }

}  // namespace graft::nn
