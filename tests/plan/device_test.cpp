#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "graft/nn/layers.h"
#include "graft/plan/plan.h"

#include "plan/support.h"
#include "runtime/launches.h"
#include "support/op_check.h"

namespace graft::plan {
namespace {

using test::difference;
using test::random_normal;

// What planners change: zeros before a convolution, norms, a sum, concatenations within each other, and a view.
nn::Network branches() {
  nn::Builder b({.height = 9, .width = 9});
  const auto relu = [](const char*) { return nn::Activate(Activation::relu); };
  auto x = b.add("pad", nn::ZeroPad(pad(1)), b.input());
  x = b.add("conv", nn::Conv2d({.out = 16, .kernel = 3, .stride = 2, .bias = false}), x);
  x = b.add("conv_bn", nn::BatchNorm(), x);
  x = b.add("conv_relu", relu("conv"), x);
  auto y = b.add("branch1", nn::Conv2d({.out = 16, .kernel = 3, .padding = kSame}), x);
  y = b.add("branch1_bn", nn::BatchNorm(), y);
  y = b.add("sum", nn::Add(), {y, x});
  y = b.add("sum_relu", relu("sum"), y);
  auto z = b.add("branch2", nn::DepthwiseConv2d({.kernel = 3, .padding = kSame, .activation = Activation::relu6}), x);
  const auto inner = b.add("inner", nn::Concat(), {z, y});
  const auto pool = b.add("pool", nn::MaxPool({.kernel = 3, .padding = kSame}), x);
  x = b.add("outer", nn::Concat(), {pool, inner});
  x = b.add("mean", nn::GlobalAveragePool(true), x);
  x = b.add("flat", nn::Flatten(), x);
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 10, .softmax = true}), x));
  test::randomize(network);
  return network;
}

struct Numbers {
  std::vector<Tensor> results;
  std::map<std::string, Tensor> parameters;  // gradients and statistics
};

Numbers train(nn::Network& network, Device device, const Tensor& input, const Tensor& labels) {
  network.to(device);
  network.use_statistics(nn::Statistics::batch);
  const TrainingPlan plan = compile_training(network, input.shape());
  Numbers numbers;
  for (int step = 0; step < 2; ++step) {
    const auto result = plan.run({{{"input", input.to(device)}}, labels.to(device), {}, {}});
    numbers.results = {result.loss, result.logits};
  }
  for (nn::Parameter* parameter : network.parameters())
    numbers.parameters[parameter->name] = parameter->is_statistic ? parameter->value : parameter->value.grad();
  return numbers;
}

// On a device the first run computes, the second one records, the others replay.
TEST(DevicePlan, ComputesWhatTheCpuDoes) {
  const Tensor labels = Tensor::from<std::int64_t>({2}, {3, 8});
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network here = branches(), there = branches();
    there.to(device);
    const Plan reference = compile(here, {2, 9, 9, 3}), plan = compile(there, {2, 9, 9, 3});
    for (std::uint64_t run = 0; run < 4; ++run) {
      const Tensor input = random_normal({2, 9, 9, 3}, run).to(DType::f32);
      EXPECT_LT(difference(plan.run(input).front(), reference.run(input).front()), 1e-5) << "run " << run;
    }
    {  // other kernels than those recorded: TF32 reads fewer bits
      const Tensor input = random_normal({2, 9, 9, 3}, 0).to(DType::f32);
      const Tensor exact = plan.run(input).front();
      ContextScope scope;
      scope->allow_tf32 = true;
      EXPECT_GT(difference(plan.run(input).front(), exact), 1e-7);
      EXPECT_LT(difference(plan.run(input).front(), exact), 1e-2);
      scope->allow_tf32 = false;
      EXPECT_EQ(difference(plan.run(input).front(), exact), 0);
    }
    const Tensor input = random_normal({2, 9, 9, 3}, 9).to(DType::f32);
    const Numbers want = train(here, {}, input, labels), got = train(there, device, input, labels);
    for (std::size_t i = 0; i < 2; ++i) EXPECT_LT(difference(got.results[i], want.results[i]), 1e-5);
    for (const auto& [name, numbers] : want.parameters) {
      if (name == "branch1/bias") continue;  // before a norm: its gradient is zero but for rounding
      EXPECT_LT(difference(got.parameters.at(name), numbers), 1e-4) << name;
    }
  }
}

