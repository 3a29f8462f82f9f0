#include "plan_table.h"

#include <algorithm>
#include <map>

#include "graft/core/context.h"
#include "graft/plan/plan.h"

#include "core/dtype_dispatch.h"
#include "nn/batched.h"
#include "probe.h"

namespace graft::tools {
namespace {

constexpr int kRuns = 5;

Tensor random_input(const Shape& shape, DType dtype) {
  Tensor tensor = Tensor::empty(shape);
  Generator generator{.seed = 1};
  float* values = tensor.mutable_data<float>();
  for (Index i = 0; i < tensor.elements(); ++i) values[i] = static_cast<float>(generator.uniform()) * 2 - 1;
  return tensor.to(dtype);
}

// What is measured: steps in their order, and the shortest time of each over the runs.
struct Measured {
  std::vector<plan::Step> steps;
  std::vector<double> seconds;
  std::size_t memory = 0, least_memory = 0;

  template <class Run>
  void best_of(const Run& run) {
    seconds.assign(steps.size(), 1e30);
    for (int i = 0; i < kRuns; ++i) {
      std::size_t at = 0;
      run([&](const plan::Step&, double step) {
        seconds[at] = std::min(seconds[at], step);
        ++at;
      });
    }
  }
};

Measured measure(nn::Network& network, const Shape& shape, const PlanTableOptions& options) {
  const Tensor input = random_input(shape, options.dtype).to(network.device());
  const std::map<std::string, Tensor> given{{network.nodes().front().name, input}};
  if (!options.training) {
    const plan::Plan plan = plan::compile(network, shape, {.dtype = options.dtype});
    Measured measured{plan.steps(), {}, plan.memory(), plan.least_memory()};
    measured.best_of([&](const plan::Observe& observe) { plan.run(given, observe); });
    return measured;
  }
  const plan::TrainingPlan plan = plan::compile_training(
      network, shape, {.dtype = options.dtype, .given = {}, .memory_limit = options.memory_limit});
  Measured measured{plan.steps(), {}, plan.memory(), plan.least_memory()};
  const Tensor labels = Tensor::zeros({shape[0]}, DType::i64).to(network.device());
  measured.best_of([&](const plan::Observe& observe) { plan.run({given, labels, {}, {}}, observe); });
  return measured;
}

}  // namespace

Json measure_plan(nn::Network network, const PlanTableOptions& options) {
  network.materialize();
  network.to(Context::current().device);
  const Measured measured = measure(network, nn::batched(network.input_shape(), options.batch), options);
  const Reached reached = probe(network.device(), {options.dtype});
  const double product = 1e9 * reached.product.at(std::string(name(options.dtype))), copy = 1e9 * reached.copy;

  Json steps = Json::array();
  double seconds = 0, least = 0;
  for (std::size_t i = 0; i < measured.steps.size(); ++i) {
    const plan::Step& step = measured.steps[i];
    const double ceiling = std::max(step.operations / product, step.bytes / copy);
    steps.push_back({{"layers", step.layers},
                     {"op", step.op},
                     {"backward", step.backward},
                     {"attributes", step.attributes},
                     {"rounds", step.rounds},
                     {"output", std::vector<Index>(step.output.shape.begin(), step.output.shape.end())},
                     {"flops", step.operations},
                     {"bytes", step.bytes},
                     {"seconds", measured.seconds[i]},
                     {"ceiling_seconds", ceiling}});
    seconds += measured.seconds[i];
    least += ceiling;
  }
  return {{"network", network.name},
          {"batch", options.batch},
          {"training", options.training},
          {"precision", name(options.dtype)},
          {"seconds", seconds},
          {"ceiling_seconds", least},
          {"memory_bytes", measured.memory},
          {"least_memory_bytes", measured.least_memory},
          {"copy_gb_per_s", reached.copy},
          {"product_gflop_per_s", reached.product.at(std::string(name(options.dtype)))},
          {"steps", steps}};
}

void print_plan(const Json& plan) {
  const double seconds = plan["seconds"];
  say("{}, {}, batch {}, {}\n", plan["network"].get<std::string>(), plan["training"] ? "a training step" : "inference",
      plan["batch"].get<Index>(), plan["precision"].get<std::string>());
  say("{:<44} {:<30} {:>9} {:>6} {:>9} {:>8}\n", "layers", "op", "ms", "share", "GFLOP/s", "ceiling");
  std::map<std::string, std::pair<double, double>> by_op;  // seconds, and at the ceiling
  for (const Json& step : plan["steps"]) {
    const auto layers = step["layers"].get<std::vector<std::string>>();
    const double own = step["seconds"], least = step["ceiling_seconds"];
    const std::string op = step["op"].get<std::string>() + (step["backward"] ? ", backward" : "");
    const Index rounds = step["rounds"];
    const std::string in_rounds = rounds > 1 ? fmt::format("{} in {} rounds", op, rounds) : op;
    const std::string name = layers.size() == 1 ? layers.front() : layers.front() + " .. " + layers.back();
    say("{:<44} {:<30} {:>9.3f} {:>5.1f}% {:>9.1f} {:>7.0f}%\n", name, in_rounds, 1e3 * own, 100 * own / seconds,
        own > 0 ? 1e-9 * step["flops"].get<double>() / own : 0, own > 0 ? 100 * least / own : 0);
    by_op[op].first += own;
    by_op[op].second += least;
  }
  say("\n{:<75} {:>9} {:>6} {:>9} {:>8}\n", "op", "ms", "share", "", "ceiling");
  std::vector<std::pair<std::string, std::pair<double, double>>> ops(by_op.begin(), by_op.end());
  std::sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) { return a.second.first > b.second.first; });
  for (const auto& [op, time] : ops) {
    say("{:<75} {:>9.3f} {:>5.1f}% {:>9} {:>7.0f}%\n", op, 1e3 * time.first, 100 * time.first / seconds, "",
        time.first > 0 ? 100 * time.second / time.first : 0);
  }
  say("\nin all {:.2f} ms, {:.0f}% of the ceiling: {:.0f} GFLOP/s in products and {:.1f} GB/s in copies are reached "
      "here\n",
      1e3 * seconds, 100 * plan["ceiling_seconds"].get<double>() / seconds, plan["product_gflop_per_s"].get<double>(),
      plan["copy_gb_per_s"].get<double>());
  say("memory for values {:.1f} MB, at least {:.1f} MB are alive at once\n", plan["memory_bytes"].get<double>() * 1e-6,
      plan["least_memory_bytes"].get<double>() * 1e-6);
}

}  // namespace graft::tools
