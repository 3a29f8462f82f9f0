#pragma once

#include <functional>
#include <map>

#include "graft/nn/network.h"

namespace graft::plan {

/// A value that is known before a run: a parameter, or something computed from parameters.
struct Constant {
  std::vector<std::shared_ptr<nn::Parameter>> from;
  std::function<Tensor()> make;  ///< null: it is the parameter itself
  std::string how = {};          ///< what `make` computes, where a WeightCache may keep it

  /// In a WeightCache.
  bool can_be_kept() const { return !make || !how.empty(); }
  Tensor value() const { return make ? make() : from.front()->value; }
};

inline std::size_t bytes_of(const Spec& spec) {
  return static_cast<std::size_t>(spec.shape.elements()) * size_of(spec.dtype);
}

/// A Program that passes rewrite. Calls are replaced, never moved: the order stays one in which they can run.
class Graph {
 public:
  enum class Kind : std::uint8_t {
    input,
    constant,
    trained,  ///< a parameter that gets a gradient
    updated,  ///< a statistic that calls change
    result
  };
  struct Value {
    Spec spec;
    Kind kind = Kind::result;
    std::string name;  ///< of the node, or the parameter
    int uses = 0;      ///< by calls, and one if it is wanted from outside
    bool wanted = false;
    int producer = -1;  ///< the call that makes it
  };
  struct Call {
    std::shared_ptr<const Op> op;  ///< null: replaced, there is nothing to do
    std::vector<int> inputs;
    std::vector<int> outputs;        ///< results, then what exists only for backward
    std::vector<std::string> nodes;  ///< the network's nodes that it computes
  };

  /// With `training` parameters and statistics that the network trains are no constants.
  Graph(const nn::Network& network, const nn::Program& program, bool training);

  const Value& value(int index) const { return values_[static_cast<std::size_t>(index)]; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Call>& calls() const { return calls_; }
  /// Where the values of constants, and of what is trained or updated, come from.
  const std::map<int, Constant>& constants() const { return constants_; }
  /// The index of a node's value.
  int node(const std::string& name) const { return nodes_.at(name); }

  /// For each value, whether it is trained or computed from one that is.
  std::vector<char> need_gradients() const;

  /// Keeps a value, which is wanted from outside.
  void want(int value) {
    value_at(value).uses += value_at(value).wanted ? 0 : 1;
    value_at(value).wanted = true;
  }
  /// A value that comes from outside.
  int add_input(std::string name, const Spec& spec);
  /// A call behind all others. Returns its first result.
  int add_call(std::shared_ptr<const Op> op, std::vector<int> inputs, std::string node);
  int add_constant(std::string name, const Spec& spec, Constant constant);
  /// The call that made a value which nothing but one other call reads; null for others.
  const Call* only_read_once(int value) const;
  /// Puts a call in the place of call `index`. Its results are those of the old one.
  void replace(std::size_t index, std::shared_ptr<const Op> op, std::vector<int> inputs);
  /// Makes the result of call `index` a constant, in its place.
  void make_constant(std::size_t index, Constant constant);
  /// Takes away calls whose results nobody reads.
  void remove_dead();

 private:
  Value& value_at(int index) { return values_[static_cast<std::size_t>(index)]; }
  void append(Call call);
  void complete_outputs(std::size_t index);
  void release(Call& call);

  std::vector<Value> values_;
  std::vector<Call> calls_;
  std::map<int, Constant> constants_;
  std::map<std::string, int> nodes_;
};

/// y = batch_norm(conv(x)) with moving statistics becomes one convolution with other weights.
void fold_batch_norm(Graph& graph);
/// What is computed from constants alone becomes one.
void fold_constants(Graph& graph);
/// Zeros around an image become padding of the op that reads it.
void fold_padding(Graph& graph);
/// Activations and additions become part of the op before them.
void fuse_epilogues(Graph& graph);

}  // namespace graft::plan
