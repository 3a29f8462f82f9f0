#include "graft/autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <ostream>
#include <unordered_set>

#include <fmt/ostream.h>

#include "autograd/on_device.h"
#include "core/format.h"

namespace graft {

void Op::backward(Context&, const Saved&, std::span<const Operand>, std::span<const Gradient>) const {
  fail("[{}] has no gradient", name());
}

double Op::operations(std::span<const Spec>, std::span<const Spec> outputs) const {
  return outputs.empty() ? 0 : static_cast<double>(outputs[0].shape.elements());
}

std::shared_ptr<const Op> Op::with_activation(Activation) const { return nullptr; }
std::shared_ptr<const Op> Op::with_residual() const { return nullptr; }
std::shared_ptr<const Op> Op::with_padding(const Padding&, bool) const { return nullptr; }

namespace autograd {
namespace {

thread_local bool is_recording = true;
std::atomic<std::uint64_t> next_sequence{0};

using Blocks = std::unordered_set<const Storage*>;

std::size_t count_slots(const std::vector<Node::Slot>& slots, Blocks& seen) {
  std::size_t bytes = 0;
  for (const Node::Slot& slot : slots) {
    if (slot.value.defined() && seen.insert(slot.value.storage().get()).second) bytes += slot.value.bytes();
  }
  return bytes;
}

std::vector<Node::Slot> save(std::span<const Tensor> tensors, Slots wanted) {
  std::vector<Node::Slot> slots(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (wanted.has(static_cast<int>(i))) slots[i] = {tensors[i].detach(), tensors[i].version()};
  }
  return slots;
}

std::shared_ptr<Node> record(std::shared_ptr<const Op> op, std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) {
  auto node = std::make_shared<Node>();
  Slots wanted;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& input = inputs[i];
    Node::Edge edge;
    if (input.producer() != nullptr) {
      edge.producer = input.producer();
      edge.output = input.producer_output();
    } else if (input.requires_grad()) {
      edge.leaf = input;
    }
    if (edge.wanted()) wanted.add(static_cast<int>(i));
    node->edges.push_back(std::move(edge));
    node->input_specs.push_back(input.spec());
  }
  for (const Tensor& output : outputs) node->output_specs.push_back(output.spec());
  const Saves saves = op->saves(wanted);
  node->saved_inputs = save(inputs, saves.inputs);
  node->saved_outputs = save(outputs, saves.outputs);
  node->op = std::move(op);
  node->device = outputs.front().device();
  node->sequence = next_sequence++;
  return node;
}

}  // namespace

// A chain of thousands of nodes must not be destroyed by recursion: producers that only this node holds are taken apart
// in a loop.
Node::~Node() {
  std::vector<std::shared_ptr<Node>> doomed;
  const auto take = [&doomed](Node& node) {
    for (Edge& edge : node.edges) {
      if (edge.producer != nullptr && edge.producer.use_count() == 1) doomed.push_back(std::move(edge.producer));
    }
  };
  take(*this);
  while (!doomed.empty()) {
    const std::shared_ptr<Node> node = std::move(doomed.back());
    doomed.pop_back();
    take(*node);
  }
}

std::size_t Node::saved_bytes() const {
  Blocks seen;
  return count_slots(saved_inputs, seen) + count_slots(saved_outputs, seen);
}

std::vector<std::shared_ptr<Node>> tape(const Tensor& root) {
  std::vector<std::shared_ptr<Node>> nodes;
  std::unordered_set<const Node*> seen;
  if (root.producer() != nullptr && seen.insert(root.producer().get()).second) nodes.push_back(root.producer());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::shared_ptr<Node> node = nodes[i];
    for (const Node::Edge& edge : node->edges) {
      if (edge.producer != nullptr && seen.insert(edge.producer.get()).second) nodes.push_back(edge.producer);
    }
  }
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a->sequence > b->sequence; });
  return nodes;
}

std::size_t saved_bytes(const Tensor& root) {
  const auto nodes = tape(root);
  Blocks seen;
  for (const auto& node : nodes) {  // parameters live anyway
    for (const Node::Edge& edge : node->edges) {
      if (edge.leaf.defined()) seen.insert(edge.leaf.storage().get());
    }
  }
  std::size_t bytes = 0;
  for (const auto& node : nodes)
    bytes += count_slots(node->saved_inputs, seen) + count_slots(node->saved_outputs, seen);
  return bytes;
}

void print_tape(std::ostream& out, const Tensor& root) {
  for (const auto& node : tape(root)) {
    std::string inputs;
    for (std::size_t i = 0; i < node->input_specs.size(); ++i) {
      fmt::format_to(std::back_inserter(inputs), "{}{}{}{}", i ? ", " : "", node->input_specs[i].shape,
                     node->edges[i].wanted() ? "" : " (no gradient)",
                     node->saved_inputs[i].value.defined() ? " (saved)" : "");
    }
    const std::string attributes = node->op->attributes();
    fmt::print(out, "{}{}: {} -> {}, {} bytes saved\n", node->op->name(),
               attributes.empty() ? "" : " (" + attributes + ")", inputs, node->output_specs.front().shape,
               node->saved_bytes());
  }
  fmt::print(out, "kept for backward: {} bytes\n", saved_bytes(root));
}

std::vector<Tensor> apply(std::shared_ptr<const Op> op, std::span<const Tensor> inputs) {
  std::vector<Spec> specs;
  std::vector<Operand> input_operands;
  bool differentiable = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check(inputs[i].defined(), "[{}] input {} has no value", op->name(), i);
    check(inputs[i].device() == inputs[0].device(), "[{}] inputs are on different devices: {} and {}", op->name(),
          inputs[0].device(), inputs[i].device());
    specs.push_back(inputs[i].spec());
    input_operands.emplace_back(inputs[i]);
    differentiable = differentiable || inputs[i].requires_grad();
  }
  Context& context = Context::current();
  const Device device = inputs.empty() ? context.device : inputs[0].device();

  const PurposeScope purpose(Purpose::activations);
  std::vector<Tensor> outputs;
  std::vector<Operand> output_operands;
  for (const Spec& spec : op->infer(specs)) {
    const bool view = outputs.empty() && op->is_view();
    outputs.push_back(view ? inputs[0].reshaped(spec.shape) : Tensor::empty(spec.shape, spec.dtype, device));
    output_operands.emplace_back(outputs.back());
  }
  {
    const OnDevice on(context, device);
    op->forward(context, input_operands, output_operands);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (op->updates().has(static_cast<int>(i))) Tensor(inputs[i]).bump_version();
  }

  const int results = op->results();
  if (differentiable && is_recording) {
    const std::shared_ptr<Node> node = record(std::move(op), inputs, outputs);
    for (int i = 0; i < results; ++i) {
      if (is_floating(outputs[static_cast<std::size_t>(i)].dtype()))
        outputs[static_cast<std::size_t>(i)].set_producer(node, i);
    }
  }
  outputs.resize(static_cast<std::size_t>(results));
  return outputs;
}

bool recording() { return is_recording; }
NoGrad::NoGrad() : previous_(std::exchange(is_recording, false)) {}
NoGrad::~NoGrad() { is_recording = previous_; }

}  // namespace autograd
}  // namespace graft
