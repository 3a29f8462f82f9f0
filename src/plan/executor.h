#pragma once

#include <mutex>
#include <optional>

#include "graft/core/graph.h"
#include "graft/plan/plan.h"

#include "plan/layout.h"

namespace graft::plan {

/// Runs the instructions of a Schedule in planned memory.
class Executor {
 public:
  /// `dtype` is that of activations; `outputs` are values of the graph that are handed out. With `record` runs on a
  /// device are recorded and replayed.
  Executor(const nn::Network& network, DType dtype, bool record, Graph graph, Schedule schedule,
           std::vector<int> outputs, std::shared_ptr<WeightCache> cache = {});

  /// What a run is given: see TrainingPlan::Batch.
  struct Run {
    const std::map<std::string, Tensor>& given;
    Tensor seed = {};
    std::function<void(const std::vector<Tensor>& outputs)> after_forward = {};
    HandOver hand_over = {};
    Observe observe = {};
  };
  /// Computes the outputs. Throws Error if something is missing or is not what the graph was made for.
  std::vector<Tensor> run(const Run& run);

  const std::string& network() const { return name_; }
  /// What is given, in the graph's order.
  const std::vector<std::pair<std::string, int>>& inputs() const { return inputs_; }
  const std::vector<Step>& steps() const { return steps_; }
  std::size_t memory() const { return memory_; }
  std::size_t least_memory() const { return least_memory_; }
  Device device() const { return device_; }
  DType loss_type() const { return schedule_.slots[static_cast<std::size_t>(schedule_.seed)].dtype; }

 private:
  using Outside = std::map<int, Tensor>;  // by block: what a caller gives or gets
  struct Operands {
    std::vector<Operand> inputs, outputs, dy, dx;
    std::vector<Gradient> gradients;  // dx with what to do
    bool dy_is_scratch = true;
  };
  // An operand that lies where a caller's tensor does, or where one does that a caller gets.
  struct Patch {
    Operand* operand;
    int block;
    std::size_t offset;
  };
  // Of a Context, what decides which kernels run.
  struct Switches {
    Engine engine = Engine::automatic;
    bool allow_tf32 = false, allow_unproved = false;

    static Switches now() {
      const Context& context = Context::current();
      return {context.engine, context.allow_tf32, context.allow_unproved};
    }
    friend bool operator==(const Switches&, const Switches&) = default;
  };
  // What a run needs for itself.
  struct Memory {
    Tensor arena;
    std::vector<Operands> operands;  // of each instruction
    std::vector<Patch> patches;
    std::uint64_t parameters = 0;  // the version of them that the operands point to
    // Of runs that are recorded: tensors that stay where they are, and the recording.
    Outside outside;
    std::optional<graft::Graph> recording;
    Switches switches;  // what the kernels were chosen by
    bool has_run = false;
  };

  std::unique_ptr<Memory> take_memory();
  std::unique_ptr<Memory> make_memory();
  void bind(Memory& memory, const std::vector<int>& slots, std::vector<Operand>& operands);
  void refresh_parameters();
  void fix(int slot, const Constant& constant, bool from_cache);
  std::string cached_name(int slot, const Constant& constant) const;
  WeightCache::Entries not_cached() const;
  std::vector<std::uint64_t> state_of_parameters() const;
  Outside bind_outside(const std::map<std::string, Tensor>& given, const Tensor& seed) const;
  static void patch(Memory& memory, const Outside& outside);
  std::vector<Tensor> results(const Outside& outside) const;
  std::vector<Tensor> replay(Memory& memory, const Outside& given, const Run& run);
  void execute_all(Memory& memory, const Outside& outside, const Run& run);
  void execute(const Instruction& instruction, Operands& operands);
  void hand_over(const Instruction& instruction, const Memory& memory, const HandOver& to) const;
  Tensor result(int value, const Outside& outside) const;

  std::string name_;
  Device device_;
  DType dtype_;
  bool record_;
  Graph graph_;
  Schedule schedule_;
  std::vector<int> outputs_;
  Layout layout_;
  std::size_t memory_ = 0, least_memory_ = 0;
  std::vector<Step> steps_;
  std::vector<std::pair<std::string, int>> inputs_;

  std::shared_ptr<WeightCache> cache_;

  std::mutex mutex_;             // of what follows
  std::map<int, Tensor> fixed_;  // slots of parameters, constants and gradients of parameters
  std::vector<std::uint64_t> parameters_;
  std::uint64_t parameters_version_ = 0;
  bool has_kept_ = false;  // in the cache, what the first run made
  std::vector<std::unique_ptr<Memory>> free_;
};

}  // namespace graft::plan
