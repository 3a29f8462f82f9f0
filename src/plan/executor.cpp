#include "plan/executor.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "autograd/on_device.h"
#include "core/format.h"
#include "core/packed.h"
#include "kernels/elementwise.h"
#include "kernels/strided.h"
#include "nn/rounding.h"

namespace graft::plan {
namespace {

// A backward computes as much as its forward for each gradient that it makes, as products of matrices do.
Step describe(const Graph& graph, const Schedule& schedule, const Instruction& instruction) {
  const Graph::Call& call = graph.calls()[instruction.call];
  const Op& op = op_of(graph, instruction);
  const bool update = instruction.kind == Instruction::Kind::hand_over,
             again = instruction.kind == Instruction::Kind::again;
  Step step{.op = update ? "update" : std::string(op.name()) + (again ? " again" : ""),
            .attributes = op.attributes(),
            .layers = {},
            .inputs = {},
            .output = graph.value(call.outputs.front()).spec};
  std::vector<std::string> nodes;
  if (instruction.before) nodes = graph.calls()[*instruction.before].nodes;
  nodes.insert(nodes.end(), call.nodes.begin(), call.nodes.end());
  for (const std::string& node : nodes) {
    if (step.layers.empty() || step.layers.back() != node) step.layers.push_back(node);
  }
  std::vector<Spec> outputs;
  for (const int input : instruction.op ? instruction.inputs : call.inputs)
    step.inputs.push_back(graph.value(input).spec);
  for (const int output : call.outputs) outputs.push_back(graph.value(output).spec);
  step.backward = instruction.kind != Instruction::Kind::forward && !update && !again;
  double passes = 1;
  if (step.backward) {
    const auto is_large = [&](int slot) {
      return slot >= 0 && schedule.slots[static_cast<std::size_t>(slot)].shape.rank() > 1;
    };
    passes = static_cast<double>(std::count_if(instruction.dx.begin(), instruction.dx.end(), is_large));
  }
  if (update) passes = 0;
  step.operations = passes * op.operations(step.inputs, outputs);
  if (op.is_view()) return step;
  for (const auto* slots : {&instruction.inputs, &instruction.outputs, &instruction.dy, &instruction.dx}) {
    for (const int slot : *slots) {
      if (slot >= 0) step.bytes += static_cast<double>(bytes_of(schedule.slots[static_cast<std::size_t>(slot)]));
    }
  }
  return step;
}

}  // namespace

Executor::Executor(const nn::Network& network, DType dtype, bool record, Graph graph, Schedule schedule,
                   std::vector<int> outputs, std::shared_ptr<WeightCache> cache)
    : name_(network.name),
      device_(network.device()),
      dtype_(dtype),
      record_(record),
      graph_(std::move(graph)),
      schedule_(std::move(schedule)),
      outputs_(std::move(outputs)),
      layout_(lay_out(graph_, schedule_)),
      cache_(device_.kind == Device::Kind::cpu ? std::move(cache) : nullptr) {
  const ArenaSize size = place(layout_);
  memory_ = size.bytes;
  least_memory_ = size.least;
  for (std::size_t i = 0; i < schedule_.instructions.size(); ++i) {
    if (step_of(schedule_, i) < steps_.size()) continue;  // of another round
    Instruction instruction = schedule_.instructions[i];
    if (i < schedule_.in_round) {  // for the whole batch
      const Graph::Call& call = graph_.calls()[instruction.call];
      instruction.inputs = call.inputs;
      for (std::size_t k = 0; k < call.outputs.size(); ++k) {
        if (instruction.outputs[k] >= 0) instruction.outputs[k] = call.outputs[k];
      }
    }
    steps_.push_back(describe(graph_, schedule_, instruction));
    if (i < schedule_.in_round) steps_.back().rounds = static_cast<Index>(schedule_.rounds);
  }
  for (std::size_t v = 0; v < graph_.values().size(); ++v) {
    if (graph_.values()[v].kind == Graph::Kind::input && layout_.places[v].block >= 0)
      inputs_.emplace_back(graph_.values()[v].name, static_cast<int>(v));
  }
}

std::vector<Tensor> Executor::run(const Run& run) {
  const Outside outside = bind_outside(run.given, run.seed);
  std::unique_ptr<Memory> memory = take_memory();
  const autograd::OnDevice on(Context::current(), device_);
  std::vector<Tensor> all;
  if (record_ && !run.observe && graft::Graph::wanted(device_)) {
    all = replay(*memory, outside, run);
  } else {
    patch(*memory, outside);
    execute_all(*memory, outside, run);
    all = results(outside);
  }
  WeightCache::Entries made;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [value, gradient] : schedule_.gradients) {
      if (graph_.value(value).kind == Graph::Kind::trained && !schedule_.hands_over)
        fixed_.at(value).set_grad(fixed_.at(gradient));
    }
    free_.push_back(std::move(memory));
    if (!std::exchange(has_kept_, true) && parameters_version_ == 1) made = not_cached();
  }
  if (!made.empty()) cache_->keep(made);
  return all;
}

