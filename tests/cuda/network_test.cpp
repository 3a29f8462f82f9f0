#include "graft/nn/network.h"

#include <cmath>
#include <cstdlib>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/core/context.h"
#include "graft/core/error.h"
#include "graft/nn/layers.h"
#include "graft/ops/loss.h"
#include "graft/optim/optimizer.h"

#include "kernels/registry.h"
#include "support/op_check.h"

namespace graft {
namespace {

// One of each kind of layer that a convolutional network has: convolutions with and without stride and bias, one of
// them depthwise, batch-norms, both poolings, a shortcut, dropout, and two dense layers.
nn::Network every_kind_of_layer() {
  nn::Builder b({.height = 9, .width = 9, .channels = 3, .name = "every_kind"});
  auto x = b.add("conv1", nn::Conv2d({.out = 6, .kernel = 3, .padding = kSame, .bias = false}), b.input());
  x = b.add("conv1_bn", nn::BatchNorm(), x);
  x = b.add("conv1_relu", nn::Activate(Activation::relu), x);
  const auto shortcut = b.add("max_pool", nn::MaxPool({.kernel = 2}), x);
  x = b.add("depthwise", nn::DepthwiseConv2d({.kernel = 3, .padding = kSame}), shortcut);
  x = b.add("depthwise_bn", nn::BatchNorm(), x);
  x = b.add("pointwise", nn::Conv2d({.out = 6, .kernel = 1, .activation = Activation::relu}), x);
  x = b.add("add", nn::Add(), std::vector{shortcut, x});
  x = b.add("strided", nn::Conv2d({.out = 10, .kernel = 3, .stride = 2, .padding = kSame}), x);
  x = b.add("average_pool", nn::AveragePool({.kernel = 2, .stride = 1}), x);
  x = b.add("pool", nn::GlobalAveragePool(), x);
  x = b.add("hidden", nn::Linear({.out = 7, .activation = Activation::relu}), x);
  x = b.add("dropout", nn::Dropout({.rate = 0.25}), x);
  return b.build(b.add("predictions", nn::Linear({.out = 3, .softmax = true}), x));
}

struct Trained {
  std::vector<double> losses;
  std::map<std::string, Tensor> values;  // parameters and statistics, on the CPU
};

// A few steps from the same first values with the same pictures and dropout masks.
Trained train(Device device, DType compute, const optim::OptimizerOptions& options, int steps) {
  ContextScope scope;
  scope->engine = Engine::native;
  scope->generator = {.seed = 11};
  nn::Network network = every_kind_of_layer();
  network.seed = 5;
  if (compute == DType::f64) network.set_parameter_dtype(DType::f64);
  network.materialize();
  network.to(device);
  optim::Group group;
  for (nn::Parameter* parameter : network.trainable_parameters())
    group.parameters.push_back({parameter->name, parameter->value});
  optim::Optimizer optimizer(options, {group});
  const Tensor images = test::random_normal({4, 9, 9, 3}, 2).to(compute).to(device),
               labels = Tensor::from<std::int64_t>({4}, {0, 2, 1, 2}).to(device);
  Trained result;
  for (int step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    const Tensor logits = network.run(images, {.training = true}).logits;
    const Tensor loss = ops::softmax_cross_entropy(logits, labels, {.label_smoothing = 0.1});
    autograd::backward(loss);
    optimizer.step();
    result.losses.push_back(loss.item());
  }
  for (nn::Parameter* parameter : network.parameters())
    result.values[parameter->name] = parameter->value.to(Device{}).to(DType::f64);
  return result;
}

void expect_near(const Trained& got, const Trained& want, double tolerance) {
  for (std::size_t i = 0; i < want.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], want.losses[i], tolerance) << "loss of step " << i;
  for (const auto& [name, value] : want.values) {
    const Tensor& other = got.values.at(name);
    for (Index i = 0; i < value.elements(); ++i)
      ASSERT_NEAR(other.data<double>()[i], value.data<double>()[i], tolerance) << name << ", element " << i;
  }
}

const optim::OptimizerOptions kSgd{
    .algorithm = optim::Algorithm::sgd, .learning_rate = 0.1, .weight_decay = 1e-3, .momentum = 0.9, .clip_norm = 1};

// The tests of devices loop over those that there are, and must not pass because there is none.
TEST(Devices, HaveTheEmulatedOneWhereItIsBuilt) {
  if (std::getenv("GRAFT_TEST_DEVICES") != nullptr) GTEST_SKIP() << "GRAFT_TEST_DEVICES names the devices";
  bool found = false;
  for (const Device device : test::devices()) found = found || device.kind == Device::Kind::emulated;
  EXPECT_EQ(found, kernels::built().emulated);
}

// Whichever GPU the thread is at, kernels run on the network's.
TEST(SecondGpu, TrainsAsTheFirst) {
  const Device first{Device::Kind::cuda, 0}, second{Device::Kind::cuda, 1};
  try {
    Stream::create(second);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  expect_near(train(second, DType::f32, kSgd, 3), train(first, DType::f32, kSgd, 3), 2e-5);
}

// In f64 nothing but the order of sums differs, so the whole of a step is held to the last digits.
TEST(NetworkOnADevice, TrainsAsOnTheCpu) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    expect_near(train(device, DType::f64, kSgd, 3), train({}, DType::f64, kSgd, 3), 1e-12);
    expect_near(train(device, DType::f32, kSgd, 3), train({}, DType::f32, kSgd, 3), 2e-5);
  }
}

