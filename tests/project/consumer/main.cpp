// What a project outside graft does with it: an op and a layer of its own in a network that is trained a step, saved
// and loaded.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "graft/autograd/backward.h"
#include "graft/autograd/gradient_check.h"
#include "graft/io/network_file.h"
#include "graft/models/models.h"
#include "graft/nn/layers.h"
#include "graft/nn/network.h"
#include "graft/ops/ops.h"

#include "softsign.h"

using graft::Tensor;

namespace {

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "consumer: expected %s\n", what);
  std::exit(1);
}

graft::nn::Network small_network() {
  graft::nn::Builder b({.height = 8, .width = 8, .channels = 3});
  auto x = b.add("conv", graft::nn::Conv2d({.out = 4, .kernel = 3, .padding = graft::kSame}), b.input());
  x = b.add("softsign", Softsign(), x);
  x = b.add("pool", graft::nn::GlobalAveragePool(), x);
  return b.build(b.add("head", graft::nn::Linear({.out = 2}), x));
}

void check_op() {
  const Tensor x = Tensor::from<double>({5}, {-3, -0.5, 0.25, 1, 4});
  const Tensor y = softsign(x);
  expect(y.values<double>()[0] == -0.75 && y.values<double>()[3] == 0.5, "x / (1 + |x|)");
  const auto report =
      graft::autograd::check_gradients([](std::span<const Tensor> in) { return softsign(in[0]); }, {{x}});
  expect(report.passed && report.compared == 5, report.to_string().c_str());
}

void check_network(const std::filesystem::path& file) {
  graft::nn::register_layer<Softsign>();
  graft::nn::Network network = small_network();
  network.materialize();
  const Tensor images = Tensor::full({2, 8, 8, 3}, 0.5);
  const Tensor before = network(images);
  graft::autograd::backward(graft::ops::mean(network.run(images, {.training = true}).output));
  expect(network.parameter("conv/weight").value.grad().defined(), "a gradient behind the op");

  graft::io::save_network(network, file);
  graft::nn::Network loaded = graft::io::load_network(file);
  const Tensor after = loaded(images);
  for (graft::Index i = 0; i < before.elements(); ++i) {
    expect(before.values<float>()[i] == after.values<float>()[i], "the same output from the saved network");
  }
}

void check_freezing() {
  graft::nn::Network network =
      graft::models::mobilenet({.include_top = false, .height = 64, .width = 64, .alpha = 0.25});
  network.freeze();                 // no gradients, moving statistics
  network.unfreeze("conv_pw_13*");  // by name or pattern
  network.graft({.classes = 7, .hidden = {32}, .dropout = 0.5});
  expect(!network.layer("conv1").trainable && network.layer("conv_pw_13").trainable, "the pattern to choose layers");

  const Tensor images = Tensor::full({1, 64, 64, 3}, 0.5);
  const auto result = network.run(images, {.training = true, .watch = {"conv_pw_11_relu"}});
  expect(result.watched.at("conv_pw_11_relu").shape() == graft::Shape{1, 4, 4, 128}, "an intermediate value by name");
  expect(result.output.shape() == graft::Shape{1, 7}, "seven classes");
}

void check_tape() {
  Tensor weight = Tensor::full({8, 16}, 0.1);
  Tensor bias = Tensor::zeros({8});
  weight.set_requires_grad(true);
  const Tensor x = Tensor::full({4, 16}, 1.0);
  const Tensor y = graft::ops::relu(graft::ops::linear(x, weight, bias));
  const Tensor loss = graft::ops::mean(y);
  graft::autograd::print_tape(std::cout, loss);
  expect(graft::autograd::tape(loss).size() == 3, "linear, relu and mean on the tape");
  graft::autograd::backward(loss);
  expect(weight.grad().shape() == weight.shape() && !bias.grad().defined(), "a gradient for the weight alone");
}

}  // namespace

int main(int, char** argv) {
  try {
    check_op();
    check_freezing();
    check_tape();
    check_network(std::filesystem::path(argv[0]).replace_extension(".safetensors"));
    std::puts("consumer: passed");
  } catch (const graft::Error& error) {
    std::fprintf(stderr, "consumer: %s\n", error.what());
    return 1;
  }
}