// A recording knows addresses: what is given is copied to where it reads, and what it made is copied out.
std::vector<Tensor> Executor::replay(Memory& memory, const Outside& given, const Run& run) {
  if (memory.outside.empty()) {
    for (const auto& [block, tensor] : given)
      memory.outside[block] = Tensor::empty(tensor.shape(), tensor.dtype(), device_);
  }
  for (const auto& [block, tensor] : given) {
    if (layout_.homes[static_cast<std::size_t>(block)] == Layout::Home::input) memory.outside[block].copy_from(tensor);
  }
  if (const Switches now = Switches::now(); memory.switches != now) {
    memory.recording.reset();
    memory.has_run = false;
    memory.switches = now;
  }
  // A run that was not to be recorded may have been in between.
  if (!memory.recording) patch(memory, memory.outside);
  if (!memory.has_run) {  // libraries choose kernels and take memory at a first call
    execute_all(memory, memory.outside, run);
    memory.has_run = true;
  } else {
    if (!memory.recording)
      memory.recording = graft::Graph::record(device_, [&] { execute_all(memory, memory.outside, run); });
    memory.recording->replay(Context::current().stream);
  }
  std::vector<Tensor> all = results(memory.outside);
  for (Tensor& tensor : all) tensor = tensor.clone();
  return all;
}

void Executor::patch(Memory& memory, const Outside& outside) {
  for (const Patch& one : memory.patches)
    one.operand->data = static_cast<std::byte*>(outside.at(one.block).raw()) + one.offset;
}

std::vector<Tensor> Executor::results(const Outside& outside) const {
  std::vector<Tensor> all;
  for (const int output : outputs_) all.push_back(result(output, outside));
  return all;
}

void Executor::execute_all(Memory& memory, const Outside& outside, const Run& run) {
  bool forward = true;
  std::vector<double> seconds(steps_.size());
  for (std::size_t i = 0; i < schedule_.instructions.size(); ++i) {
    const std::size_t step = step_of(schedule_, i);
    const auto start = std::chrono::steady_clock::now();
    try {
      const Instruction& instruction = schedule_.instructions[i];
      if (forward && instruction.kind != Instruction::Kind::forward) {
        forward = false;
        if (run.after_forward) run.after_forward(results(outside));
      }
      if (instruction.kind == Instruction::Kind::hand_over)
        hand_over(instruction, memory, run.hand_over);
      else
        execute(instruction, memory.operands[i]);
    } catch (const Error& error) {
      fail("layer '{}': {}", steps_[step].layers.back(), error.what());
    }
    if (!run.observe) continue;
    synchronize(device_);
    seconds[step] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    // Steps that come once a round are told of behind the last one.
    const std::size_t all_rounds = schedule_.rounds * schedule_.in_round;
    if (i + 1 < all_rounds) continue;
    for (std::size_t told = i + 1 == all_rounds ? 0 : step; told <= step; ++told)
      run.observe(steps_[told], seconds[told]);
  }
}

void Executor::execute(const Instruction& instruction, Operands& operands) {
  Context& context = Context::current();
  const Op& op = op_of(graph_, instruction);
  switch (instruction.kind) {
    case Instruction::Kind::forward:
      op.forward(context, operands.inputs, operands.outputs);
      for (std::size_t i = 0; i < instruction.inputs.size(); ++i) {
        if (op.updates().has(static_cast<int>(i))) fixed_.at(instruction.inputs[i]).bump_version();
      }
      return;
    case Instruction::Kind::again:
      return op.forward(context, operands.inputs, operands.outputs);
    case Instruction::Kind::backward:
      for (std::size_t i = 0; i < operands.dx.size(); ++i) operands.gradients[i].to = operands.dx[i];
      op.backward(context, {operands.inputs, operands.outputs, operands.dy_is_scratch}, operands.dy,
                  operands.gradients);
      for (const int slot : instruction.dx) {
        if (const auto fixed = fixed_.find(slot); fixed != fixed_.end()) fixed->second.bump_version();
      }
      return;
    case Instruction::Kind::zero:
      kernels::fill(context, operands.outputs[0], 0);
      return;
    case Instruction::Kind::add:
      kernels::add_into(context, operands.inputs[0], operands.outputs[0]);
      return;
    case Instruction::Kind::hand_over:
      return;  // nothing is computed
  }
}

