#include "library/plans.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "graft/core/error.h"
#include "graft/core/stream.h"
#include "graft/core/tensor.h"

#include "core/choices.h"
#include "core/format.h"
#include "kernels/registry.h"
#include "library/frontend.h"
#include "library/handles.h"
#include "runtime/launches.h"
#include "runtime/on_gpu.h"

namespace graft::cudnn {

struct Plan {
  Compiled compiled;
  int engine = -1;
  std::vector<std::size_t> in_memory;  // numbers of the values that have addresses
  std::size_t values = 0;

  Plan(const OperationGraph& graph, const Target& target) : compiled(graph, target), values(graph.values.size()) {
    for (std::size_t i = 0; i < values; ++i)
      if (graph.values[i].place == Value::Place::memory) in_memory.push_back(i);
  }
};

namespace {

constexpr int kMostMeasured = 8;          // the heuristics' order is good: the fastest is rarely further down
constexpr std::size_t kMostPlans = 2048;  // several networks' layers in several batch sizes

Tensor workspace(const Context& context, const Compiled& compiled, int engine) {
  return Tensor::empty({static_cast<Index>(compiled.workspace(engine))}, DType::u8, context.device);
}

// Zeroed memory of its own for each value, so that measuring overwrites nobody's result.
std::vector<Tensor> stand_ins(const Context& context, const OperationGraph& graph) {
  std::vector<Tensor> memory(graph.values.size());
  for (std::size_t i = 0; i < memory.size(); ++i) {
    const Value& v = graph.values[i];
    if (v.place != Value::Place::memory) continue;
    Index last = 0;
    for (std::size_t axis = 0; axis < 4; ++axis) last += (v.extents[axis] - 1) * v.strides[axis];
    memory[i] = Tensor::full({last + 1}, 0, v.dtype, context.device);
  }
  return memory;
}

double milliseconds(const Context& context, const Compiled& compiled, int engine, std::span<void* const> addresses) {
  const Tensor scratch = workspace(context, compiled, engine);
  const cudnnHandle_t handle = library::cudnn_handle(context);
  const auto once = [&] { compiled.run(handle, engine, addresses, scratch.raw()); };
  once();  // loads the kernel
  double best = 1e30;
  for (int run = 0; run < 5; ++run) {
    const Event begin = Event::record(context.device, context.stream);
    once();
    best = std::min(best, Event::record(context.device, context.stream).milliseconds_since(begin));
  }
  return best;
}

int fastest(const Context& context, const OperationGraph& graph, Compiled& compiled) {
  const std::vector<Tensor> memory = stand_ins(context, graph);
  Addresses addresses;
  for (const Tensor& tensor : memory) addresses.push_back(tensor.defined() ? tensor.raw() : nullptr);
  int best = -1, measured = 0;
  double least = 1e30;
  for (int engine = 0; engine < compiled.engines() && measured < kMostMeasured; ++engine) {
    if (!compiled.build(engine)) continue;
    ++measured;
    if (const double time = milliseconds(context, compiled, engine, addresses); time < least) {
      least = time;
      best = engine;
    }
  }
  return best;
}

int first(Compiled& compiled) {
  for (int engine = 0; engine < compiled.engines(); ++engine)
    if (compiled.build(engine)) return engine;
  return -1;
}

int choose(const Context& context, const OperationGraph& graph, Compiled& compiled) {
  if (!autotunes()) return first(compiled);
  const std::string machine = fmt::format("{}, cuDNN {}", library::gpu_name(context), kernels::cudnn_version());
  const std::string call = graph.describe();
  if (const auto known = choices().find(machine, call)) {
    for (int engine = 0; engine < compiled.engines(); ++engine)
      if (compiled.name(engine) == *known && compiled.build(engine)) return engine;
  }
  if (library::is_recording(context)) return first(compiled);
  const int engine = fastest(context, graph, compiled);
  if (engine >= 0) choices().keep(machine, call, compiled.name(engine));
  return engine;
}

std::shared_ptr<const Plan> make(const Context& context, const OperationGraph& graph) {
  const cuda::OnGpu here(context.device.index);
  const auto plan = std::make_shared<Plan>(graph, Target{.handle = library::cudnn_handle(context)});
  plan->engine = choose(context, graph, plan->compiled);
  if (plan->engine < 0) return nullptr;
  return plan;
}

}  // namespace

std::shared_ptr<const Plan> plan_for(const Context& context, const std::optional<OperationGraph>& graph) {
  if (!graph) return nullptr;
  using Key = std::pair<int, OperationGraph>;
  static std::mutex mutex;
  static auto* const plans = new std::map<Key, std::shared_ptr<const Plan>>;  // CUDA may be gone when statics are
  Key key(context.device.index, *graph);
  {
    const std::lock_guard lock(mutex);
    if (const auto found = plans->find(key); found != plans->end()) return found->second;
  }
  std::shared_ptr<const Plan> plan = make(context, *graph);
  const std::lock_guard lock(mutex);
  if (plans->size() >= kMostPlans) plans->clear();
  return plans->emplace(std::move(key), std::move(plan)).first->second;
}

void run(const Context& context, const char* name, const Plan& plan, std::initializer_list<const void*> addresses) {
  const cuda::OnGpu here(context.device.index);
  Addresses all(plan.values, nullptr);
  auto value = plan.in_memory.begin();
  for (const void* address : addresses) {
    if (address == nullptr) continue;
    check(value != plan.in_memory.end(), "[{}] a plan was given more operands than its graph has", name);
    all[*value++] = const_cast<void*>(address);
  }
  check(value == plan.in_memory.end(), "[{}] a plan was given fewer operands than its graph has", name);
  const Tensor scratch = workspace(context, plan.compiled, plan.engine);
  count_launch(name);
  plan.compiled.run(library::cudnn_handle(context), plan.engine, all, scratch.raw());
}

}  // namespace graft::cudnn
