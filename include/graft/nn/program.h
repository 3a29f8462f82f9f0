#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graft/autograd/op.h"

namespace graft::nn {

/// A value of a Program: an index into its table.
struct Value {
  int index = -1;

  explicit operator bool() const { return index >= 0; }
  friend bool operator==(Value, Value) = default;
};

/// A network for one input shape and one mode, as a list of op calls on numbered values: what the interpreter runs and
/// the planner compiles.
struct Program {
  enum class Kind { input, parameter, result };

  struct ValueInfo {
    Spec spec;
    Kind kind = Kind::result;
    std::string name;  ///< of a parameter `conv1/weight`, or of the call that made it
  };
  struct Call {
    std::shared_ptr<const Op> op;
    std::vector<Value> inputs;
    std::vector<Value> outputs;  ///< the op's results
    std::string node;            ///< the network's node that this call is part of
  };
  struct Output {
    std::string node;
    Value value;
  };

  std::vector<ValueInfo> values;
  std::vector<Call> calls;
  Value input;
  std::vector<Output> nodes;  ///< the value of each node, in order of computation
  Value output;               ///< of the last node

  const ValueInfo& operator[](Value value) const { return values[static_cast<std::size_t>(value.index)]; }
  /// The value of a node. Throws Error, naming some that are there, if there is no such node.
  Value node(const std::string& name) const;
  /// The call that made a value, or null for inputs and parameters.
  const Call* producer(Value value) const;
  /// What a final softmax was computed from, or the output itself: the scores a loss is computed on.
  Value logits() const;
};

}  // namespace graft::nn
