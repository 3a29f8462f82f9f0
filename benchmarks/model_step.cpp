// graft's side of a comparison: one network of the zoo, made ready in a process of its own, that steps when it is
// asked.
//
//   model_step --model resnet50 --work training --device cuda --engine auto --precision bf16 --batch 32
//
// The first line it prints is JSON and says what is there. Then it reads commands, a line each, and answers each with a
// line of JSON, so that tools/bench can let several such processes take turns:
//
//   weights FILE   writes the network, and what is frozen in it         {"weights": FILE}
//   output         the logits of the input that all peers make          {"output": [...]}
//   update         a step of training: its loss, and the length of      {"loss": l, "change": c}
//                  what it changed all parameters by
//   steps N        N steps, the device idle before and after them       {"steps": N, "seconds": s, "peak_bytes": b}
//   products       what a step's products do at least                   {"products": [[operations, bytes], ...]}
//
// A step of inference is a forward pass; of training a forward with batch statistics, a backward to every parameter and
// an update by SGD with momentum. `head` trains the last layer with weights alone, `finetune` what --train names, with
// moving statistics; --cached computes what is frozen once, as graft's Trainer does where nothing random stands before
// it. What cannot be done is answered with {"error": sentence}. benchmarks/peers and benchmarks/libtorch hold the other
// sides. With --steps it steps at once, prints that answer and ends; with --first the first line is the logits.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "graft/autograd/backward.h"
#include "graft/core/context.h"
#include "graft/core/error.h"
#include "graft/core/graph.h"
#include "graft/core/version.h"
#include "graft/io/network_file.h"
#include "graft/models/models.h"
#include "graft/ops/loss.h"
#include "graft/optim/optimizer.h"
#include "graft/plan/plan.h"
#include "graft/predict/packed_file.h"
#include "graft/train/frozen.h"

#include "core/format.h"
#include "core/uploader.h"
#include "products.h"

namespace graft {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string model = "resnet50", work = "inference", device = "cpu", engine = "auto", precision = "f32", weights;
  std::vector<std::string> train;
  Index batch = 1, size = 0;
  double alpha = 1;
  int steps = 0, warmup = 3, threads = 0;
  bool captured = false, eager = false, cached = false, first = false;

  bool training() const { return work != "inference"; }
  DType dtype() const { return precision == "bf16" ? DType::bf16 : DType::f32; }
};

// Kernels chosen by measurements of this process alone: those that are kept may be of other kernels.
class OwnChoices {
 public:
  OwnChoices() {
    std::string name = (std::filesystem::temp_directory_path() / "graft-choices-XXXXXX").string();
    check(mkdtemp(name.data()) != nullptr, "[choices] no folder can be made in {}", name);
    folder_ = name;
    setenv("XDG_CACHE_HOME", name.c_str(), /*overwrite=*/1);
    setenv("GRAFT_AUTOTUNE", "1", /*overwrite=*/1);
  }
  ~OwnChoices() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  OwnChoices(const OwnChoices&) = delete;
  OwnChoices& operator=(const OwnChoices&) = delete;

 private:
  std::filesystem::path folder_;
};

// The input of all peers, from -1 to 1: element i is a hash of i, which both sides can compute exactly.
Tensor peer_input(const Shape& shape) {
  Tensor tensor = Tensor::empty(shape);
  float* values = tensor.mutable_data<float>();
  for (Index i = 0; i < tensor.elements(); ++i) {
    const std::uint32_t hash = static_cast<std::uint32_t>(i) * 2654435761u;
    values[i] = static_cast<float>(hash >> 8) * 0x1p-23f - 1;
  }
  return tensor;
}

class Stepper {
 public:
  explicit Stepper(const Options& options)
      : options_(options),
        device_(Device::parse(options.device)),
        file_(options.weights),
        network_(make_network(options)) {
    network_.to(device_);
    input_ = peer_input(input_shape()).to(options.dtype()).to(device_);
    if (options.training()) prepare_training();
    if (options.eager) return;
    if (options.training()) {
      std::map<std::string, Spec> given;
      for (const auto& [node, value] : features_) given.emplace(node, value.spec());
      training_plan_.emplace(plan::compile_training(
          network_, input_shape(), {.dtype = input_.dtype(), .hand_over = one_by_one(), .given = given}));
    } else {
      plan::CompileOptions compiled{.dtype = input_.dtype(), .logits = true, .record = !options.captured};
      if (!options.weights.empty()) compiled.cache = predict::packed_beside(file_, network_);
      plan_.emplace(plan::compile(network_, input_shape(), compiled));
    }
  }

  Json describe() {
    double operations = 0;
    for (const Product& product : products(network_, input_shape(), options_.dtype(), false))
      operations += product.operations;
    return {{"peer", "graft"},
            {"version", kVersion},
            {"model", options_.model},
            {"work", options_.work},
            {"device", options_.device},
            {"engine", options_.engine},
            {"precision", options_.precision},
            {"batch", options_.batch},
            {"image", network_.input_shape()[0]},
            {"captured", options_.captured},
            {"parameters", weights()},
            {"product_flops", operations}};
  }

