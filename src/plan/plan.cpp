#include "graft/plan/plan.h"

#include <chrono>
#include <mutex>

#include "autograd/on_device.h"
#include "core/format.h"
#include "plan/layout.h"

namespace graft::plan {
namespace {

Graph compiled(const nn::Network& network, const Shape& input, const CompileOptions& options,
               std::vector<int>& outputs) {
  const nn::Program program = network.lower(
      input, {.training = false, .dtype = options.dtype, .outputs = options.outputs, .given = options.given});
  Graph graph(network, program);
  for (const std::string& node : options.outputs) outputs.push_back(graph.node(node));
  if (outputs.empty()) outputs.push_back(program.output.index);
  if (options.logits) outputs.push_back(program.logits().index);
  for (const int output : outputs) graph.want(output);
  graph.remove_dead();
  fold_constants(graph);
  fold_batch_norm(graph);
  fold_padding(graph);
  fuse_epilogues(graph);
  graph.remove_dead();
  return graph;
}

Step describe(const Graph& graph, const Graph::Call& call) {
  Step step{.op = std::string(call.op->name()),
            .attributes = call.op->attributes(),
            .layers = {},
            .inputs = {},
            .output = {}};
  for (const std::string& node : call.nodes) {
    if (step.layers.empty() || step.layers.back() != node) step.layers.push_back(node);
  }
  const auto add_bytes = [&step](const Spec& spec) {
    step.bytes += static_cast<double>(spec.shape.elements()) * static_cast<double>(size_of(spec.dtype));
  };
  std::vector<Spec> outputs;
  for (const int input : call.inputs) step.inputs.push_back(graph.value(input).spec);
  for (const int output : call.outputs) outputs.push_back(graph.value(output).spec);
  step.output = outputs.front();
  step.operations = call.op->operations(step.inputs, outputs);
  if (call.op->is_view()) return step;
  for (const Spec& spec : step.inputs) add_bytes(spec);
  for (const Spec& spec : outputs) add_bytes(spec);
  return step;
}

}  // namespace

class Plan::Impl {
 public:
  Impl(const nn::Network& network, const Shape& input, const CompileOptions& options)
      : name_(network.name), device_(network.device()), graph_(compiled(network, input, options, outputs_)) {
    layout_ = lay_out(graph_);
    std::vector<Block> arena;
    for (std::size_t b = 0; b < layout_.blocks.size(); ++b) {
      if (layout_.homes[b] == Layout::Home::arena) arena.push_back(layout_.blocks[b]);
    }
    memory_ = place(arena);
    least_memory_ = plan::least_memory(arena);
    auto placed = arena.begin();
    for (std::size_t b = 0; b < layout_.blocks.size(); ++b) {
      if (layout_.homes[b] == Layout::Home::arena) layout_.blocks[b].offset = placed++->offset;
    }
    for (const Graph::Call& call : graph_.calls()) steps_.push_back(describe(graph_, call));
    for (std::size_t v = 0; v < graph_.values().size(); ++v) {
      if (graph_.values()[v].kind == Graph::Kind::input) inputs_.emplace_back(graph_.values()[v].name, v);
    }
  }

  std::vector<Tensor> run(const std::map<std::string, Tensor>& given, const Observe& observe) {
    std::unique_ptr<Memory> memory = take_memory();
    std::map<int, Tensor> outside;  // by block
    bind_inputs(given, outside);
    bind_outputs(outside);
    for (const Patch& patch : memory->patches)
      patch.operand->data = static_cast<std::byte*>(outside.at(patch.block).raw()) + patch.offset;
    Context& context = Context::current();
    const autograd::OnDevice on(context, device_);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      const Graph::Call& call = graph_.calls()[i];
      try {
        call.op->forward(context, memory->operands[i].inputs, memory->operands[i].outputs);
      } catch (const Error& error) {
        fail("layer '{}': {}", call.nodes.back(), error.what());
      }
      if (!observe) continue;
      synchronize(device_);
      observe(steps_[i], std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::vector<Tensor> results;
    for (const int output : outputs_) results.push_back(result(output, outside));
    give_back(std::move(memory));
    return results;
  }

  const std::vector<Step>& steps() const { return steps_; }
  std::size_t memory() const { return memory_; }
  std::size_t least_memory() const { return least_memory_; }
  const std::string& input() const {
    check(inputs_.size() == 1, "[plan] '{}' is compiled for {} given values, not for one input", name_, inputs_.size());
    return inputs_.front().first;
  }

 private:
  struct Operands {
    std::vector<Operand> inputs, outputs;
  };
  // An operand that lies where a caller's tensor does, or one that a caller gets.
  struct Patch {
    Operand* operand;
    int block;
    std::size_t offset;
  };
  // What a run needs for itself.
  struct Memory {
    Tensor arena;
    std::vector<Operands> operands;  // of each call
    std::vector<Patch> patches;
    std::uint64_t constants = 0;  // which ones the operands point to
  };

  std::unique_ptr<Memory> take_memory() {
    const std::lock_guard lock(mutex_);
    refresh_constants();
    while (!free_.empty()) {
      std::unique_ptr<Memory> memory = std::move(free_.back());
      free_.pop_back();
      if (memory->constants == constants_version_) return memory;
    }
    return make_memory();
  }

  void give_back(std::unique_ptr<Memory> memory) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(memory));
  }

  // Where each parameter is, and for those that something was computed from also which values it had.
  std::vector<std::uint64_t> state_of_parameters() const {
    std::vector<std::uint64_t> state;
    for (const auto& [value, constant] : graph_.constants()) {
      for (const auto& parameter : constant.from) {
        state.push_back(reinterpret_cast<std::uintptr_t>(parameter->value.raw()));
        if (constant.make) state.push_back(parameter->value.version());
      }
    }
    return state;
  }