// Adam divides by the root of a mean of squares, which makes roundings of tiny gradients large: f64 alone.
TEST(NetworkOnADevice, TrainsWithAdam) {
  const optim::OptimizerOptions adamw{
      .algorithm = optim::Algorithm::adamw, .learning_rate = 1e-2, .weight_decay = 1e-2, .epsilon = 1e-3};
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    expect_near(train(device, DType::f64, adamw, 3), train({}, DType::f64, adamw, 3), 1e-11);
  }
}

TEST(NetworkOnADevice, TrainsInHalves) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    const Trained exact = train({}, DType::f32, kSgd, 3);
    expect_near(train(device, DType::bf16, kSgd, 3), exact, 0.05);
    expect_near(train(device, DType::f16, kSgd, 3), exact, 0.01);
  }
}

// What is cut off and what is grafted on stay where the network is.
TEST(NetworkOnADevice, CutsAndGraftsThere) {
  for (const Device device : test::devices()) {
    nn::Network network = every_kind_of_layer();
    network.to(device);
    const Tensor image = test::random_normal({1, 9, 9, 3}, 2).to(DType::f32);
    EXPECT_EQ(network.cut("max_pool").device(), device);
    EXPECT_EQ(network.cut("max_pool")(image).device(), device);
    network.graft({.classes = 4, .cut = "average_pool"});
    EXPECT_EQ(network(image).device(), device);
    for (const nn::Parameter* parameter : network.parameters())
      EXPECT_EQ(parameter->value.device(), device) << parameter->name;
  }
}

// The same numbers twice: no sum depends on who comes first.
TEST(NetworkOnADevice, IsDeterministic) {
  for (const Device device : test::devices()) {
    const Trained one = train(device, DType::f32, kSgd, 2), two = train(device, DType::f32, kSgd, 2);
    EXPECT_EQ(one.losses, two.losses);
    expect_near(one, two, 0);
  }
}

TEST(DeviceNetwork, AHeadGrowsWhereTheBackboneIs) {
  for (const Device device : test::devices()) {
    nn::Network network = every_kind_of_layer();
    network.to(device);
    nn::Network part = network.cut("pool");
    EXPECT_EQ(part.device(), device);
    part.graft({.classes = 2, .cut = "pool"});
    EXPECT_EQ(part.device(), device);
    EXPECT_EQ(part.run(Tensor::full({1, 9, 9, 3}, 0.5)).output.device(), device);
  }
}

}  // namespace
}  // namespace graft
