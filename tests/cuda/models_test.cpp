#include "graft/models/models.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/core/context.h"
#include "graft/ops/loss.h"
#include "graft/optim/optimizer.h"
#include "graft/plan/plan.h"

#include "support/op_check.h"

namespace graft {
namespace {

struct Model {
  const char* name;
  models::Options options;
};

struct Step {
  double loss = 0;
  std::map<std::string, Tensor> gradients, statistics, updated;  // on the CPU
};

enum class By { tape, plan };

// One training step from the same first values: forward, backward to every parameter, and their update. Beside
// activations in halves parameters are f32.
Step step_of(const Model& model, By by, Device device, DType dtype, ops::Statistics statistics) {
  ContextScope scope;
  scope->engine = Engine::native;
  scope->generator = {.seed = 3};
  nn::Network network = models::make(model.name, model.options);
  network.seed = 5;
  network.set_parameter_dtype(dtype == DType::f64 ? DType::f64 : DType::f32);
  network.use_statistics(statistics);
  network.materialize();
  network.to(device);
  const Tensor images = test::random_normal({2, model.options.height, model.options.width, 3}, 2).to(dtype),
               labels = Tensor::from<std::int64_t>({2}, {1, 3});
  Step step;
  if (by == By::plan) {
    const plan::TrainingPlan plan = plan::compile_training(network, images.shape(), {.dtype = dtype, .given = {}});
    step.loss = plan.run({{{network.nodes().front().name, images}}, labels, {}, {}}).loss.item();
  } else {
    const Tensor loss = ops::softmax_cross_entropy(network.run(images, {.training = true}).logits, labels);
    autograd::backward(loss);
    step.loss = loss.item();
  }
  optim::Group group;
  for (nn::Parameter* parameter : network.trainable_parameters()) {
    step.gradients[parameter->name] = parameter->value.grad().to(Device{}).to(DType::f64);
    group.parameters.push_back({parameter->name, parameter->value});
  }
  optim::Optimizer({.algorithm = optim::Algorithm::sgd, .learning_rate = 0.1, .momentum = 0.9}, {group}).step();
  for (const nn::Parameter* parameter : network.parameters())
    (parameter->is_statistic ? step.statistics : step.updated)[parameter->name] =
        parameter->value.to(Device{}).to(DType::f64);
  return step;
}

double largest(const Tensor& tensor) {
  double most = 0;
  for (const double value : tensor.values<double>()) most = std::max(most, std::fabs(value));
  return most;
}

void expect_near(const std::map<std::string, Tensor>& got, const std::map<std::string, Tensor>& want) {
  double scale = 0;  // a gradient that is zero in truth, as of a bias before a batch-norm, is small beside the largest
  for (const auto& [name, tensor] : want) scale = std::max(scale, largest(tensor));
  ASSERT_GT(scale, 0);
  for (const auto& [name, tensor] : want) {
    const double bound = 1e-9 * std::max(largest(tensor), 1e-3 * scale);
    const auto other = got.at(name).values<double>(), own = tensor.values<double>();
    for (std::size_t i = 0; i < own.size(); ++i) ASSERT_NEAR(other[i], own[i], bound) << name << ", element " << i;
  }
}

class ModelOnADevice : public ::testing::TestWithParam<Model> {};

// As a plan, which is what trains: with the parts of concatenations where they go, and results in place. In f64, where
// nothing but the order of sums differs.
TEST_P(ModelOnADevice, StepsAsOnTheCpu) {
  const auto step = [](Device device) {
    return step_of(GetParam(), By::plan, device, DType::f64, ops::Statistics::batch);
  };
  const Step want = step({});
  ASSERT_TRUE(std::isfinite(want.loss));
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    const Step got = step(device);
    EXPECT_NEAR(got.loss, want.loss, 1e-10 * want.loss);
    expect_near(got.gradients, want.gradients);
    expect_near(got.updated, want.updated);
    if (!want.statistics.empty()) expect_near(got.statistics, want.statistics);
  }
}

// How far a network's gradients are from those of f64, as a share of these.
double distance(const Step& got, const Step& want) {
  double difference = 0, size = 0;
  for (const auto& [name, tensor] : want.gradients) {
    const auto other = got.gradients.at(name).values<double>(), own = tensor.values<double>();
    for (std::size_t i = 0; i < own.size(); ++i) {
      difference += (other[i] - own[i]) * (other[i] - own[i]);
      size += own[i] * own[i];
    }
  }
  return std::sqrt(difference / size);
}

// In the types that networks are trained in, a device is no further from f64 than the CPU is. With moving statistics,
// for those of a few values magnify what was rounded.
TEST_P(ModelOnADevice, RoundsNoMoreThanTheCpu) {
  const auto step = [](Device device, DType dtype) {
    return step_of(GetParam(), By::tape, device, dtype, ops::Statistics::moving);
  };
  const Step exact = step({}, DType::f64);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double usual = distance(step({}, dtype), exact);
    EXPECT_LT(usual, dtype == DType::f32 ? 1e-4 : 0.2);
    for (const Device device : test::devices()) {
      SCOPED_TRACE(device.to_string() + " " + std::string(name(dtype)));
      const double there = distance(step(device, dtype), exact);
      EXPECT_LE(there, 1.5 * usual);
    }
  }
}

models::Options headless(Index size, double alpha = 1) {
  return {.include_top = false, .pooling = models::Pooling::average, .height = size, .width = size, .alpha = alpha};
}

// Small, but large enough that the last batch-norm of ResNet sees eight values of each channel: the gradient of two,
// which normalise to 1 and -1, is all rounding.
INSTANTIATE_TEST_SUITE_P(Zoo, ModelOnADevice,
                         ::testing::Values(Model{"vgg16", headless(32)}, Model{"resnet50", headless(48)},
                                           Model{"mobilenet", headless(32, 0.25)}, Model{"inception_v3", headless(75)},
                                           Model{"vit_tiny",
                                                 {.include_top = true, .classes = 5, .height = 32, .width = 32}}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace graft
