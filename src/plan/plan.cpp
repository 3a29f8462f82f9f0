#include "graft/plan/plan.h"

#include <fstream>

#include "graft/ops/loss.h"

#include "core/format.h"
#include "plan/executor.h"

namespace graft::plan {
namespace {

// Names that no node has.
constexpr const char* kLabels = "the labels";
constexpr const char* kWeights = "the examples' weights";

void check_values(const nn::Network& network) {
  for (const auto& [name, parameter] : network.parameter_table())
    check(parameter->value.defined(), "[plan] '{}' has no value yet: materialize or load '{}' first", name,
          network.name);
}

// In KiB as Linux tells it, which the C library's sysconf does wrong on some processors; 0 where nobody does.
std::size_t last_cache_bytes() {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
  std::size_t kib = 0;
  file >> kib;
  return kib << 10;
}

void rewrite(Graph& graph) {
  graph.remove_dead();
  fold_constants(graph);
  fold_batch_norm(graph);
  fold_padding(graph);
  fuse_epilogues(graph);
  graph.remove_dead();
}

std::size_t memory_of(const Graph& graph, const Schedule& schedule) {
  Layout layout = lay_out(graph, schedule);
  return place(layout).bytes;
}

// With as few values computed again as the limit needs.
Schedule schedule_within(const Graph& graph, int loss, const TrainingOptions& options, const nn::Network& network) {
  const auto schedule = [&](std::size_t again) {
    Schedule one = schedule_training(graph, loss, options.hand_over, again);
    if (network.device().kind != Device::Kind::cpu) join_norms(graph, one);
    return one;
  };
  Schedule best = schedule(0);
  if (options.memory_limit == 0) return best;
  const std::size_t kept = memory_of(graph, best);
  if (kept <= options.memory_limit) return best;
  best = schedule(graph.calls().size());
  const std::size_t least = memory_of(graph, best);
  check(
      least <= options.memory_limit,
      "[plan] the values of a training step of '{}' take {:.1f} MB, and {:.1f} MB where all that is cheap is computed "
      "again: more than the limit of {:.1f} MB; take a smaller batch",
      network.name, static_cast<double>(kept) * 1e-6, static_cast<double>(least) * 1e-6,
      static_cast<double>(options.memory_limit) * 1e-6);
  std::size_t too_few = 0;
  while (best.again - too_few > 1) {
    Schedule half = schedule(too_few + (best.again - too_few) / 2);
    if (memory_of(graph, half) <= options.memory_limit)
      best = std::move(half);
    else
      too_few = half.again;
  }
  return best;
}

}  // namespace

Plan compile(const nn::Network& network, const Shape& input, const CompileOptions& options) {
  check_values(network);
  const nn::Program program = network.lower(
      input, {.training = false, .dtype = options.dtype, .outputs = options.outputs, .given = options.given});
  Graph graph(network, program, false);
  std::vector<int> outputs;
  for (const std::string& node : options.outputs) outputs.push_back(graph.node(node));
  if (outputs.empty()) outputs.push_back(program.output.index);
  if (options.logits) outputs.push_back(program.logits().index);
  for (const int output : outputs) graph.want(output);
  rewrite(graph);
  const bool by_cpu = network.device().kind == Device::Kind::cpu;
  const std::size_t cache = options.last_cache ? *options.last_cache : last_cache_bytes();
  Schedule schedule = schedule_forward(graph, by_cpu ? choose_rounds(graph, cache) : Rounds{});
  return Plan(std::make_unique<Executor>(network, options.dtype, options.record, std::move(graph), std::move(schedule),
                                         std::move(outputs), options.cache));
}

Plan::Plan(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}
Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;

std::vector<Tensor> Plan::run(const Tensor& input) const {
  check(executor_->inputs().size() == 1, "[plan] '{}' is compiled for {} given values, not for one input",
        executor_->network(), executor_->inputs().size());
  return run({{executor_->inputs().front().first, input}});
}
std::vector<Tensor> Plan::run(const std::map<std::string, Tensor>& given) const { return run(given, {}); }
std::vector<Tensor> Plan::run(const std::map<std::string, Tensor>& given, const Observe& observe) const {
  return executor_->run({.given = given, .observe = observe});
}

const std::vector<Step>& Plan::steps() const { return executor_->steps(); }
std::size_t Plan::memory() const { return executor_->memory(); }
std::size_t Plan::least_memory() const { return executor_->least_memory(); }

TrainingPlan compile_training(const nn::Network& network, const Shape& input, const TrainingOptions& options) {
  check_values(network);
  const nn::Program program =
      network.lower(input, {.training = true, .dtype = options.dtype, .outputs = {}, .given = options.given});
  Graph graph(network, program, true);
  const int logits = program.logits().index;
  const Index batch = graph.value(logits).spec.shape[0];
  std::vector<int> inputs{logits, graph.add_input(kLabels, {{batch}, DType::i64})};
  if (options.weights) inputs.push_back(graph.add_input(kWeights, {{batch}, exact(options.dtype)}));
  const int loss = graph.add_call(
      std::make_shared<const ops::SoftmaxCrossEntropy>(options.label_smoothing, options.weights), inputs, "loss");
  graph.want(loss);
  graph.want(logits);
  rewrite(graph);
  Schedule schedule = schedule_within(graph, loss, options, network);
  return TrainingPlan(std::make_unique<Executor>(network, options.dtype, false, std::move(graph), std::move(schedule),
                                                 std::vector<int>{loss, logits}));
}

TrainingPlan::TrainingPlan(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}
TrainingPlan::~TrainingPlan() = default;
TrainingPlan::TrainingPlan(TrainingPlan&&) noexcept = default;
TrainingPlan& TrainingPlan::operator=(TrainingPlan&&) noexcept = default;

TrainingPlan::Result TrainingPlan::run(const Batch& batch, const Observe& observe) const {
  std::map<std::string, Tensor> given = batch.given;
  given[kLabels] = batch.labels;
  if (batch.weights.defined()) given[kWeights] = batch.weights;
  const Tensor seed =
      batch.seed.defined() ? batch.seed : Tensor::full({}, 1, executor_->loss_type(), executor_->device());
  Executor::Run run{.given = given, .seed = seed, .hand_over = batch.hand_over, .observe = observe};
  if (batch.after_loss)
    run.after_forward = [&](const std::vector<Tensor>& outputs) { batch.after_loss(outputs.front()); };
  std::vector<Tensor> results = executor_->run(run);
  return {std::move(results[0]), std::move(results[1])};
}

const std::vector<Step>& TrainingPlan::steps() const { return executor_->steps(); }
std::size_t TrainingPlan::memory() const { return executor_->memory(); }
std::size_t TrainingPlan::least_memory() const { return executor_->least_memory(); }

}  // namespace graft::plan
