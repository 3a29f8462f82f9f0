// graft's vectorized kernels beside the library's, on every convolution and product of a network of the zoo:
//   layers_benchmark --model resnet50 --batch 16 --pass forward
// The engines take turns on each distinct layer, so that both meet the same state of the machine; a line gives the
// median GFLOP/s of both and the median of the ratios of neighbouring turns. The last line sums over the network, a
// layer as often as it stands there. Weights are constant, as in inference, unless --training is given: then each pass
// finds them changed. On a GPU each call is recorded and replayed. A layer that the vectorized engine does not support
// is left out. Batch norms, with the batch's statistics, are measured where they are asked for: --only batch_norm.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "graft/core/context.h"
#include "graft/core/error.h"
#include "graft/core/graph.h"
#include "graft/models/models.h"
#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/depthwise_conv2d.h"
#include "graft/ops/linear.h"

namespace graft {
namespace {

struct Options {
  std::string model = "resnet50", pass = "forward", precision = "f32", only, engine = "native", against = "library",
              device = "cpu";
  Index batch = 16;
  double seconds = 0.3;
  int threads = 0;
  bool training = false, processor_time = false;
};

// Seconds since some moment, or those that the processors worked for this process: on a machine that others use too,
// one thread's processor time is the steadier measure.
double now(const Options& options) {
  if (options.processor_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Layer {
  std::shared_ptr<const Op> op;
  std::vector<Spec> inputs;
  int count = 0;
};

// The op by itself: what is fused to a convolution in backward is a kernel of its own.
std::shared_ptr<const Op> bare(const Op& op) {
  if (const auto* conv = dynamic_cast<const ops::Conv2d*>(&op)) {
    ops::Conv2dOptions options = conv->options;
    options.activation = Activation::linear;
    return std::make_shared<ops::Conv2d>(options, false, false);
  }
  if (const auto* conv = dynamic_cast<const ops::DepthwiseConv2d*>(&op)) {
    ops::DepthwiseConv2dOptions options = conv->options;
    options.activation = Activation::linear;
    return std::make_shared<ops::DepthwiseConv2d>(options, false);
  }
  if (dynamic_cast<const ops::Linear*>(&op) != nullptr) return std::make_shared<ops::Linear>(Activation::linear, false);
  if (const auto* norm = dynamic_cast<const ops::BatchNorm*>(&op)) {
    ops::BatchNormOptions options = norm->options;
    options.statistics = ops::Statistics::batch;
    options.activation = Activation::linear;
    return std::make_shared<ops::BatchNorm>(options, norm->has_scale, norm->has_center, false);
  }
  return nullptr;
}

// The image and the weights, or what a norm has for each channel.
int inputs_of(const Op& op) {
  const auto* norm = dynamic_cast<const ops::BatchNorm*>(&op);
  return norm != nullptr ? norm->moving_variance() + 1 : 2;
}

// The distinct layers in order of their first use.
std::vector<Layer> layers_of(const Options& options) {
  const nn::Network network = models::make(options.model);
  const Shape image = network.input_shape();
  const nn::Program program = network.lower({options.batch, image[-3], image[-2], image[-1]});
  std::vector<Layer> layers;
  std::map<std::string, std::size_t> known;
  for (const nn::Program::Call& call : program.calls) {
    const std::shared_ptr<const Op> op = bare(*call.op);
    if (op == nullptr || (options.only.empty() ? op->name() == "batch_norm" : op->name() != options.only)) continue;
    std::vector<Spec> inputs;
    inputs.reserve(static_cast<std::size_t>(inputs_of(*op)));
    for (int i = 0; i < inputs_of(*op); ++i) inputs.push_back(program[call.inputs[static_cast<std::size_t>(i)]].spec);
    const std::string name = fmt::format("{} {} {} {}", op->name(), op->attributes(), inputs[0].shape.to_string(),
                                         inputs[1].shape.to_string());
    const auto [at, is_new] = known.emplace(name, layers.size());
    if (is_new) layers.push_back({op, inputs});
    ++layers[at->second].count;
  }
  return layers;
}

Tensor random(const Shape& shape, DType dtype, std::uint64_t seed) {
  constexpr Index kDistinct = Index{1} << 20;  // then they come again, for drawing takes longer than what is measured
  Tensor tensor = Tensor::empty(shape);
  Generator generator{.seed = seed};
  float* values = tensor.mutable_data<float>();
  for (Index i = 0; i < tensor.elements(); ++i)
    values[i] = i < kDistinct ? static_cast<float>(generator.normal()) : values[i - kDistinct];
  return tensor.to(dtype);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Times {
  double ours = 0, theirs = 0, ratio = 0;   // seconds, and how many times faster ours is
  double first_ours = 0, first_theirs = 0;  // the first call, with whatever is made ready then
};

using Tensors = std::vector<Tensor>;

Times measure(const Layer& layer, const Options& options) {
  const DType dtype = dtype_from_name(options.precision);
  const Device device = Device::parse(options.device);
  const bool norm = layer.op->name() == "batch_norm";
  Tensors inputs, outputs, gradients;
  for (const Spec& spec : layer.inputs)
    inputs.push_back(random(spec.shape, inputs.empty() ? dtype : DType::f32, 1 + inputs.size()).to(device));
  // As a step finds it: rounded by the optimizer on a GPU, packed once on the CPU.
  if (!norm && device.kind != Device::Kind::cpu) inputs[1] = inputs[1].to(dtype);
  inputs[1].storage()->keep_packed(!options.training);
  std::vector<Spec> specs;
  for (const Tensor& input : inputs) specs.push_back(input.spec());
  for (const Spec& spec : layer.op->infer(specs)) outputs.push_back(Tensor::empty(spec.shape, spec.dtype, device));
  const Tensor dy = random(outputs[0].shape(), dtype, 3).to(device);
  const std::vector<Operand> operands(inputs.begin(), inputs.end()), results(outputs.begin(), outputs.end()),
      slopes{dy};
  std::vector<Gradient> wanted(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // A norm's backward gives them all at once.
    const bool parameter = norm && i + 2 < inputs.size();
    if (parameter || (!norm && i == (options.pass == "dx" ? 0u : 1u))) {
      gradients.push_back(Tensor::empty(inputs[i].shape(), i == 0 ? dtype : DType::f32, device));
      wanted[i] = {gradients.back(), false};
    }
  }
  const auto call = [&](Engine engine) {
    ContextScope scope;
    scope->device = device;
    scope->engine = engine;
    scope->allow_unproved = true;
    if (options.pass == "forward")
      layer.op->forward(Context::current(), operands, results);
    else
      layer.op->backward(Context::current(), {operands, results}, slopes, wanted);
  };
  const bool on_cpu = device.kind == Device::Kind::cpu;
  std::map<Engine, Graph> recordings;
  const auto first = [&](Engine engine) {
    const double start = now(options);
    call(engine);
    if (on_cpu) return now(options) - start;
    synchronize(device);
    const double seconds = now(options) - start;
    recordings.emplace(engine, Graph::record(device, [&] { call(engine); }));
    return seconds;
  };
  const auto once = [&](Engine engine) {
    constexpr int kReplays = 10;
    const double start = now(options);
    if (on_cpu) {
      call(engine);
      return now(options) - start;
    }
    for (int i = 0; i < kReplays; ++i) recordings.at(engine).replay();
    synchronize(device);
    return (now(options) - start) / kReplays;
  };
  const Engine ours = engine_from_name(options.engine), theirs = engine_from_name(options.against);
  const double first_ours = first(ours), first_theirs = first(theirs);
  std::vector<double> a, b, ratios;
  for (double spent = 0; spent < options.seconds || ratios.size() < 5;) {
    a.push_back(once(ours));
    b.push_back(once(theirs));
    ratios.push_back(b.back() / a.back());
    spent += a.back() + b.back();
  }
  return {median(a), median(b), median(ratios), first_ours, first_theirs};
}

void compare(const Options& options) {
  set_threads(options.threads);
  double ours = 0, theirs = 0, flops = 0;
  for (const Layer& layer : layers_of(options)) {
    Times times;
    try {
      times = measure(layer, options);
    } catch (const Error& error) {
      fmt::print("{}: {}\n", layer.op->name(), error.what());
      continue;
    }
    const double work = layer.op->operations(layer.inputs, layer.op->infer(layer.inputs));
    fmt::print(
        "{:2} x {:6} {:20} {:20} {:60} {:7.3f} ms {:6.1f} GFLOP/s, {} {:6.1f}, ratio {:.2f}, "
        "first call {:.1f} and {:.1f} ms\n",
        layer.count, layer.op->name().substr(0, 6), layer.inputs[0].shape.to_string(),
        layer.inputs[1].shape.to_string(), layer.op->attributes(), times.ours * 1e3, work / times.ours * 1e-9,
        options.against, work / times.theirs * 1e-9, times.ratio, times.first_ours * 1e3, times.first_theirs * 1e3);
    std::cout.flush();
    ours += layer.count * times.ours;
    theirs += layer.count * times.ours * times.ratio;
    flops += layer.count * work;
  }
  fmt::print("{} {} batch {} {}: {} {:.2f} ms ({:.1f} GFLOP/s), {} {:.2f} ms, ratio {:.3f}\n", options.model,
             options.pass, options.batch, options.precision, options.engine, ours * 1e3, flops / ours * 1e-9,
             options.against, theirs * 1e3, theirs / ours);
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  graft::Options options;
  CLI::App app("The layers of a network, one engine beside another");
  app.add_option("--model", options.model, "A network of the zoo")->capture_default_str();
  app.add_option("--device", options.device, "cpu, cuda[:N], emulated")->capture_default_str();
  app.add_option("--batch", options.batch, "Images")->capture_default_str();
  app.add_option("--pass", options.pass, "What is timed")
      ->check(CLI::IsMember({"forward", "dx", "dw"}))
      ->capture_default_str();
  app.add_option("--precision", options.precision, "f32 or bf16")->capture_default_str();
  app.add_option("--only", options.only, "Of these ops only: conv2d, depthwise_conv2d or linear");
  app.add_option("--engine", options.engine, "Whose speed")->capture_default_str();
  app.add_option("--against", options.against, "Beside whose")->capture_default_str();
  app.add_option("--seconds", options.seconds, "For each layer")->capture_default_str();
  app.add_option("--threads", options.threads, "0 for all cores")->capture_default_str();
  app.add_flag("--training", options.training, "Weights change between passes");
  app.add_flag("--processor-time", options.processor_time, "Instead of the clock's");
  CLI11_PARSE(app, argc, argv);
  try {
    graft::compare(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
