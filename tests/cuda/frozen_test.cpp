// Frozen layers cost nothing in backward: no kernel is launched for the gradient of a weight that nobody wants, and
// nothing is kept for one. Kernels are counted by name, and the tape's bytes exactly.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/core/context.h"
#include "graft/nn/layers.h"
#include "graft/nn/network.h"
#include "graft/ops/loss.h"
#include "graft/plan/plan.h"

#include "runtime/launches.h"
#include "support/op_check.h"

namespace graft {
namespace {

using Launches = std::map<std::string, std::int64_t>;

constexpr Index kBatch = 2, kSize = 6, kPixels = kBatch * kSize * kSize, kChannels = 6, kFeatures = 6, kClasses = 3;

// A GPU where there is one to test, else the emulated device.
Device tested() { return test::devices().front(); }

// conv1 (without a bias) - bn1 - relu1 - depthwise - conv2 (with a bias and ReLU) - pool - head
nn::Network small_network() {
  nn::Builder b({.height = kSize, .width = kSize});
  auto x = b.add("conv1", nn::Conv2d({.out = kChannels, .kernel = 3, .padding = kSame, .bias = false}), b.input());
  x = b.add("bn1", nn::BatchNorm(), x);
  x = b.add("relu1", nn::Activate(Activation::relu), x);
  x = b.add("depthwise", nn::DepthwiseConv2d({.kernel = 3, .padding = kSame, .bias = false}), x);
  x = b.add("conv2", nn::Conv2d({.out = kFeatures, .kernel = 1, .activation = Activation::relu}), x);
  x = b.add("pool", nn::GlobalAveragePool(), x);
  return b.build(b.add("head", nn::Linear({.out = kClasses, .softmax = true}), x));
}

// Since the last reset, but for fills, which are a kernel on a GPU alone.
Launches launches() {
  Launches all = launch_counts();
  all.erase("fill");
  return all;
}

std::vector<std::string> with_gradient(nn::Network& network) {
  std::vector<std::string> names;
  for (const nn::Parameter* parameter : network.parameters()) {
    if (parameter->value.grad().defined()) names.push_back(parameter->name);
  }
  return names;
}

struct Examples {
  Tensor images = test::random_normal({kBatch, kSize, kSize, 3}, 2).to(DType::f32).to(tested());
  Tensor labels = Tensor::from<std::int64_t>({kBatch}, {0, 2}).to(tested());
};

struct Step {
  Launches forward, backward;
  std::size_t saved = 0;
  std::vector<std::string> gradients;  // of which parameters
};

Step step_of(nn::Network network) {
  ContextScope scope;
  scope->engine = Engine::native;
  network.to(tested());
  const Examples examples;
  network.materialize();
  Step step;
  reset_launch_counts();
  const Tensor loss =
      ops::softmax_cross_entropy(network.run(examples.images, {.training = true}).logits, examples.labels);
  step.forward = launches();
  step.saved = autograd::saved_bytes(loss);
  reset_launch_counts();
  autograd::backward(loss);
  step.backward = launches();
  synchronize(tested());
  step.gradients = with_gradient(network);
  return step;
}

// The same step as finetune runs it: one TrainingPlan.
struct PlannedStep {
  Launches launches;
  std::size_t memory = 0;
  std::vector<std::string> gradients;
};

PlannedStep planned_step_of(nn::Network network) {
  ContextScope scope;
  scope->engine = Engine::native;
  network.materialize();
  network.to(tested());
  const Examples examples;
  const plan::TrainingPlan plan = plan::compile_training(network, examples.images.shape());
  PlannedStep step;
  step.memory = plan.memory();
  reset_launch_counts();
  plan.run({{{network.nodes().front().name, examples.images}}, examples.labels, {}, {}});
  step.launches = launches();
  synchronize(tested());
  step.gradients = with_gradient(network);
  return step;
}

std::size_t memory_of_inference(nn::Network network) {
  network.materialize();
  return plan::compile(network, {kBatch, kSize, kSize, 3}).memory();
}

constexpr std::size_t floats(Index count) { return static_cast<std::size_t>(count) * sizeof(float); }

constexpr std::size_t kLoss =  // what the loss keeps: logits, labels, and the logarithm of each row's sum
    floats(kBatch * kClasses) + kBatch * sizeof(std::int64_t) + floats(kBatch);
constexpr std::size_t kHeadInput = floats(kBatch * kFeatures), kHeadWeight = floats(kClasses * kFeatures);
constexpr std::size_t kConv2Input = floats(kPixels * kChannels), kConv2Output = floats(kPixels * kFeatures),
                      kConv2Weight = floats(kFeatures * kChannels);
constexpr std::size_t kDepthwiseWeight = floats(9 * kChannels);
constexpr std::size_t kRelu1Output = floats(kPixels * kChannels);
constexpr std::size_t kBn1Input = floats(kPixels * kChannels), kOneAChannel = floats(kChannels);
constexpr std::size_t kImages = floats(kPixels * 3);

// A sum over rows is two launches of one name: the parts, and their sum.
const Launches kFrozenForward{{"activation", 1}, {"batch_norm_moving", 1}, {"conv2d", 2},  {"depthwise_conv2d", 1},
                              {"linear", 1},     {"mean_loss", 2},         {"softmax", 1}, {"softmax_cross_entropy", 1},
                              {"sum_to", 2}};

class Frozen : public ::testing::Test {
 protected:
  void SetUp() override {
    if (test::devices().empty()) GTEST_SKIP() << "no device beside the CPU";
    network_.freeze();
  }

