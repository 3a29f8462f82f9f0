#pragma once

#include <concepts>
#include <iosfwd>
#include <memory>

#include "graft/autograd/op.h"

namespace graft::autograd {

/// One recorded op: what ran, on what, and the tensors its backward will read. A node holds its producers and its saved
/// tensors, never its own outputs as tensors: an output that backward reads is kept as bare elements, so that no cycle
/// keeps a graph alive.
class Node {
 public:
  /// Where the gradient of an input goes: to a leaf, to an output of another node, or (neither) nowhere.
  struct Edge {
    Tensor leaf;
    std::shared_ptr<Node> producer;
    int output = 0;

    bool wanted() const { return leaf.defined() || producer != nullptr; }
  };
  struct Slot {
    Tensor value;               ///< undefined if not saved
    std::uint64_t version = 0;  ///< of the elements, when they were saved
  };

  std::shared_ptr<const Op> op;
  std::vector<Edge> edges;  ///< one an input
  std::vector<Spec> input_specs;
  std::vector<Spec> output_specs;  ///< results first, then what exists only for backward
  std::vector<Slot> saved_inputs;
  std::vector<Slot> saved_outputs;
  Device device;               ///< where it ran, and its backward will
  std::uint64_t sequence = 0;  ///< counts up, so a producer's is smaller than its consumers'
  bool consumed = false;       ///< a backward ran through here and the saved tensors are gone

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  /// Bytes of the saved tensors, each block of memory counted once.
  std::size_t saved_bytes() const;
};

/// The nodes that a backward from `root` would visit, last recorded first.
std::vector<std::shared_ptr<Node>> tape(const Tensor& root);
/// Bytes that the tape behind `root` keeps for backward; a block of memory counts once, trained parameters not at all.
std::size_t saved_bytes(const Tensor& root);
/// One line a node: op, attributes, shapes, what is saved and how many bytes that is.
void print_tape(std::ostream& out, const Tensor& root);

/// Runs an op on tensors, and records it if recording is on and an input requires a gradient. Returns the op's results.
///
/// Throws Error if the inputs do not fit the op, or are on different devices.
std::vector<Tensor> apply(std::shared_ptr<const Op> op, std::span<const Tensor> inputs);

/// The same for an op with one result.
template <std::derived_from<Op> O>
Tensor apply(O op, std::initializer_list<Tensor> inputs) {
  return autograd::apply(std::make_shared<const O>(std::move(op)),
                         std::span<const Tensor>(inputs.begin(), inputs.size()))
      .front();
}

/// Whether apply records on this thread.
bool recording();

/// Turns recording off until the end of the scope.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

}  // namespace graft::autograd
