// LibTorch's side of a comparison, from C++: the commands of benchmarks/model_step.cpp, which says what they are.
//
//   libtorch_step --weights=resnet50.safetensors --work=training --precision=bf16 --batch=16
//
// The network is the one of the file, run in eager mode, channels last; with --script=FILE a TorchScript module,
// frozen, which benchmarks/peers/export.py makes. bf16 means bf16 weights in inference and autocast in training. With
// --cached what is frozen is computed once, as an expert would do it by hand. With --first the first line is the logits
// and nothing is counted.
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>

#include <ATen/autocast_mode.h>
#include <sys/resource.h>
#include <torch/script.h>
#include <torch/torch.h>

#include "command_line.h"
#include "network.h"

namespace peer {
namespace {

// Element i is a hash of i, from -1 to 1, numbered NHWC: the input of all peers.
at::Tensor peer_input(std::int64_t batch, std::int64_t image) {
  at::Tensor tensor = at::empty({batch, image, image, 3});
  float* values = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const std::uint32_t hash = static_cast<std::uint32_t>(i) * 2654435761u;
    values[i] = static_cast<float>(hash >> 8) * 0x1p-23f - 1;
  }
  return tensor.permute({0, 3, 1, 2});
}

// Autocast to bf16 for as long as it lives.
class Autocast {
 public:
  explicit Autocast(bool on) : on_(on) {
    if (!on_) return;
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCPU, true);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  ~Autocast() {
    if (!on_) return;
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();
  }

 private:
  bool on_;
};

class Stepper {
 public:
  explicit Stepper(const Options& options)
      : options_(options), training_(options.at("work") != "inference"), half_(options.at("precision") == "bf16") {
    if (options_.at("precision") == "tf32") throw std::runtime_error("a CPU has no TF32");
    const at::ScalarType dtype = half_ && !training_ ? at::kBFloat16 : at::kFloat;
    if (options_.contains("script"))
      load_script();
    else
      network_.emplace(options_.at("weights"), dtype);
    const std::int64_t image = network_ ? network_->image() : counts_.at("image").get<std::int64_t>();
    input_ = peer_input(std::stoll(options_.at("batch")), image).to(dtype);
    if (!training_) return;
    labels_ = at::arange(input_.size(0), at::kLong) % 1000;
    optimizer_.emplace(network_->trainable(), torch::optim::SGDOptions(1e-3).momentum(0.9));
    if (options_.contains("cached")) network_->keep_frozen(input_);
  }

  Json describe() {
    if (network_)
      counts_ = {{"image", network_->image()},
                 {"parameters", network_->parameters()},
                 {"product_flops", network_->product_operations(input_)}};
    Json about{{"peer", script_ ? "TorchScript" : "LibTorch"},
               {"version", TORCH_VERSION},
               {"model", options_.at("model")},
               {"work", options_.at("work")},
               {"precision", options_.at("precision")},
               {"batch", input_.size(0)}};
    about.update(counts_);
    return about;
  }

  Json output() {
    const c10::InferenceMode inference;
    const Autocast autocast(half_ && training_);
    const at::Tensor logits = forward(false).to(at::kFloat).contiguous();
    return {{"output", std::vector<float>(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel())}};
  }

  Json update() {
    const c10::InferenceMode off(false);
    std::vector<at::Tensor> before;
    for (const at::Tensor& parameter : network_->trainable()) before.push_back(parameter.detach().clone());
    step();
    double sum = 0;
    auto was = before.begin();
    for (const at::Tensor& parameter : network_->trainable())
      sum += (parameter.detach() - *was++).to(at::kDouble).square().sum().item<double>();
    return {{"loss", result_.item<double>()}, {"change", std::sqrt(sum)}};
  }

  Json steps(int count) {
    for (; warmup_ > 0; --warmup_) step();
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) step();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return {{"steps", count}, {"seconds", seconds.count()}, {"peak_bytes", usage.ru_maxrss << 10}};
  }

 private:
  // A script, and what it counts: for that its maker has left a file beside it.
  void load_script() {
    std::ifstream(options_.at("script") + ".json") >> counts_;
    script_ = torch::jit::load(options_.at("script"));
    script_->eval();
    script_ = torch::jit::freeze(*script_);  // optimize_for_inference made MobileNet twice as slow, ResNet50 no faster
  }

  at::Tensor forward(bool training) {
    return script_ ? script_->forward({input_}).toTensor() : network_->forward(input_, training);
  }

  void step() {
    if (!training_) {
      const c10::InferenceMode inference;
      result_ = forward(false);
      return;
    }
    optimizer_->zero_grad();
    {
      const Autocast autocast(half_);
      result_ = at::cross_entropy_loss(network_->forward(input_, true), labels_);
    }
    result_.backward();
    optimizer_->step();
    result_ = result_.detach();
  }

  Options options_;
  bool training_, half_;
  std::optional<Network> network_;
  Json counts_;
  at::Tensor input_, labels_, result_;
  std::optional<torch::jit::Module> script_;
  std::optional<torch::optim::SGD> optimizer_;
  int warmup_ = 5;
};

Json answer(Stepper& stepper, const std::string& line) {
  if (line == "output") return stepper.output();
  if (line == "update") return stepper.update();
  if (line.starts_with("steps ")) return stepper.steps(std::stoi(line.substr(6)));
  return {{"error", "expected output, update or steps N, got '" + line + "'"}};
}

void serve(const Options& options) {
  Stepper stepper(options);
  say(options.contains("first") ? stepper.output() : stepper.describe());
  for (std::string line; std::getline(std::cin, line);) say(answer(stepper, line));
}

}  // namespace
}  // namespace peer

int main(int argc, char** argv) {
  return peer::run_program(
      argc, argv,
      {{"model", ""}, {"work", "inference"}, {"precision", "f32"}, {"batch", "1"}, {"threads", "0"}, {"seed", "1"}},
      peer::serve);
}