  Json steps(int count) {
    warm_up();
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) {
      if (graph_)
        replay();
      else
        step();
    }
    wait();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    return {{"steps", count}, {"seconds", seconds.count()}, {"peak_bytes", peak_bytes()}};
  }

  Json output() {
    const autograd::NoGrad off;
    const Tensor logits = plan_ ? plan_->run(input_).back() : network_.run(input_).logits;
    const Tensor scores = logits.to(Device{}).to(DType::f32);
    const auto values = scores.values<float>();
    return {{"output", std::vector<float>(values.begin(), values.end())}};
  }

  Json update() {
    check(options_.training(), "[update] a step of {} has none", options_.work);
    // The values before lie in a file meanwhile, so that the most memory that the process had is a step's own.
    const auto close = [](std::FILE* file) { std::fclose(file); };
    const std::unique_ptr<std::FILE, decltype(close)> before(std::tmpfile(), close);
    check(before != nullptr, "[update] cannot make a passing file");
    for (const nn::Parameter* parameter : network_.trainable_parameters()) {
      const Tensor value = parameter->value.to(Device{});
      const auto count = static_cast<std::size_t>(value.elements());
      check(std::fwrite(value.data<float>(), sizeof(float), count, before.get()) == count,
            "[update] cannot write {} numbers to a passing file", count);
    }
    step();
    std::rewind(before.get());
    double sum = 0;
    std::array<float, 1 << 14> was;
    for (const nn::Parameter* parameter : network_.trainable_parameters()) {
      const Tensor value = parameter->value.to(Device{});
      const std::span<const float> now = value.values<float>();
      for (std::size_t at = 0; at < now.size(); at += was.size()) {
        const std::size_t count = std::min(was.size(), now.size() - at);
        check(std::fread(was.data(), sizeof(float), count, before.get()) == count, "[update] cannot read them again");
        for (std::size_t k = 0; k < count; ++k) sum += std::pow(double{now[at + k]} - double{was[k]}, 2);
      }
    }
    return {{"loss", result_.to(Device{}).item()}, {"change", std::sqrt(sum)}};
  }

  Json products_of_step() {
    Json list = Json::array();
    for (const Product& product : products(network_, input_shape(), options_.dtype(), options_.training()))
      list.push_back({product.operations, product.bytes});
    return {{"products", list}};
  }

  Json save(const std::string& file) {
    io::save_network(network_, file);
    return {{"weights", file}};
  }

 private:
  static nn::Network make_network(const Options& options) {
    if (!options.weights.empty()) return io::load_network(options.weights);
    nn::Network network =
        models::make(options.model, {.height = options.size, .width = options.size, .alpha = options.alpha});
    network.seed = 1;
    network.materialize();
    if (options.work == "training") network.use_statistics(ops::Statistics::batch);
    if (options.work == "head") network.train_last(1);
    if (options.work == "finetune") {
      network.freeze();
      for (const std::string& pattern : options.train) network.unfreeze(pattern);
    }
    return network;
  }

  Shape input_shape() const {
    const Shape& one = network_.input_shape();
    return {options_.batch, one[0], one[1], one[2]};
  }

  void prepare_training() {
    std::vector<std::int64_t> labels;
    for (Index i = 0; i < options_.batch; ++i) labels.push_back(i % 1000);
    labels_ = Tensor::from<std::int64_t>({options_.batch}, labels).to(device_);
    optim::Group group;
    for (nn::Parameter* parameter : network_.trainable_parameters())
      group.parameters.push_back({parameter->name, parameter->value});
    optimizer_.emplace(
        optim::OptimizerOptions{.algorithm = optim::Algorithm::sgd, .learning_rate = 1e-3, .momentum = 0.9},
        std::vector{group});
    if (!options_.cached) return;
    const autograd::NoGrad off;
    const std::vector<std::string> border = train::frozen_part(network_, options_.dtype()).border;
    features_ = network_.run(input_, {.watch = border, .until = border}).watched;
  }

  // As the trainer does it: on the CPU each parameter is updated as soon as its gradient is there.
  bool one_by_one() const { return device_.kind == Device::Kind::cpu; }

  void step() {
    if (!options_.training()) {
      const autograd::NoGrad off;
      result_ = plan_ ? plan_->run(input_).front() : network_.run(input_).output;
      return;
    }
    differentiate();
    if (!training_plan_ || !one_by_one()) optimizer_->step();
  }

  // Loss and gradients; on the CPU the updates with them.
  void differentiate() {
    optimizer_->zero_grad();
    if (training_plan_) {
      plan::TrainingPlan::Batch batch{given_in_training(), labels_};
      if (one_by_one()) {
        batch.after_loss = [this](const Tensor& loss) { optimizer_->begin(loss); };
        batch.hand_over = [this](const std::string& name, const Tensor& gradient) {
          optimizer_->update(name, gradient);
        };
      }
      result_ = training_plan_->run(batch).loss;
    } else {
      result_ = ops::softmax_cross_entropy(scores_in_training(), labels_);
      autograd::backward(result_);
    }
  }

  // As the trainer does it: rates and counts are brought to the device before each replay.
  void record() {
    graph_.emplace(Graph::record(device_, [this] {
      if (!options_.training()) return step();
      differentiate();
      recorded_ = optimizer_->prepare();
      optimizer_->launch(recorded_);
    }));
    uploader_.emplace(device_);
  }

  void replay() {
    if (options_.training())
      optimizer_->advance(recorded_, [this](const Tensor& to, const void* from) { uploader_->upload(to, from); });
    graph_->replay();
  }

  std::map<std::string, Tensor> given_in_training() const {
    return features_.empty() ? std::map<std::string, Tensor>{{network_.nodes().front().name, input_}} : features_;
  }

  Tensor scores_in_training() {
    return network_.run(features_.empty() ? input_ : Tensor{}, {.training = true, .given = features_}).logits;
  }

  void warm_up() {
    if (warm_) return;
    for (int i = 0; i < options_.warmup; ++i) step();
    if (options_.captured) record();
    wait();
    warm_ = true;
  }

  void wait() const {
    if (device_.kind != Device::Kind::cpu) synchronize(device_);
  }

  // Of the device what graft's tensors held at most; of the CPU all that the process ever held.
  std::size_t peak_bytes() const {
    if (device_.kind != Device::Kind::cpu) return memory_use(device_).peak;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::size_t>(usage.ru_maxrss) << 10;
  }

  // Weights without statistics, as torch counts parameters.
  Index weights() {
    Index count = 0;
    for (const nn::Parameter* parameter : network_.parameters())
      count += parameter->is_statistic ? 0 : parameter->shape.elements();
    return count;
  }

  Options options_;
  Device device_;
  predict::FileIdentity file_;
  nn::Network network_;
  Tensor input_, labels_, result_;
  std::map<std::string, Tensor> features_;
  std::optional<optim::Optimizer> optimizer_;
  std::optional<plan::Plan> plan_;
  std::optional<plan::TrainingPlan> training_plan_;
  optim::Optimizer::Step recorded_;
  std::optional<Uploader> uploader_;
  std::optional<Graph> graph_;
  bool warm_ = false;
};

