#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/loss.h"
#include "graft/plan/plan.h"

#include "core/format.h"
#include "plan/support.h"
#include "support/expect.h"

namespace graft::plan {
namespace {

using test::difference;
using test::make;
using test::random_normal;
using test::small_models;
using test::SmallModel;

constexpr Index kBatch = 3;

Tensor labels() { return Tensor::from<std::int64_t>({kBatch}, {1, 7, 4}); }
Tensor input_of(const SmallModel& model) { return random_normal({kBatch, model.size, model.size, 3}, 1); }

// How a network is to be trained.
struct Setting {
  std::string name;
  std::function<void(nn::Network&)> set;
};

const std::vector<Setting> kSettings{
    {"all of it", [](nn::Network& network) { network.use_statistics(nn::Statistics::batch); }},
    {"all of it, moving statistics", [](nn::Network& network) { network.use_statistics(nn::Statistics::moving); }},
    {"the last three layers", [](nn::Network& network) { network.train_last(3); }},
    {"the first layers alone",
     [](nn::Network& network) {
       network.freeze();
       network.unfreeze(network.layers()[1].name);
       network.unfreeze(network.layers()[2].name);
     }},
};

struct Outcome {
  Tensor loss, logits;
  std::map<std::string, Tensor> gradients, statistics;
};

Outcome collect(nn::Network& network, const Tensor& loss, const Tensor& logits) {
  Outcome outcome{loss, logits, {}, {}};
  for (nn::Parameter* parameter : network.parameters()) {
    if (parameter->is_statistic)
      outcome.statistics[parameter->name] = parameter->value.clone();
    else if (parameter->value.grad().defined())
      outcome.gradients[parameter->name] = parameter->value.grad().clone();
    parameter->value.clear_grad();
  }
  return outcome;
}

Outcome eager(nn::Network& network, const Tensor& input, double smoothing = 0) {
  const Tensor logits = network.run(input, {.training = true}).logits;
  const Tensor loss = ops::softmax_cross_entropy(logits, labels(), {.label_smoothing = smoothing, .weights = {}});
  autograd::backward(loss);
  return collect(network, loss, logits);
}

Outcome compiled(nn::Network& network, const TrainingPlan& plan, const Tensor& input) {
  const TrainingPlan::Result result = plan.run({{{network.nodes().front().name, input}}, labels(), {}, {}});
  return collect(network, result.loss, result.logits);
}

// Gradients on the scale of the largest one of all: some are zero but for rounding.
void expect_alike(const Outcome& got, const Outcome& want, double bound) {
  EXPECT_LT(difference(got.loss, want.loss), bound);
  EXPECT_LT(difference(got.logits, want.logits), bound);
  double scale = 0;
  for (const auto& [name, gradient] : want.gradients) scale = std::fmax(scale, test::largest(gradient));
  EXPECT_GT(scale, 0);
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (const auto& [name, gradient] : want.gradients) {
    ASSERT_TRUE(got.gradients.contains(name)) << name;
    const double own = test::largest(gradient);
    if (own == 0) continue;
    EXPECT_LT(difference(got.gradients.at(name), gradient) * own / std::fmax(own, 1e-3 * scale), bound) << name;
  }
  for (const auto& [name, statistic] : want.statistics)
    EXPECT_LT(difference(got.statistics.at(name), statistic), bound) << name;
}

void expect_plans_agree(DType dtype, double bound) {
  for (const SmallModel& model : small_models()) {
    const bool thorough = model.name == "resnet50";
    for (const Setting& setting : std::span(kSettings).first(thorough ? kSettings.size() : 1)) {
      SCOPED_TRACE(fmt::format("{} in {}, {}", model.name, dtype, setting.name));
      nn::Network network = make(model), twin = make(model);
      for (nn::Network* one : {&network, &twin}) {
        if (dtype == DType::f64) one->set_parameter_dtype(dtype);
        setting.set(*one);
      }
      const Tensor input = input_of(model).to(dtype);
      const TrainingPlan plan = compile_training(network, input.shape(), {.dtype = dtype, .given = {}});
      for (std::uint64_t step = 1; step <= (thorough ? 2 : 1); ++step) {
        SCOPED_TRACE(fmt::format("step {}", step));
        const auto draw_alike = [step] { Context::current().generator = Generator{.seed = step}; };
        draw_alike();
        const Outcome want = eager(twin, input);
        draw_alike();
        expect_alike(compiled(network, plan, input), want, bound);
      }
      EXPECT_LE(static_cast<double>(plan.memory()), 1.05 * static_cast<double>(plan.least_memory()));
    }
  }
}

// MobileNet and EfficientNet draw for their dropout.
TEST(TrainingPlan, ComputesTheGradientsOfTheTape) { expect_plans_agree(DType::f64, 1e-7); }

// A norm with the batch's statistics takes it out again: nothing is summed for it, which would leave rounding alone.
TEST(TrainingPlan, ABiasBeforeANormHasNoGradient) {
  const auto largest_of_bias = [](nn::Statistics statistics, bool hand_over) {
    nn::Network network = make({"resnet50"});
    network.use_statistics(statistics);
    const Tensor input = input_of({"resnet50"}).to(DType::f32);
    const TrainingPlan plan = compile_training(network, input.shape(), {.hand_over = hand_over, .given = {}});
    TrainingPlan::Batch batch{{{network.nodes().front().name, input}}, labels(), {}, {}};
    double largest = -1;
    const auto take = [&](const std::string& name, const Tensor& gradient) {
      if (name == "conv2_block1_1_conv/bias") largest = test::largest(gradient);
    };
    if (hand_over) batch.hand_over = take;
    plan.run(batch);
    for (nn::Parameter* parameter : network.trainable_parameters()) {
      if (parameter->value.grad().defined()) take(parameter->name, parameter->value.grad());
    }
    return largest;
  };
  for (const bool hand_over : {false, true}) {
    EXPECT_EQ(largest_of_bias(nn::Statistics::batch, hand_over), 0);
    EXPECT_GT(largest_of_bias(nn::Statistics::moving, hand_over), 0);
  }
}

TEST(TrainingPlan, FrozenLayersHaveNoBackwardAndKeepNothing) {
  nn::Network network = make({"resnet50"});
  network.freeze();
  network.unfreeze("conv5_*");
  const TrainingPlan plan = compile_training(network, {kBatch, 32, 32, 3});
  for (const Step& step : plan.steps()) {
    if (!step.backward) continue;
    for (const std::string& layer : step.layers) EXPECT_FALSE(layer.starts_with("conv4_")) << layer;
  }
  nn::Network all = make({"resnet50"});
  EXPECT_LT(plan.memory(), compile_training(all, {kBatch, 32, 32, 3}).memory() / 2);
}

TEST(TrainingPlan, WeightsSmoothingAndSeed) {
  nn::Network network = make({"vit_tiny"}), twin = make({"vit_tiny"});
  const Tensor input = input_of({"vit_tiny"}).to(DType::f32), weights = Tensor::from<float>({kBatch}, {1, 0.5, 2});
  const TrainingPlan plan =
      compile_training(network, input.shape(), {.label_smoothing = 0.1, .weights = true, .given = {}});
  const auto result = plan.run({{{"input", input}}, labels(), weights, Tensor::full({}, 8)});
  const Outcome got = collect(network, result.loss, result.logits);
  const Tensor logits = twin.run(input, {.training = true}).logits;
  const Tensor loss = ops::softmax_cross_entropy(logits, labels(), {.label_smoothing = 0.1, .weights = weights});
  autograd::backward(loss, {.seed = Tensor::full({}, 8)});
  expect_alike(got, collect(twin, loss, logits), 1e-4);
}

TEST(TrainingPlan, HandsOverTheGradientsThatItWouldKeep) {
  nn::Network network = make({"resnet50"}), twin = make({"resnet50"});
  const Tensor input = input_of({"resnet50"}).to(DType::f32);
  const TrainingPlan keeping = compile_training(network, input.shape());
  const Outcome kept = compiled(network, keeping, input);
  const TrainingPlan handing = compile_training(twin, input.shape(), {.hand_over = true, .given = {}});
  std::map<std::string, Tensor> handed;
  double loss = 0;
  const auto result = handing.run({{{"input", input}},
                                   labels(),
                                   {},
                                   {},
                                   [&](const Tensor& value) {
                                     EXPECT_TRUE(handed.empty());
                                     loss = value.item();
                                   },
                                   [&](const std::string& name, const Tensor& gradient) {
                                     EXPECT_TRUE(handed.emplace(name, gradient.clone()).second) << name;
                                   }});
  EXPECT_EQ(loss, result.loss.item());
  std::size_t bytes = 0;
  ASSERT_EQ(handed.size(), kept.gradients.size());
  for (const auto& [name, gradient] : kept.gradients) {
    EXPECT_EQ(difference(handed.at(name), gradient), 0) << name;
    bytes += gradient.bytes();
    EXPECT_FALSE(twin.parameter(name).value.grad().defined());
  }
  EXPECT_LT(handing.memory(), keeping.memory() + bytes / 2) << "they are not all there at once";
}

// What is computed again has the bits of what would have been kept.
TEST(TrainingPlan, ComputesAgainWhatTheLimitLeavesNoRoomFor) {
  for (const SmallModel& model : small_models()) {
    SCOPED_TRACE(model.name);
    nn::Network network = make(model), twin = make(model);
    for (nn::Network* one : {&network, &twin}) one->use_statistics(nn::Statistics::batch);
    const Tensor input = input_of(model).to(DType::f32);
    const TrainingPlan keeping = compile_training(network, input.shape());
    const auto with_limit = [&](double share) {
      const auto bytes = static_cast<std::size_t>(share * static_cast<double>(keeping.memory()));
      return compile_training(twin, input.shape(), {.given = {}, .memory_limit = bytes});
    };
    const auto again = [](const TrainingPlan& plan) {
      return std::count_if(plan.steps().begin(), plan.steps().end(),
                           [](const Step& step) { return step.op.ends_with(" again"); });
    };
    EXPECT_EQ(again(with_limit(1)), 0) << "no more than it must";
    double least = 1;
    while (least > 0.3) {
      try {
        with_limit(least - 0.1);
      } catch (const Error&) {
        break;
      }
      least -= 0.1;
    }
    EXPECT_LT(least, model.name == "vgg16" ? 1.01 : 0.95) << "there is something to save";
    const TrainingPlan plan = with_limit(least);
    EXPECT_LE(static_cast<double>(plan.memory()), least * static_cast<double>(keeping.memory()));
    Context::current().generator = Generator{.seed = 5};
    const Outcome want = compiled(network, keeping, input);
    Context::current().generator = Generator{.seed = 5};
    const Outcome got = compiled(twin, plan, input);
    expect_alike(got, want, 1e-12);
    EXPECT_ERROR(with_limit(0.01), "more than the limit of");
  }
}

TEST(TrainingPlan, BadBatches) {
  nn::Network network = make({"mobilenet"});
  const TrainingPlan plan = compile_training(network, {kBatch, 32, 32, 3});
  const Tensor input = input_of({"mobilenet"}).to(DType::f32);
  EXPECT_ERROR(plan.run({{{"input", input}}, labels().rows(0, 2), {}, {}}),
               "was compiled for 'the labels' as i64 [3], got i64 [2]");
  EXPECT_ERROR(plan.run({{}, labels(), {}, {}}), "needs a value");
}

}  // namespace
}  // namespace graft::plan
