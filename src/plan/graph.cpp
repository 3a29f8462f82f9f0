#include "plan/graph.h"

#include <algorithm>

namespace graft::plan {

namespace {

Graph::Kind kind_of(const nn::Network& network, const nn::Parameter& parameter, bool training) {
  const nn::LayerEntry& layer = network.layer(parameter.layer);
  if (!training) return Graph::Kind::constant;
  if (parameter.is_statistic)
    return layer.statistics == nn::Statistics::batch ? Graph::Kind::updated : Graph::Kind::constant;
  return layer.trainable ? Graph::Kind::trained : Graph::Kind::constant;
}

}  // namespace

Graph::Graph(const nn::Network& network, const nn::Program& program, bool training) {
  for (const nn::Program::ValueInfo& info : program.values) {
    Kind kind = info.kind == nn::Program::Kind::input ? Kind::input : Kind::result;
    if (info.kind == nn::Program::Kind::parameter) {
      const auto& parameter = network.parameter_table().at(info.name);
      kind = kind_of(network, *parameter, training);
      constants_[static_cast<int>(values_.size())] = {{parameter}, nullptr};
    }
    values_.push_back({.spec = info.spec, .kind = kind, .name = info.name});
  }
  for (const nn::Program::Output& node : program.nodes) nodes_[node.node] = node.value.index;
  for (const nn::Program::Call& from : program.calls) {
    Call call{.op = from.op, .inputs = {}, .outputs = {}, .nodes = {from.node}};
    for (const nn::Value value : from.inputs) call.inputs.push_back(value.index);
    for (const nn::Value value : from.outputs) call.outputs.push_back(value.index);
    append(std::move(call));
  }
}

void Graph::append(Call call) {
  for (const int input : call.inputs) ++value_at(input).uses;
  calls_.push_back(std::move(call));
  complete_outputs(calls_.size() - 1);
}

// Adds the outputs of a call that it has no values for yet, and says who makes them all.
void Graph::complete_outputs(std::size_t index) {
  Call& call = calls_[index];
  std::vector<Spec> inputs;
  for (const int input : call.inputs) inputs.push_back(value(input).spec);
  const std::vector<Spec> outputs = call.op->infer(inputs);
  for (std::size_t i = call.outputs.size(); i < outputs.size(); ++i) {
    call.outputs.push_back(static_cast<int>(values_.size()));
    values_.push_back({.spec = outputs[i], .kind = Kind::result, .name = call.nodes.front()});
  }
  for (const int output : call.outputs) value_at(output).producer = static_cast<int>(index);
}

int Graph::add_input(std::string name, const Spec& spec) {
  values_.push_back({.spec = spec, .kind = Kind::input, .name = std::move(name)});
  return static_cast<int>(values_.size()) - 1;
}

int Graph::add_call(std::shared_ptr<const Op> op, std::vector<int> inputs, std::string node) {
  append({.op = std::move(op), .inputs = std::move(inputs), .outputs = {}, .nodes = {std::move(node)}});
  return calls_.back().outputs.front();
}

int Graph::add_constant(std::string name, const Spec& spec, Constant constant) {
  const int index = static_cast<int>(values_.size());
  values_.push_back({.spec = spec, .kind = Kind::constant, .name = std::move(name)});
  constants_[index] = std::move(constant);
  return index;
}

const Graph::Call* Graph::only_read_once(int index) const {
  const Value& one = value(index);
  return one.uses == 1 && one.producer >= 0 ? &calls_[static_cast<std::size_t>(one.producer)] : nullptr;
}

std::vector<char> Graph::need_gradients() const {
  std::vector<char> needed;
  for (const Value& one : values_) needed.push_back(one.kind == Kind::trained);
  for (const Call& call : calls_) {
    if (call.op == nullptr) continue;
    const auto is_needed = [&](int input) { return needed[static_cast<std::size_t>(input)] != 0; };
    const bool any = std::any_of(call.inputs.begin(), call.inputs.end(), is_needed);
    for (int i = 0; any && i < call.op->results(); ++i) {
      const int result = call.outputs[static_cast<std::size_t>(i)];
      needed[static_cast<std::size_t>(result)] = is_floating(value(result).spec.dtype);
    }
  }
  return needed;
}

void Graph::release(Call& call) {
  for (const int input : call.inputs) --value_at(input).uses;
  call.op = nullptr;
}

void Graph::replace(std::size_t index, std::shared_ptr<const Op> op, std::vector<int> inputs) {
  Call& call = calls_[index];
  for (const int input : inputs) ++value_at(input).uses;
  for (const int input : call.inputs) {
    Value& before = value_at(input);
    if (--before.uses > 0 || before.producer < 0) continue;
    Call& absorbed = calls_[static_cast<std::size_t>(before.producer)];
    call.nodes.insert(call.nodes.begin(), absorbed.nodes.begin(), absorbed.nodes.end());
    release(absorbed);
  }
  call.op = std::move(op);
  call.inputs = std::move(inputs);
  complete_outputs(index);
}

void Graph::make_constant(std::size_t index, Constant constant) {
  Call& call = calls_[index];
  Value& result = value_at(call.outputs.front());
  result.kind = Kind::constant;
  result.producer = -1;
  constants_[call.outputs.front()] = std::move(constant);
  release(call);
}

void Graph::remove_dead() {
  for (auto call = calls_.rbegin(); call != calls_.rend(); ++call) {
    if (call->op == nullptr) continue;
    const bool read =
        std::any_of(call->outputs.begin(), call->outputs.end(), [this](int output) { return value(output).uses > 0; });
    if (!read) release(*call);
  }
  std::erase_if(calls_, [](const Call& call) { return call.op == nullptr; });
  for (std::size_t i = 0; i < calls_.size(); ++i) {
    for (const int output : calls_[i].outputs) value_at(output).producer = static_cast<int>(i);
  }
}

}  // namespace graft::plan