void say(const Json& line) { std::cout << line.dump() << std::endl; }

Json answer(Stepper& stepper, const std::string& line) {
  std::istringstream words(line);
  std::string command, argument;
  words >> command >> argument;
  if (command == "steps") return stepper.steps(std::stoi(argument));
  if (command == "output") return stepper.output();
  if (command == "update") return stepper.update();
  if (command == "weights") return stepper.save(argument);
  if (command == "products") return stepper.products_of_step();
  return {{"error", fmt::format("expected weights FILE, output, update, products or steps N, got '{}'", line)}};
}

void serve(const Options& options) {
  if (options.threads > 0) set_threads(options.threads);
  Context& context = Context::current();
  context.engine = engine_from_name(options.engine);
  context.allow_tf32 = options.precision == "tf32";
  Stepper stepper(options);
  say(options.first ? stepper.output() : stepper.describe());
  if (options.steps > 0) {
    say(stepper.steps(options.steps));
    return;
  }
  for (std::string line; std::getline(std::cin, line);) say(answer(stepper, line));
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  graft::Options o;
  CLI::App app("Steps of a network, taken when asked: graft's side of tools/bench");
  app.add_option("--model", o.model, "A network by name")->capture_default_str();
  app.add_option("--work", o.work)
      ->check(CLI::IsMember({"inference", "training", "head", "finetune"}))
      ->capture_default_str();
  app.add_option("--train", o.train, "Patterns of the layers that finetune trains")->delimiter(',');
  app.add_option("--weights", o.weights, "A network file to start from, instead of --model");
  app.add_option("--device", o.device, "cpu, cuda[:N], emulated")->capture_default_str();
  app.add_option("--engine", o.engine)->check(CLI::IsMember({"auto", "native", "library"}))->capture_default_str();
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"f32", "tf32", "bf16"}))->capture_default_str();
  app.add_option("--batch", o.batch)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--size", o.size, "Height and width; the network's usual ones if not given");
  app.add_option("--alpha", o.alpha, "MobileNet's width multiplier")->capture_default_str();
  app.add_option("--steps", o.steps, "Step so often, say how long it took, and end");
  app.add_option("--warmup", o.warmup, "Steps before the first that counts")->capture_default_str();
  app.add_option("--threads", o.threads, "Of the CPU; all cores if not given");
  app.add_flag("--eager", o.eager, "Op by op, without a plan");
  app.add_flag("--captured", o.captured, "On a GPU: record a step once and replay it");
  app.add_flag("--cached", o.cached, "In head and finetune: compute what is frozen once");
  std::optional<graft::OwnChoices> choices;
  app.add_flag_callback(
      "--tuned", [&] { choices.emplace(); }, "Measure anew which kernel is the fastest, at the first step of a shape");
  app.add_flag("--first", o.first, "Say the logits first, and count nothing");
  CLI11_PARSE(app, argc, argv);
  try {
    graft::serve(o);
  } catch (const std::exception& error) {
    graft::say({{"error", error.what()}});
    return 1;
  }
}
