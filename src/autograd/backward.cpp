#include "graft/autograd/backward.h"

#include <map>
#include <unordered_map>
#include <unordered_set>

#include "autograd/on_device.h"
#include "core/format.h"
#include "kernels/elementwise.h"

namespace graft::autograd {
namespace {

void accumulate(Tensor& to, const Tensor& from) {
  Context& context = Context::current();
  const OnDevice on(context, to.device());
  kernels::add_into(context, from, to);
  to.bump_version();
}

std::vector<Operand> restore(const Node& node, const std::vector<Node::Slot>& slots, const std::vector<Spec>& specs,
                             const char* side) {
  std::vector<Operand> operands;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const Node::Slot& slot = slots[i];
    check(!slot.value.defined() || slot.value.version() == slot.version,
          "[backward] {} {} of {}, {} {}, was changed in place after it was saved (version {}, now {})", side, i,
          node.op->name(), specs[i].dtype, specs[i].shape, slot.version,
          slot.value.defined() ? slot.value.version() : 0);
    operands.push_back(slot.value.defined() ? Operand(slot.value) : Operand(nullptr, specs[i].shape, specs[i].dtype));
  }
  return operands;
}

// One walk from the root to the leaves: gradients of results are summed here until their node's turn comes.
class Walk {
 public:
  Walk(const Tensor& root, const BackwardOptions& options) : retain_(options.retain_graph) {
    check(root.defined() && root.producer() != nullptr,
          "[backward] the tensor was not recorded: no input of it requires a gradient, or recording was off");
    check(options.seed.defined() || root.elements() == 1,
          "[backward] a result of shape {} needs a seed: its gradient from outside", root.shape());
    check(!options.seed.defined() || options.seed.spec() == root.spec(),
          "[backward] the seed must be {} {} like the result, got {} {}", root.dtype(), root.shape(),
          options.seed.defined() ? options.seed.dtype() : DType::f32,
          options.seed.defined() ? options.seed.shape() : Shape{});
    of(root.producer(), root.producer_output()) =
        options.seed.defined() ? options.seed.clone() : Tensor::full(root.shape(), 1, root.dtype(), root.device());
  }

  // Gradients that the caller asked for by tensor; the leaves' own are then left alone, and so are nodes that lead to
  // none of the tensors.
  void collect(const Tensor& root, std::span<const Tensor> tensors) {
    collecting_ = true;
    for (const Tensor& tensor : tensors) {
      if (tensor.producer() != nullptr) {
        kept_[{tensor.producer().get(), tensor.producer_output()}] = {};
        leading_.insert(tensor.producer().get());
      } else {
        leaves_[tensor.id()] = {};
      }
    }
    const auto nodes = tape(root);
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {  // producers first
      for (const Node::Edge& edge : (*node)->edges) {
        const bool leads = edge.producer != nullptr ? leading_.contains(edge.producer.get())
                                                    : edge.leaf.defined() && leaves_.contains(edge.leaf.id());
        if (leads) leading_.insert(node->get());
      }
    }
  }

  void run() {
    while (!pending_.empty()) {
      const auto last = std::prev(pending_.end());  // the node recorded last: all its consumers are done
      const std::shared_ptr<Node> node = last->second.node;
      const std::vector<Tensor> dy = std::move(last->second.gradients);
      pending_.erase(last);
      visit(*node, dy);
    }
  }

  Tensor collected(const Tensor& tensor) {
    Tensor found;
    if (tensor.producer() != nullptr)
      found = kept_[{tensor.producer().get(), tensor.producer_output()}];
    else
      found = leaves_[tensor.id()];
    return found.defined() ? found : Tensor::zeros(tensor.shape(), tensor.dtype(), tensor.device());
  }

 private:
  struct Pending {
    std::shared_ptr<Node> node;
    std::vector<Tensor> gradients;  // one a result
  };

  Tensor& of(const std::shared_ptr<Node>& node, int output) {
    Pending& pending = pending_[node->sequence];
    if (pending.node == nullptr) pending = {node, std::vector<Tensor>(static_cast<std::size_t>(node->op->results()))};
    return pending.gradients[static_cast<std::size_t>(output)];
  }

