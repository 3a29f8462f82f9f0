#include "plan/graph.h"

#include <algorithm>

namespace graft::plan {

Graph::Graph(const nn::Network& network, const nn::Program& program) {
  for (const nn::Program::ValueInfo& info : program.values) {
    const bool parameter = info.kind == nn::Program::Kind::parameter;
    const Kind kind = parameter ? Kind::constant : info.kind == nn::Program::Kind::input ? Kind::input : Kind::result;
    if (parameter) constants_[static_cast<int>(values_.size())] = {{network.parameter_table().at(info.name)}, nullptr};
    values_.push_back({.spec = info.spec, .kind = kind, .name = info.name});
  }
  for (const nn::Program::Output& node : program.nodes) nodes_[node.node] = node.value.index;
  for (const nn::Program::Call& from : program.calls) {
    Call call{.op = from.op, .inputs = {}, .outputs = {}, .nodes = {from.node}};
    std::vector<Spec> specs;
    for (const nn::Value value : from.inputs) {
      call.inputs.push_back(value.index);
      specs.push_back(value_at(value.index).spec);
      ++value_at(value.index).uses;
    }
    for (const nn::Value value : from.outputs) call.outputs.push_back(value.index);
    const std::vector<Spec> outputs = from.op->infer(specs);
    for (std::size_t i = call.outputs.size(); i < outputs.size(); ++i) {
      call.outputs.push_back(static_cast<int>(values_.size()));
      values_.push_back({.spec = outputs[i], .kind = Kind::result, .name = from.node});
    }
    for (const int output : call.outputs) value_at(output).producer = static_cast<int>(calls_.size());
    calls_.push_back(std::move(call));
  }
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
