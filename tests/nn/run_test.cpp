#include <gtest/gtest.h>

#include "graft/autograd/backward.h"

#include "nn/networks.h"
#include "support/expect.h"

namespace graft::nn {
namespace {

using test::same_bits;
using test::small_images;
using test::small_network;

TEST(Run, LogitsAreWhatTheSoftmaxReads) {
  Network network = small_network();
  const RunResult result = network.run(small_images());
  const float* logits = result.logits.data<float>();
  const float* output = result.output.data<float>();
  const double sum = std::exp(logits[0]) + std::exp(logits[1]) + std::exp(logits[2]);
  EXPECT_NEAR(output[1], std::exp(logits[1]) / sum, 1e-6);
}

TEST(Run, ContinuesFromGivenValues) {
  Network network = small_network();
  const RunResult whole = network.run(small_images(), {.watch = {"pool", "conv1_relu"}});
  EXPECT_TRUE(same_bits(network.run({}, {.given = {{"pool", whole.watched.at("pool")}}}).output, whole.output));
  // The shortcut and the convolution both start from the given value.
  int convolutions = 0;
  const RunResult rest = network.run(
      {}, {.given = {{"conv1_relu", whole.watched.at("conv1_relu")}},
           .observe = [&](const Program::Call& call, auto, double) { convolutions += call.op->name() == "conv2d"; }});
  EXPECT_TRUE(same_bits(rest.output, whole.output));
  EXPECT_EQ(convolutions, 1);
  EXPECT_ERROR(network.run({}), "given neither an input nor values");
}

TEST(Run, StopsWhereItIsTold) {
  Network network = small_network();
  std::vector<std::string> ran;
  const RunResult result = network.run(
      small_images(),
      {.until = {"conv1_relu"}, .observe = [&](const Program::Call& call, auto, double) { ran.push_back(call.node); }});
  EXPECT_EQ(ran, (std::vector<std::string>{"conv1", "conv1_bn", "conv1_relu"}));
  EXPECT_EQ(result.output.shape(), Shape({2, 8, 8, 4}));
}

// What Grad-CAM needs: d(score)/d(activation) although every weight is frozen.
TEST(Run, AFrozenNetworksActivationCanBeALeaf) {
  Network network = small_network();
  network.freeze();
  const RunResult result = network.run(small_images(1), {.watch = {"add"}, .leaves = {"add"}});
  const Tensor leaf = result.watched.at("add");
  autograd::backward(result.logits, {.seed = Tensor::from<float>({1, 3}, {1, 0, 0})});
  // The head is linear behind a mean: the gradient is the class's weights over the number of pixels.
  const float* gradient = leaf.grad().data<float>();
  const float* weights = network.parameter("predictions/weight").value.data<float>();
  for (int c = 0; c < 4; ++c) EXPECT_NEAR(gradient[c], weights[c] / 64, 1e-7);
}

TEST(Run, BatchStatisticsUpdateInTrainingOnly) {
  Network network = small_network();
  network.materialize();
  const Tensor mean = network.parameter("conv1_bn/moving_mean").value.clone();
  network.run(small_images());
  EXPECT_TRUE(same_bits(network.parameter("conv1_bn/moving_mean").value, mean));
  network.run(small_images(), {.training = true});
  EXPECT_FALSE(same_bits(network.parameter("conv1_bn/moving_mean").value, mean));
}

TEST(Run, HalfPrecisionStaysClose) {
  Network network = small_network();
  const Tensor x = small_images(3);
  const Tensor full = network(x), half = network(x.to(DType::bf16)).to(DType::f32);
  for (Index i = 0; i < full.elements(); ++i) EXPECT_NEAR(half.data<float>()[i], full.data<float>()[i], 0.02);
}

TEST(Run, DoublePrecisionNeedsDoubleParameters) {
  Network network = small_network();
  network.set_parameter_dtype(DType::f64);
  const RunResult result = network.run(small_images().to(DType::f64), {.training = true});
  autograd::backward(result.logits, {.seed = Tensor::full(result.logits.shape(), 1, DType::f64)});
  EXPECT_EQ(network.parameter("conv1/weight").value.grad().dtype(), DType::f64);
}

TEST(Run, ErrorsNameTheLayer) {
  Network network = small_network();
  EXPECT_ERROR(network.run(Tensor::zeros({1, 8, 8, 4})), "layer 'conv1'");
  EXPECT_ERROR(network.run(Tensor::zeros({8, 8, 3})), "expects inputs [0, 8, 8, 3], got [8, 8, 3]");
  EXPECT_ERROR(network.run(small_images(), {.watch = {"nothing"}}), "'small' has no layer 'nothing'");
}

}  // namespace
}  // namespace graft::nn