  nn::Network network_ = small_network();
};

TEST_F(Frozen, BackboneUnderANewHead) {
  network_.unfreeze("head");
  const Step step = step_of(network_);
  EXPECT_EQ(step.backward,
            (Launches{{"softmax_cross_entropy_backward", 1}, {"linear_backward_weight", 1}, {"sum_rows", 2}}));
  EXPECT_EQ(step.forward, kFrozenForward);
  EXPECT_EQ(step.saved, kLoss + kHeadInput);
  EXPECT_THAT(step.gradients, testing::ElementsAre("head/weight", "head/bias"));
}

TEST_F(Frozen, All) {
  ContextScope scope;
  network_.to(tested());
  const Tensor images = Tensor::zeros({kBatch, kSize, kSize, 3}, DType::f32, tested());
  const Tensor logits = network_.run(images, {.training = true}).logits;
  EXPECT_EQ(logits.producer(), nullptr) << "something was recorded";
}

TEST_F(Frozen, AllButTheLastConvolution) {
  network_.unfreeze("conv2");
  const Step step = step_of(network_);
  // The head's own weight is read for its input's gradient, but its input is not kept.
  EXPECT_EQ(step.backward, (Launches{{"softmax_cross_entropy_backward", 1},
                                     {"linear_backward_input", 1},
                                     {"average_pool_backward", 1},
                                     {"activation_backward", 1},
                                     {"conv2d_backward_weight", 1},
                                     {"sum_rows", 2}}));
  EXPECT_EQ(step.saved, kLoss + kHeadWeight + kConv2Output + kConv2Input);
  EXPECT_THAT(step.gradients, testing::ElementsAre("conv2/weight", "conv2/bias"));
}

TEST_F(Frozen, AllButTheFirstConvolution) {
  network_.unfreeze("conv1");
  const Step step = step_of(network_);
  // The frozen layers behind it pass the gradient on: of what they read, only weights and results of ReLUs are kept.
  EXPECT_EQ(step.forward, kFrozenForward);
  EXPECT_EQ(step.backward, (Launches{{"softmax_cross_entropy_backward", 1},
                                     {"linear_backward_input", 1},
                                     {"average_pool_backward", 1},
                                     {"activation_backward", 2},
                                     {"conv2d_backward_input", 1},
                                     {"depthwise_conv2d_backward_input", 1},
                                     {"batch_norm_moving_backward", 1},
                                     {"conv2d_backward_weight", 1}}));
  EXPECT_EQ(step.saved, kLoss + kHeadWeight + kConv2Output + kConv2Weight + kDepthwiseWeight + kRelu1Output +
                            3 * kOneAChannel + kImages);  // gamma, moving mean and variance
  EXPECT_THAT(step.gradients, testing::ElementsAre("conv1/weight"));
}

TEST_F(Frozen, AllButABatchNorm) {
  network_.unfreeze("bn1");
  const Step step = step_of(network_);
  EXPECT_EQ(step.forward, kFrozenForward) << "the statistics stay";
  EXPECT_EQ(step.backward, (Launches{{"softmax_cross_entropy_backward", 1},
                                     {"linear_backward_input", 1},
                                     {"average_pool_backward", 1},
                                     {"activation_backward", 2},
                                     {"conv2d_backward_input", 1},
                                     {"depthwise_conv2d_backward_input", 1},
                                     {"batch_norm_moving_backward", 2}}));
  EXPECT_EQ(step.saved, kLoss + kHeadWeight + kConv2Output + kConv2Weight + kDepthwiseWeight + kRelu1Output +
                            kBn1Input + 2 * kOneAChannel);
  EXPECT_THAT(step.gradients, testing::ElementsAre("bn1/gamma", "bn1/beta"));
}

TEST_F(Frozen, Nothing) {
  network_.unfreeze("*");
  network_.use_statistics(nn::Statistics::batch);
  const Step step = step_of(network_);
  EXPECT_EQ(step.forward, (Launches{{"activation", 1},
                                    {"batch_norm", 1},
                                    {"batch_norm_moments", 2},
                                    {"conv2d", 2},
                                    {"depthwise_conv2d", 1},
                                    {"linear", 1},
                                    {"mean_loss", 2},
                                    {"softmax", 1},
                                    {"softmax_cross_entropy", 1},
                                    {"sum_to", 2}}));
  EXPECT_EQ(step.backward, (Launches{{"softmax_cross_entropy_backward", 1},
                                     {"linear_backward_input", 1},
                                     {"linear_backward_weight", 1},
                                     {"average_pool_backward", 1},
                                     {"activation_backward", 2},
                                     {"conv2d_backward_input", 1},  // of conv2: the images want no gradient
                                     {"conv2d_backward_weight", 2},
                                     {"depthwise_conv2d_backward_input", 1},
                                     {"depthwise_conv2d_backward_weight", 2},
                                     {"batch_norm_backward", 3},
                                     {"sum_rows", 4}}));
  // Weights that get gradients are not the tape's; what ReLU gives is what depthwise reads.
  EXPECT_EQ(step.saved,
            kLoss + kHeadInput + kConv2Output + kConv2Input + kRelu1Output + kBn1Input + 2 * kOneAChannel + kImages);
}

// What a plan runs of a frozen convolution with its norm and ReLU is one kernel; a softmax that nobody reads, none.
const Launches kPlannedForward{{"conv2d", 2},    {"depthwise_conv2d", 1},
                               {"linear", 1},    {"softmax_cross_entropy", 1},
                               {"mean_loss", 2}, {"sum_to", 2}};

Launches planned(const Launches& backward) {
  Launches all = kPlannedForward;
  all.insert(backward.begin(), backward.end());
  return all;
}

TEST_F(Frozen, BackboneUnderANewHeadInAPlan) {
  network_.unfreeze("head");
  const std::size_t of_inference = memory_of_inference(network_);
  const PlannedStep step = planned_step_of(network_);
  EXPECT_EQ(step.launches,
            planned({{"softmax_cross_entropy_backward", 1}, {"linear_backward_weight", 1}, {"sum_rows", 2}}));
  EXPECT_THAT(step.gradients, testing::ElementsAre("head/weight", "head/bias"));
  EXPECT_LT(step.memory, of_inference + kConv2Input) << "an image of the backbone was kept";
}

TEST_F(Frozen, AllButTheLastConvolutionInAPlan) {
  network_.unfreeze("conv2");
  const PlannedStep step = planned_step_of(network_);
  EXPECT_EQ(step.launches, planned({{"softmax_cross_entropy_backward", 1},
                                    {"linear_backward_input", 1},
                                    {"average_pool_backward", 1},
                                    {"activation_backward", 1},
                                    {"conv2d_backward_weight", 1},
                                    {"sum_rows", 2}}));
  EXPECT_THAT(step.gradients, testing::ElementsAre("conv2/weight", "conv2/bias"));
}

TEST_F(Frozen, NothingInAPlan) {
  network_.unfreeze("head");
  const std::size_t of_head = planned_step_of(network_).memory;
  network_.unfreeze("*");
  const PlannedStep step = planned_step_of(network_);
  EXPECT_EQ(step.launches.at("conv2d_backward_weight"), 2);
  EXPECT_EQ(step.launches.at("depthwise_conv2d_backward_weight"), 2);
  EXPECT_GT(step.memory, of_head + 2 * kConv2Input);
}

}  // namespace
}  // namespace graft