void Executor::hand_over(const Instruction& instruction, const Memory& memory, const HandOver& to) const {
  const auto gradient = static_cast<std::size_t>(instruction.inputs[0]);
  const Place& at = layout_.places[gradient];
  const std::size_t offset = layout_.blocks[static_cast<std::size_t>(at.block)].offset + at.offset;
  const Spec& spec = schedule_.slots[gradient];
  to(graph_.value(instruction.outputs[0]).name, Tensor::over(memory.arena.storage(), offset, spec.shape, spec.dtype));
}

std::unique_ptr<Executor::Memory> Executor::take_memory() {
  const std::lock_guard lock(mutex_);
  refresh_parameters();
  while (!free_.empty()) {
    std::unique_ptr<Memory> memory = std::move(free_.back());
    free_.pop_back();
    if (memory->parameters == parameters_version_) return memory;
  }
  return make_memory();
}

// Where each parameter is; for those that something was computed from also which values it had.
std::vector<std::uint64_t> Executor::state_of_parameters() const {
  std::vector<std::uint64_t> state;
  for (const auto& [value, constant] : graph_.constants()) {
    for (const auto& parameter : constant.from) {
      state.push_back(reinterpret_cast<std::uintptr_t>(parameter->value.id()));
      if (constant.make) state.push_back(parameter->value.version());
    }
  }
  return state;
}

void Executor::refresh_parameters() {
  std::vector<std::uint64_t> state = state_of_parameters();
  if (state != parameters_) {
    // Entries are of the weights that the network had at first.
    const bool cached = parameters_version_ == 0 && cache_ != nullptr && cache_->is_valid();
    for (const auto& [slot, constant] : graph_.constants()) {
      if (graph_.value(slot).uses > 0) fix(slot, constant, cached);
    }
    parameters_ = std::move(state);
    ++parameters_version_;
  }
  for (const auto& [slot, constant] : graph_.constants()) {
    if (graph_.value(slot).uses > 0) nn::keep_rounded(fixed_.at(slot), dtype_);
  }
}

void Executor::fix(int slot, const Constant& constant, bool from_cache) {
  for (const auto& parameter : constant.from)
    check(parameter->value.device() == device_,
          "[plan] '{}' was compiled for {}, but its weights are on {}: compile it again", name_, device_,
          parameter->value.device());
  const Graph::Value& value = graph_.value(slot);
  const auto cached = from_cache && constant.can_be_kept() ? cache_->find(cached_name(slot, constant)) : nullptr;
  if (cached != nullptr && cached->value.defined() && cached->value.spec() == value.spec) {
    fixed_[slot] = cached->value;
  } else {
    const PurposeScope purpose(Purpose::parameters);
    fixed_[slot] = constant.value().to(value.spec.dtype);
  }
  if (value.spec.shape.rank() > 1 && device_.kind == Device::Kind::cpu) {
    const std::shared_ptr<Storage> storage = fixed_[slot].storage();
    storage->keep_packed(value.kind == Graph::Kind::constant);
    if (cached != nullptr && value.kind == Graph::Kind::constant) {
      for (const auto& [layout, copy] : cached->packed) storage->packed()->put(*storage, layout, copy.storage());
    }
  }
  if (const auto gradient = schedule_.gradients.find(slot);
      gradient != schedule_.gradients.end() && !schedule_.hands_over) {
    const PurposeScope purpose(Purpose::gradients);
    fixed_[gradient->second] = Tensor::empty(value.spec.shape, value.spec.dtype, device_);
  }
}

// Tells what a constant was made of: a weight alone, or folded with these others.
std::string Executor::cached_name(int slot, const Constant& constant) const {
  const Graph::Value& value = graph_.value(slot);
  std::string name = fmt::format("{} {} {}", value.name, value.spec.dtype, value.spec.shape);
  if (constant.make) name += fmt::format(", {}, of", constant.how);
  for (const auto& parameter : constant.from) name += " " + parameter->name;
  return name;
}

WeightCache::Entries Executor::not_cached() const {
  WeightCache::Entries entries;
  if (cache_ == nullptr || !cache_->is_valid()) return entries;
  for (const auto& [slot, constant] : graph_.constants()) {
    if (graph_.value(slot).uses == 0 || !constant.can_be_kept()) continue;
    const Tensor& tensor = fixed_.at(slot);
    const std::shared_ptr<Storage> storage = tensor.storage();
    WeightCache::Entry entry;
    if (constant.make) entry.value = tensor;
    if (storage->packed() != nullptr) {
      for (const auto& [layout, copy] : storage->packed()->all(*storage))
        entry.packed[layout] = Tensor::over(copy, 0, {static_cast<Index>(copy->bytes())}, DType::u8);
    }
    std::string name = cached_name(slot, constant);
    const auto found = cache_->find(name);
    const bool is_new =
        found == nullptr ? entry.value.defined() || !entry.packed.empty() : entry.packed.size() > found->packed.size();
    if (is_new) entries.emplace(std::move(name), std::move(entry));
  }
  return entries;
}