  void visit(Node& node, const std::vector<Tensor>& gradients) {
    check(!node.consumed,
          "[backward] {} was already used by an earlier backward, which gave its saved tensors back; pass retain_graph "
          "to the first",
          node.op->name());
    std::vector<Operand> dy;
    std::vector<Tensor> alive = gradients;
    bool scratch = true;
    for (std::size_t i = 0; i < alive.size(); ++i) {
      const Spec& spec = node.output_specs[i];
      if (!alive[i].defined()) alive[i] = Tensor::zeros(spec.shape, spec.dtype, node.device);
      dy.emplace_back(alive[i]);
      if (const auto kept = kept_.find({&node, static_cast<int>(i)}); kept != kept_.end()) {
        kept->second = alive[i];
        scratch = false;
      }
    }

    std::vector<Gradient> dx(node.edges.size());
    std::vector<Tensor> destinations(node.edges.size());  // keeps them alive, and finds an input that is given twice
    std::vector<std::pair<Tensor, Tensor>> sums;
    for (std::size_t i = 0; i < node.edges.size(); ++i) {
      const Node::Edge& edge = node.edges[i];
      Tensor* total = destination(edge);
      if (total == nullptr) continue;
      const bool first = !total->defined();
      const Spec& spec = node.input_specs[i];
      if (first) *total = Tensor::empty(spec.shape, spec.dtype, node.device);
      bool twice = false;
      for (std::size_t j = 0; j < i; ++j)
        twice = twice || (destinations[j].defined() && destinations[j].id() == total->id());
      destinations[i] = *total;
      if (twice) {  // the op may fill its destinations in any order, so the second one is added afterwards
        const Tensor own = Tensor::empty(spec.shape, spec.dtype, node.device);
        sums.emplace_back(*total, own);
        dx[i] = {own, false};
      } else {
        dx[i] = {*total, !first};
      }
    }
    const auto inputs = restore(node, node.saved_inputs, node.input_specs, "input");
    const auto outputs = restore(node, node.saved_outputs, node.output_specs, "output");
    {
      Context& context = Context::current();
      const OnDevice on(context, node.device);
      node.op->backward(context, {inputs, outputs, scratch}, dy, dx);
    }
    for (auto& [total, own] : sums) accumulate(total, own);
    for (Tensor& tensor : destinations) {
      if (tensor.defined()) tensor.bump_version();
    }
    for (const Node::Edge& edge : node.edges) finish(edge);
    if (!retain_) {
      node.saved_inputs.assign(node.saved_inputs.size(), {});
      node.saved_outputs.assign(node.saved_outputs.size(), {});
      node.consumed = true;
    }
  }

  // The running sum for an edge; null if nobody wants it.
  Tensor* destination(const Node::Edge& edge) {
    if (edge.producer != nullptr)
      return collecting_ && !leading_.contains(edge.producer.get()) ? nullptr : &of(edge.producer, edge.output);
    if (!edge.leaf.defined()) return nullptr;
    const void* key = edge.leaf.id();
    if (collecting_) {
      const auto leaf = leaves_.find(key);
      return leaf == leaves_.end() ? nullptr : &leaf->second;
    }
    Tensor& sum = leaves_[key];
    if (!sum.defined()) sum = edge.leaf.grad();
    return &sum;
  }

  void finish(const Node::Edge& edge) {
    if (!collecting_ && edge.leaf.defined()) Tensor(edge.leaf).set_grad(leaves_[edge.leaf.id()]);
  }

  bool retain_;
  bool collecting_ = false;
  std::map<std::uint64_t, Pending> pending_;  // by sequence
  std::map<std::pair<const Node*, int>, Tensor> kept_;
  std::unordered_map<const void*, Tensor> leaves_;
  std::unordered_set<const Node*> leading_;
};

}  // namespace

void backward(const Tensor& root, const BackwardOptions& options) {
  NoGrad off;
  const PurposeScope purpose(Purpose::gradients);
  Walk(root, options).run();
}

std::vector<Tensor> gradients(const Tensor& root, std::span<const Tensor> of, const BackwardOptions& options) {
  NoGrad off;
  const PurposeScope purpose(Purpose::gradients);
  Walk walk(root, options);
  walk.collect(root, of);
  walk.run();
  std::vector<Tensor> found;
  for (const Tensor& tensor : of) found.push_back(walk.collected(tensor));
  return found;
}

}  // namespace graft::autograd
