#include "graft/nn/program.h"

#include "core/format.h"
#include "nn/names.h"

namespace graft::nn {

Value Program::node(const std::string& name) const {
  std::vector<std::string> names;
  for (const Output& node : nodes) {
    if (node.node == name) return node.value;
    names.push_back(node.node);
  }
  fail("[network] no node is called '{}'{}", name, closest(name, names));
}

const Program::Call* Program::producer(Value value) const {
  for (const Call& call : calls) {
    for (const Value result : call.outputs) {
      if (result == value) return &call;
    }
  }
  return nullptr;
}

Value Program::logits() const {
  const Call* last = producer(output);
  return last != nullptr && last->op->name() == "softmax" ? last->inputs.front() : output;
}

}  // namespace graft::nn