std::unique_ptr<Executor::Memory> Executor::make_memory() {
  auto memory = std::make_unique<Memory>();
  // What ran before, op by op or in other shapes, left blocks that fit nothing here.
  if (device_.kind == Device::Kind::cpu) release_cached_memory(device_);
  {
    const PurposeScope purpose(Purpose::activations);
    memory->arena = Tensor::empty({static_cast<Index>(memory_)}, DType::u8, device_);
  }
  memory->parameters = parameters_version_;
  memory->operands.resize(schedule_.instructions.size());
  for (std::size_t i = 0; i < schedule_.instructions.size(); ++i) {
    const Instruction& instruction = schedule_.instructions[i];
    Operands& operands = memory->operands[i];
    const Graph::Call& call = graph_.calls()[instruction.call];
    bind(*memory, instruction.inputs, operands.inputs);
    bind(*memory, instruction.outputs, operands.outputs);
    bind(*memory, instruction.dy, operands.dy);
    bind(*memory, instruction.dx, operands.dx);
    if (instruction.kind != Instruction::Kind::backward) continue;
    // What is not there still has a shape and a type.
    for (std::size_t k = 0; k < call.inputs.size(); ++k) {
      const Spec& spec = graph_.value(call.inputs[k]).spec;
      if (instruction.inputs[k] < 0) operands.inputs[k] = Operand(nullptr, spec.shape, spec.dtype);
    }
    for (std::size_t k = 0; k < call.outputs.size(); ++k) {
      const Spec& spec = graph_.value(call.outputs[k]).spec;
      if (instruction.outputs[k] < 0) operands.outputs[k] = Operand(nullptr, spec.shape, spec.dtype);
    }
    for (const char accumulate : instruction.accumulate) operands.gradients.push_back({{}, accumulate != 0});
    operands.dy_is_scratch = instruction.dy.front() != schedule_.seed;
  }
  return memory;
}

void Executor::bind(Memory& memory, const std::vector<int>& slots, std::vector<Operand>& operands) {
  operands.resize(slots.size());  // patches keep addresses
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const int slot = slots[i];
    if (slot < 0) continue;
    const Place& at = layout_.places[static_cast<std::size_t>(slot)];
    if (at.block < 0) {
      operands[i] = fixed_.at(slot);
      continue;
    }
    const auto block = static_cast<std::size_t>(at.block);
    const Spec& spec = schedule_.slots[static_cast<std::size_t>(slot)];
    const std::size_t offset = layout_.blocks[block].offset + at.offset;
    operands[i] = Operand(static_cast<std::byte*>(memory.arena.raw()) + offset, spec.shape, spec.dtype);
    operands[i].pitch = at.pitch;
    if (layout_.homes[block] != Layout::Home::arena) memory.patches.push_back({&operands[i], at.block, at.offset});
  }
}

// The tensors of the blocks that are not the plan's own.
Executor::Outside Executor::bind_outside(const std::map<std::string, Tensor>& given, const Tensor& seed) const {
  Outside outside;
  for (const auto& [name, value] : inputs_) {
    const auto found = given.find(name);
    const Spec& spec = graph_.value(value).spec;
    check(found != given.end() && found->second.defined(), "[plan] '{}' needs a value for '{}'", name_, name);
    check(found->second.spec() == spec, "[plan] '{}' was compiled for '{}' as {} {}, got {} {}", name_, name,
          spec.dtype, spec.shape, found->second.dtype(), found->second.shape());
    outside[layout_.places[static_cast<std::size_t>(value)].block] = found->second.to(device_);
  }
  if (schedule_.seed >= 0) outside[layout_.places[static_cast<std::size_t>(schedule_.seed)].block] = seed;
  const PurposeScope purpose(Purpose::activations);
  for (std::size_t b = 0; b < layout_.blocks.size(); ++b) {
    if (layout_.homes[b] == Layout::Home::output)
      outside[static_cast<int>(b)] = Tensor::empty({static_cast<Index>(layout_.blocks[b].bytes)}, DType::u8, device_);
  }
  return outside;
}

Tensor Executor::result(int value, const Outside& outside) const {
  const Place& at = layout_.places[static_cast<std::size_t>(value)];
  const Spec& spec = graph_.value(value).spec;
  if (at.block < 0) return fixed_.at(value);
  const Tensor& block = outside.at(at.block);
  if (layout_.homes[static_cast<std::size_t>(at.block)] == Layout::Home::input) return block.reshaped(spec.shape);
  return Tensor::over(block.storage(), at.offset, spec.shape, spec.dtype);
}

}  // namespace graft::plan