  void refresh_constants() {
    std::vector<std::uint64_t> state = state_of_parameters();
    if (state == parameters_) return;
    const PurposeScope purpose(Purpose::parameters);
    for (const auto& [index, constant] : graph_.constants()) {
      if (graph_.value(index).uses == 0) continue;
      for (const auto& parameter : constant.from)
        check(parameter->value.device() == device_,
              "[plan] '{}' was compiled for {}, but its weights are on {}: compile it again", name_, device_,
              parameter->value.device());
      Tensor value = constant.value().to(graph_.value(index).spec.dtype);
      if (value.shape().rank() > 1 && device_.kind == Device::Kind::cpu) value.storage()->keep_packed(true);
      constants_[index] = value;
    }
    parameters_ = std::move(state);
    ++constants_version_;
  }

  std::unique_ptr<Memory> make_memory() {
    auto memory = std::make_unique<Memory>();
    const PurposeScope purpose(Purpose::activations);
    memory->arena = Tensor::empty({static_cast<Index>(memory_)}, DType::u8, device_);
    memory->constants = constants_version_;
    memory->operands.resize(graph_.calls().size());
    for (std::size_t i = 0; i < graph_.calls().size(); ++i) {
      const Graph::Call& call = graph_.calls()[i];
      bind(*memory, call.inputs, memory->operands[i].inputs);
      bind(*memory, call.outputs, memory->operands[i].outputs);
    }
    return memory;
  }

  void bind(Memory& memory, const std::vector<int>& values, std::vector<Operand>& operands) {
    operands.reserve(values.size());  // patches keep addresses
    for (const int value : values) {
      const Place& at = layout_.places[static_cast<std::size_t>(value)];
      if (at.block < 0) {
        operands.emplace_back(constants_.at(value));
        continue;
      }
      const auto block = static_cast<std::size_t>(at.block);
      const Spec& spec = graph_.value(value).spec;
      const std::size_t offset = layout_.blocks[block].offset + at.offset;
      Operand& operand =
          operands.emplace_back(static_cast<std::byte*>(memory.arena.raw()) + offset, spec.shape, spec.dtype);
      operand.pitch = at.pitch;
      if (layout_.homes[block] != Layout::Home::arena) memory.patches.push_back({&operand, at.block, at.offset});
    }
  }

  void bind_inputs(const std::map<std::string, Tensor>& given, std::map<int, Tensor>& outside) const {
    for (const auto& [name, value] : inputs_) {
      const int block = layout_.places[value].block;
      if (block < 0) continue;  // nothing reads it
      const auto found = given.find(name);
      const Spec& spec = graph_.values()[value].spec;
      check(found != given.end() && found->second.defined(), "[plan] '{}' needs a value for '{}'", name_, name);
      check(found->second.spec() == spec, "[plan] '{}' was compiled for '{}' as {} {}, got {} {}", name_, name,
            spec.dtype, spec.shape, found->second.dtype(), found->second.shape());
      outside[block] = found->second.to(device_);
    }
  }

  void bind_outputs(std::map<int, Tensor>& outside) const {
    for (std::size_t b = 0; b < layout_.blocks.size(); ++b) {
      if (layout_.homes[b] == Layout::Home::output)
        outside[static_cast<int>(b)] = Tensor::empty({static_cast<Index>(layout_.blocks[b].bytes)}, DType::u8, device_);
    }
  }

  Tensor result(int value, const std::map<int, Tensor>& outside) const {
    const Place& at = layout_.places[static_cast<std::size_t>(value)];
    const Spec& spec = graph_.value(value).spec;
    if (at.block < 0) return constants_.at(value);
    const Tensor& block = outside.at(at.block);
    if (layout_.homes[static_cast<std::size_t>(at.block)] == Layout::Home::input) return block.reshaped(spec.shape);
    return Tensor::over(block.storage(), at.offset, spec.shape, spec.dtype);
  }

  std::string name_;
  Device device_;
  std::vector<int> outputs_;
  Graph graph_;
  Layout layout_;
  std::size_t memory_ = 0, least_memory_ = 0;
  std::vector<Step> steps_;
  std::vector<std::pair<std::string, std::size_t>> inputs_;  // names and values

  std::mutex mutex_;  // of what follows
  std::map<int, Tensor> constants_;
  std::vector<std::uint64_t> parameters_;  // their state when the constants were made
  std::uint64_t constants_version_ = 0;
  std::vector<std::unique_ptr<Memory>> free_;
};

Plan::Plan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;

std::vector<Tensor> Plan::run(const Tensor& input) const { return run({{impl_->input(), input}}); }
std::vector<Tensor> Plan::run(const std::map<std::string, Tensor>& given) const { return run(given, {}); }
std::vector<Tensor> Plan::run(const std::map<std::string, Tensor>& given, const Observe& observe) const {
  return impl_->run(given, observe);
}

const std::vector<Step>& Plan::steps() const { return impl_->steps(); }
std::size_t Plan::memory() const { return impl_->memory(); }
std::size_t Plan::least_memory() const { return impl_->least_memory(); }

Plan compile(const nn::Network& network, const Shape& input, const CompileOptions& options) {
  for (const auto& [name, parameter] : network.parameter_table())
    check(parameter->value.defined(), "[plan] '{}' has no value yet: materialize or load '{}' first", name,
          network.name);
  return Plan(std::make_unique<Plan::Impl>(network, input, options));
}

}  // namespace graft::plan