// A convolution leaves its tiles with the sums that the norm behind it needs; on the CPU the two are steps of their
// own.
TEST(DevicePlan, JoinsConvolutionsAndNormsInTraining) {
  const auto joined = [](Device device) {
    nn::Network network = branches();
    network.to(device);
    network.use_statistics(nn::Statistics::batch);
    std::vector<std::string> layers;
    const TrainingPlan plan = compile_training(network, {2, 9, 9, 3});
    for (const Step& step : plan.steps()) {
      if (step.op == "conv2d_batch_norm") layers.push_back(fmt::format("{}", fmt::join(step.layers, " ")));
    }
    return layers;
  };
  EXPECT_TRUE(joined({}).empty());
  for (const Device device : test::devices()) {
    const std::vector<std::string> want{"pad conv conv_bn conv_relu", "branch1 branch1_bn sum sum_relu"};
    EXPECT_EQ(joined(device), want) << device.to_string();
  }
}

// The slopes of activations behind norms are found on the way, behind a sum too.
TEST(DevicePlan, NormsTakeActivationAndSumAlongInBackward) {
  nn::Builder b({.height = 6, .width = 6});
  auto x = b.add("first", nn::Conv2d({.out = 8, .kernel = 3}), b.input());
  x = b.add("first_bn", nn::BatchNorm(), x);
  x = b.add("first_relu", nn::Activate(Activation::relu), x);
  auto y = b.add("second", nn::Conv2d({.out = 8, .kernel = 3, .padding = kSame}), x);
  y = b.add("second_bn", nn::BatchNorm(), y);
  x = b.add("sum", nn::Add(), {y, x});
  x = b.add("sum_relu", nn::Activate(Activation::relu), x);
  x = b.add("mean", nn::GlobalAveragePool(), x);
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 10, .softmax = true}), x));
  test::randomize(network);
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    ContextScope scope;
    scope->engine = Engine::native;
    reset_launch_counts();
    train(network, device, random_normal({2, 6, 6, 3}, 9).to(DType::f32), Tensor::from<std::int64_t>({2}, {3, 8}));
    EXPECT_EQ(launch_counts().count("activation_backward"), 0u);
  }
}

// Plans of one network in both halves share its weights, and each has a copy of them in its type.
TEST(DevicePlan, BothHalvesHaveTheirWeights) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network network = branches();
    network.to(device);
    const Tensor input = random_normal({2, 9, 9, 3}, 1);
    std::map<DType, Plan> plans;
    std::map<DType, Tensor> first;
    for (const DType type : {DType::bf16, DType::f16})
      plans.emplace(type, compile(network, input.shape(), {.dtype = type, .given = {}}));
    for (int time = 0; time < 4; ++time) {
      for (const auto& [type, plan] : plans) {
        const Tensor got = plan.run(input.to(type)).front();
        if (time == 0) first[type] = got;
        EXPECT_EQ(difference(got, first.at(type)), 0) << name(type) << ", run " << time;
      }
    }
  }
}

TEST(DevicePlan, IsReplayedUnlessEachKernelIsWaitedFor) {
  ContextScope scope;
  scope->engine = Engine::native;  // whose kernels have the names of ops
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network network = branches();
    network.to(device);
    const Tensor input = random_normal({2, 9, 9, 3}, 1).to(DType::f32).to(device);
    const Plan plan = compile(network, input.shape());
    for (int time = 0; time < 2; ++time) plan.run(input);
    reset_launch_counts();
    plan.run(input);
    EXPECT_TRUE(launch_counts().empty());
    setenv("GRAFT_CUDA_WAIT", "1", 1);
    plan.run(input);
    unsetenv("GRAFT_CUDA_WAIT");
    EXPECT_EQ(launch_counts().count("linear"), 1u);
  }
}

// Such a run writes elsewhere.
TEST(DevicePlan, IsRecordedAfterARunThatIsObserved) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network network = branches();
    network.to(device);
    const Tensor input = random_normal({2, 9, 9, 3}, 1).to(DType::f32).to(device);
    const Plan plan = compile(network, input.shape());
    const Tensor first = plan.run(input).front();
    plan.run({{"input", input}}, [](const Step&, double) {});
    for (int time = 0; time < 2; ++time) EXPECT_EQ(difference(plan.run(input).front(), first), 0);
  }
}

}  // namespace
}  // namespace graft::plan
