#include "graft/optim/optimizer.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/context.h"

#include "support/expect.h"
#include "support/op_check.h"

namespace graft::optim {
namespace {

Tensor with_gradient(const std::vector<double>& values, const std::vector<double>& gradient) {
  Tensor w = Tensor::from({static_cast<Index>(values.size())}, values);
  w.set_grad(Tensor::from(w.shape(), gradient));
  return w;
}

TEST(Optimizer, SgdByHand) {
  const Tensor w = with_gradient({1, 2}, {0.5, -1});
  Optimizer optimizer({.algorithm = Algorithm::sgd, .learning_rate = 0.1, .momentum = 0.5},
                      {{.parameters = {{"w", w}}}});
  optimizer.step();  // v = g
  optimizer.step();  // v = 1.5 g
  EXPECT_NEAR(w.data<double>()[0], 1 - 0.1 * 0.5 * 2.5, 1e-15);
  EXPECT_NEAR(w.data<double>()[1], 2 + 0.1 * 2.5, 1e-15);
}

// Adam's first step has m / (1 - beta1) = g and s / (1 - beta2) = g^2: it moves by the rate, whatever the gradient.
TEST(Optimizer, AdamsFirstStepIsTheRate) {
  const Tensor w = with_gradient({1, 2}, {1e-3, -50});
  Optimizer optimizer({.learning_rate = 0.1}, {{.parameters = {{"w", w}}}});
  optimizer.step();
  EXPECT_NEAR(w.data<double>()[0], 0.9, 1e-5);
  EXPECT_NEAR(w.data<double>()[1], 2.1, 1e-5);
}

// Without a gradient nothing moves: AdamW's decay would, and so would a momentum.
TEST(Optimizer, LeavesParametersWithoutAGradientAlone) {
  Tensor w = with_gradient({1, 2}, {1, 1});
  Optimizer optimizer({.algorithm = Algorithm::adamw, .weight_decay = 0.5}, {{.parameters = {{"w", w}}}});
  optimizer.step();
  const double before = w.data<double>()[0];
  optimizer.zero_grad();
  EXPECT_FALSE(w.grad().defined());
  optimizer.step();
  EXPECT_EQ(w.data<double>()[0], before);
  EXPECT_EQ(optimizer.state().at("w/steps").item(), 1);
}

TEST(Optimizer, OneByOneIsTheSameAsAllAtOnce) {
  for (const Algorithm algorithm : {Algorithm::sgd, Algorithm::adam, Algorithm::adamw}) {
    const OptimizerOptions options{
        .algorithm = algorithm, .weight_decay = 0.1, .momentum = algorithm == Algorithm::sgd ? 0.9 : 0};
    const Tensor a = with_gradient({1, 2}, {0.5, -1}), b = with_gradient({3}, {4});
    const Tensor c = with_gradient({1, 2}, {0.5, -1}), d = with_gradient({3}, {4});
    Optimizer together(options, {{.parameters = {{"a", a}, {"b", b}}}});
    Optimizer apart(options, {{.parameters = {{"a", c}}}, {.parameters = {{"b", d}}}});
    for (int step = 0; step < 3; ++step) {
      together.step();
      apart.begin(Tensor::full({}, 1, DType::f64));
      apart.update("b", d.grad());
      apart.update("a", c.grad());
    }
    EXPECT_THAT(c.values<double>(), testing::ElementsAreArray(a.values<double>()));
    EXPECT_THAT(d.values<double>(), testing::ElementsAreArray(b.values<double>()));
    EXPECT_FALSE(apart.outcome().failed);
  }
}

TEST(Optimizer, OneByOneStopsAtTheFirstGradientThatIsNotFinite) {
  const Tensor a = with_gradient({0}, {1}), b = with_gradient({0}, {1});
  Optimizer optimizer({.algorithm = Algorithm::sgd, .learning_rate = 1}, {{.parameters = {{"a", a}, {"b", b}}}});
  const Tensor loss = Tensor::full({}, 1, DType::f64);
  optimizer.begin(loss);
  optimizer.update("a", a.grad());
  optimizer.update("b", b.grad());
  optimizer.begin(loss);
  optimizer.update("a", a.grad());
  optimizer.update("b", Tensor::full({1}, std::nan(""), DType::f64));
  for (int later = 0; later < 2; ++later) {
    optimizer.begin(loss);
    optimizer.update("a", a.grad());
  }
  EXPECT_EQ(a.data<double>()[0], -2);
  EXPECT_EQ(b.data<double>()[0], -1);
  EXPECT_EQ(optimizer.outcome().failed, 1);
}

TEST(Optimizer, OneByOneLeavesOutAStepWhoseLossIsNotFinite) {
  const Tensor a = with_gradient({0}, {1});
  Optimizer optimizer({.algorithm = Algorithm::sgd, .learning_rate = 1}, {{.parameters = {{"a", a}}}});
  optimizer.begin(Tensor::full({}, INFINITY, DType::f64));
  optimizer.update("a", a.grad());
  EXPECT_EQ(a.data<double>()[0], 0);
  EXPECT_EQ(optimizer.outcome().failed, 0);
  EXPECT_ERROR(optimizer.update("b", a.grad()), "there is no parameter 'b'");
  EXPECT_ERROR(optimizer.update("a", Tensor::zeros({2}, DType::f64)), "expected a gradient of 'a' as f64 [1]");
  Optimizer clipping({.clip_norm = 1}, {{.parameters = {{"a", a}}}});
  EXPECT_ERROR(clipping.begin(Tensor::full({}, 1)), "without clipping");
}

TEST(Optimizer, ClipsByTheNormOfAllGradients) {
  const Tensor a = with_gradient({0}, {3}), b = with_gradient({0}, {4});
  Optimizer optimizer({.algorithm = Algorithm::sgd, .learning_rate = 1, .clip_norm = 1},
                      {{.parameters = {{"a", a}}}, {.parameters = {{"b", b}}}});
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm(), 5);
  optimizer.step();
  EXPECT_NEAR(a.data<double>()[0], -0.6, 1e-6);
  EXPECT_NEAR(b.data<double>()[0], -0.8, 1e-6);
}

TEST(Optimizer, GroupsHaveTheirOwnRateAndShareTheFactor) {
  const Tensor a = with_gradient({0}, {1}), b = with_gradient({0}, {1});
  Optimizer optimizer({.algorithm = Algorithm::sgd, .learning_rate = 0.1},
                      {{.parameters = {{"a", a}}}, {.parameters = {{"b", b}}, .learning_rate = 0.01}});
  optimizer.set_factor(0.5);
  optimizer.step();
  EXPECT_NEAR(a.data<double>()[0], -0.05, 1e-15);
  EXPECT_NEAR(b.data<double>()[0], -0.005, 1e-15);
  optimizer.set_learning_rate(1);
  EXPECT_EQ(optimizer.learning_rate(0), 0.5);
  EXPECT_EQ(optimizer.learning_rate(1), 0.005);
}

// f32 follows f64 to the rounding of the weight itself.
TEST(Optimizer, F32FollowsF64) {
  for (const Algorithm algorithm : {Algorithm::sgd, Algorithm::adam, Algorithm::adamw}) {
    const Index count = 40000;  // several tasks
    std::vector<double> values, slopes;
    for (Index i = 0; i < count; ++i) {
      values.push_back(std::sin(static_cast<double>(i)));
      slopes.push_back(std::cos(3.0 * static_cast<double>(i)));
    }
    Tensor exact = Tensor::from({count}, values), single = exact.to(DType::f32).clone();
    exact.set_grad(Tensor::from({count}, slopes));
    single.set_grad(exact.grad().to(DType::f32));
    const OptimizerOptions options{.algorithm = algorithm,
                                   .learning_rate = 0.01,
                                   .weight_decay = 0.01,
                                   .momentum = algorithm == Algorithm::sgd ? 0.9 : 0};
    Optimizer one(options, {{.parameters = {{"w", exact}}}}), two(options, {{.parameters = {{"w", single}}}});
    EXPECT_NEAR(one.gradient_norm(), two.gradient_norm(), 1e-4);
    for (int step = 0; step < 10; ++step) {
      one.step();
      two.step();
    }
    double worst = 0;
    for (Index i = 0; i < count; ++i) {
      worst = std::max(worst, std::abs(exact.data<double>()[i] - static_cast<double>(single.data<float>()[i])));
    }
    EXPECT_LT(worst, 2e-5) << name(algorithm);
  }
}

TEST(Optimizer, SameForAnyNumberOfThreads) {
  std::vector<float> values(100000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  std::vector<float> end[2];
  for (const int count : {1, 2}) {
    set_threads(count);
    Tensor w = Tensor::from({100000}, values);
    w.set_grad(Tensor::from({100000}, values));
    Optimizer optimizer({.clip_norm = 1}, {{.parameters = {{"w", w}}}});
    for (int step = 0; step < 3; ++step) optimizer.step();
    end[count - 1].assign(w.values<float>().begin(), w.values<float>().end());
  }
  set_threads(0);
  EXPECT_EQ(end[0], end[1]);
}

TEST(Optimizer, ContinuesFromItsState) {
  for (const Algorithm algorithm : {Algorithm::sgd, Algorithm::adamw}) {
    const OptimizerOptions options{
        .algorithm = algorithm, .weight_decay = 0.1, .momentum = algorithm == Algorithm::sgd ? 0.9 : 0};
    const Tensor w = with_gradient({1, -2, 3}, {0.1, 0.2, -0.3});
    Optimizer whole(options, {{.parameters = {{"w", w}}}});
    for (int step = 0; step < 3; ++step) whole.step();
    Tensor resumed = w.clone();
    resumed.set_grad(w.grad());
    Optimizer second(options, {{.parameters = {{"w", resumed}}}});
    second.set_state(whole.state());
    whole.step();
    second.step();
    EXPECT_EQ(std::vector<double>(w.values<double>().begin(), w.values<double>().end()),
              std::vector<double>(resumed.values<double>().begin(), resumed.values<double>().end()));
  }
}

// Steps that are not finite bring the loss scale from 65536 down to 1, where the seventeenth of them fails.
TEST(Optimizer, CountsTheStepThatFailedFromWhereItContinues) {
  const OptimizerOptions options{.algorithm = Algorithm::sgd, .learning_rate = 1, .loss_scaling = true};
  Tensor w = with_gradient({0}, {1});
  Optimizer whole(options, {{.parameters = {{"w", w}}}}), second(options, {{.parameters = {{"w", w}}}});
  for (int step = 0; step < 3; ++step) whole.step();
  second.set_state(whole.state());
  w.set_grad(Tensor::full({1}, std::nan(""), DType::f64));
  for (int step = 0; step < 17; ++step) second.step();
  EXPECT_EQ(second.outcome().failed, 16);
}

struct Update {
  const char* what;
  OptimizerOptions options;
};

const std::vector<Update> kUpdates{
    {"sgd", {.algorithm = Algorithm::sgd, .weight_decay = 0.01}},
    {"momentum, clipped", {.algorithm = Algorithm::sgd, .momentum = 0.9, .clip_norm = 0.5}},
    {"nesterov", {.algorithm = Algorithm::sgd, .weight_decay = 0.01, .momentum = 0.9, .nesterov = true}},
    {"adam", {.algorithm = Algorithm::adam, .weight_decay = 0.01}},
    {"adamw, clipped", {.algorithm = Algorithm::adamw, .weight_decay = 0.01, .clip_norm = 0.5}},
};

// A parameter that begins `skip` elements into its memory, so that vectors of 16 bytes may or may not fit, and its
// gradient.
Tensor moved_parameter(Device device, DType dtype, Index count, Index skip) {
  Tensor w = test::random_normal({count + skip}, 1).to(dtype).to(device).rows(skip, count);
  w.set_grad(test::random_normal({count + skip}, 2).to(dtype).to(device).rows(skip, count));
  return w;
}

// A device's parameters are the CPU's, to a rounding or two of each step.
TEST(Optimizer, UpdatesOnADevice) {
  for (const Device device : test::devices()) {
    for (const auto& [what, options] : kUpdates) {
      for (const DType dtype : {DType::f32, DType::f64}) {
        for (const auto& [count, skip] :
             std::vector<std::pair<Index, Index>>{{0, 0}, {1, 0}, {3, 0}, {4, 1}, {1027, 0}, {1027, 3}}) {
          const Tensor here = moved_parameter({}, dtype, count, skip);
          const Tensor there = moved_parameter(device, dtype, count, skip);
          Optimizer one(options, {{.parameters = {{"w", here}}}}), two(options, {{.parameters = {{"w", there}}}});
          for (int step = 0; step < 3; ++step) {
            one.step();
            two.step();
          }
          EXPECT_NEAR(one.gradient_norm(), two.gradient_norm(), 1e-13 * one.gradient_norm());
          const Tensor want = here.to(DType::f64), got = there.to(Device{}).to(DType::f64);
          const double rounding = dtype == DType::f64 ? 0x1p-53 : 0x1p-24;
          for (Index i = 0; i < count; ++i)
            ASSERT_NEAR(got.data<double>()[i], want.data<double>()[i],
                        12 * rounding * std::max(1.0, std::abs(want.data<double>()[i])))
                << device.to_string() << ", " << what << ", " << count << " elements, " << graft::name(dtype)
                << ", element " << i;
        }
      }
    }
  }
}

TEST(Optimizer, KeepsItsStateOnTheDeviceAndContinuesFromTheCpu) {
  for (const Device device : test::devices()) {
    for (const Algorithm algorithm : {Algorithm::sgd, Algorithm::adamw}) {
      const OptimizerOptions options{.algorithm = algorithm, .momentum = algorithm == Algorithm::sgd ? 0.9 : 0};
      const Tensor w = moved_parameter(device, DType::f32, 100, 0);
      Optimizer whole(options, {{.parameters = {{"w", w}}}});
      for (int step = 0; step < 2; ++step) whole.step();
      std::map<std::string, Tensor> saved;
      for (const auto& [key, value] : whole.state()) {
        EXPECT_EQ(value.device(), key == "w/steps" ? Device{} : device) << key;
        saved[key] = value.to(Device{}).clone();
      }
      Tensor resumed = w.clone();
      resumed.set_grad(w.grad());
      Optimizer second(options, {{.parameters = {{"w", resumed}}}});
      second.set_state(saved);
      whole.step();
      second.step();
      EXPECT_THAT(w.to(Device{}).values<float>(), testing::ElementsAreArray(resumed.to(Device{}).values<float>()));
    }
  }
}

// More blocks than one block adds up in a round.
TEST(Optimizer, SumsALongGradientOnADevice) {
  for (const Device device : test::devices()) {
    const Tensor here = moved_parameter({}, DType::f64, 140'003, 0);
    Tensor moved = here.to(device);
    moved.set_grad(here.grad().to(device));
    const double want = Optimizer({}, {{.parameters = {{"w", here}}}}).gradient_norm();
    EXPECT_NEAR(Optimizer({}, {{.parameters = {{"w", moved}}}}).gradient_norm(), want, 1e-13 * want);
  }
}

TEST(Optimizer, ItsTensorsAreOnOneDevice) {
  for (const Device device : test::devices()) {
    const Tensor a = with_gradient({0}, {3});
    const Tensor moved = a.to(device);
    EXPECT_ERROR(Optimizer({}, {{.parameters = {{"a", a}, {"b", moved}}}}),
                 "[optimizer] parameters are on one device, 'b' is on " + device.to_string() + ", others on cpu");
    Tensor b = moved.clone();
    b.set_grad(a.grad());
    Optimizer apart({}, {{.parameters = {{"b", b}}}});
    EXPECT_ERROR(apart.step(), "the gradient of 'b' is on cpu, expected " + device.to_string());
  }
}

TEST(Optimizer, RefusesWhatMakesNoSense) {
  const Tensor w = Tensor::zeros({2});
  const std::vector<Group> groups{{.parameters = {{"w", w}}}};
  EXPECT_ERROR(Optimizer({.learning_rate = -1}, groups), "learning rate must be a number of 0 or more, got -1");
  EXPECT_ERROR(Optimizer({.beta1 = 1}, groups), "beta1 must be in [0, 1), got 1");
  EXPECT_ERROR(Optimizer({.algorithm = Algorithm::sgd, .nesterov = true}, groups), "needs a momentum");
  EXPECT_ERROR(Optimizer({}, {{.parameters = {{"w", w}, {"w", w}}}}), "'w' is given twice");
  EXPECT_ERROR(Optimizer({}, {{.parameters = {{"i", Tensor::zeros({1}, DType::i32)}}}}), "'i' is i32");
  EXPECT_ERROR(algorithm_from_name("rmsprop"), "expected sgd, adam or adamw, got 'rmsprop'");
  Optimizer optimizer({}, groups);
  auto state = optimizer.state();
  state["w/first_moment"] = Tensor::zeros({3});
  EXPECT_ERROR(optimizer.set_state(state), "expected 'w/first_moment' as f32 [2], got f32 [3]");
  state = optimizer.state();
  state.erase("w/steps");
  EXPECT_ERROR(optimizer.set_state(state), "no entry 'w/steps'");
  state = optimizer.state();
  state["v/steps"] = Tensor::zeros({}, DType::i64);
  EXPECT_ERROR(optimizer.set_state(state), "'v/steps' that this optimizer does not know");
}

}  // namespace
}  // namespace graft::optim
