#include "graft/ops/batch_norm.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using ops::Statistics;
using test::OpCase;
using test::OpTable;
using test::random_normal;

struct NormCase {
  std::string what;
  Shape x;
  bool gamma = true, beta = true, residual = false;
  Activation activation = Activation::linear;
};

OpCase make(const NormCase& c, Statistics statistics) {
  const ops::BatchNormOptions options{.statistics = statistics, .epsilon = 1e-2, .activation = c.activation};
  const auto op = std::make_shared<ops::BatchNorm>(options, c.gamma, c.beta, c.residual);
  OpCase result{.what = c.what, .op = op, .constant = {op->moving_mean(), op->moving_variance()}};
  const Shape channels{c.x.channels()};
  result.inputs = {random_normal(c.x, 1, 1.5, 0.5)};
  if (c.gamma) result.inputs.push_back(random_normal(channels, 2, 0.3, 1));
  if (c.beta) result.inputs.push_back(random_normal(channels, 3));
  result.inputs.push_back(random_normal(channels, 4));
  Tensor variance = random_normal(channels, 5);
  for (Index i = 0; i < variance.elements(); ++i)
    variance.mutable_data<double>()[i] = 0.5 + variance.data<double>()[i] * variance.data<double>()[i];
  result.inputs.push_back(variance);
  for (int i = 1; i <= op->moving_variance(); ++i) result.exact.add(i);
  if (c.residual) result.inputs.push_back(random_normal(c.x, 6));
  result.sum_length = std::max<Index>(1, c.x.elements() / std::max<Index>(1, c.x.channels()));
  return result;
}

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  const std::vector<NormCase> cases{
      // what                       x            gamma  beta  residual  activation
      {"an image", {2, 4, 3, 5}},
      {"InceptionV3: no gamma", {3, 3, 3, 16}, false},
      {"no beta", {3, 2, 2, 4}, true, false},
      {"neither", {3, 2, 2, 4}, false, false},
      {"relu", {2, 4, 4, 19}, true, true, false, Activation::relu},
      {"relu6", {2, 4, 4, 16}, true, true, false, Activation::relu6},
      {"ResNet's end of a block", {2, 3, 3, 17}, true, true, true, Activation::relu},
      {"residual alone", {2, 3, 3, 8}, true, true, true},
      {"sigmoid", {2, 2, 2, 3}, true, true, false, Activation::sigmoid},
      {"after a dense layer", {9, 6}},
      {"one channel, many rows", {13, 13, 13, 1}},
      {"more channels than rows", {2, 1, 1, 130}},
      {"several parts of a sum", {5, 9, 9, 33}},
      {"several parts, in vectors", {3, 14, 13, 40}, true, true, true},
      {"two blocks of channels", {2, 3, 3, 264}},
      {"strips of channels, the last not full", {2, 3, 3, 114}, true, true, true, Activation::relu6},
  };
  for (const NormCase& c : cases) {
    rows.push_back(make(c, Statistics::moving));
    rows.push_back(make(c, Statistics::batch));
  }
  rows.push_back(make({"empty batch", {0, 4, 4, 3}}, Statistics::moving));
  rows.push_back(make({"one row", {1, 1, 1, 3}}, Statistics::moving));
  return rows;
}

INSTANTIATE_TEST_SUITE_P(BatchNorm, OpTable, testing::ValuesIn(table()));

// What does not fit the caches is written around them.
TEST(BatchNorm, LargerThanTheCaches) {
  const Shape shape{32, 14, 14, 1024};  // 25.7 MB
  const Tensor x = random_normal(shape, 1, 1.5, 0.5).to(DType::f32), seed = random_normal(shape, 2).to(DType::f32);
  const auto results = [&](Engine engine, Statistics statistics) {
    ContextScope scope;
    scope->engine = engine;
    Tensor leaf = x.clone();
    leaf.set_requires_grad(true);
    const Tensor mean = Tensor::full({1024}, 0.25), variance = Tensor::full({1024}, 2);
    const Tensor y = ops::batch_norm(leaf, {}, {}, mean, variance, {.statistics = statistics});
    autograd::backward(y, {.seed = seed});
    return std::pair(y, leaf.grad());
  };
  const auto distance = [](const Tensor& a, const Tensor& b) {
    float most = 0;
    for (Index i = 0; i < a.elements(); ++i) most = std::max(most, std::abs(a.data<float>()[i] - b.data<float>()[i]));
    return most;
  };
  for (const Statistics statistics : {Statistics::batch, Statistics::moving}) {
    const auto [y, dx] = results(Engine::native, statistics);
    const auto [expected_y, expected_dx] = results(Engine::reference, statistics);
    EXPECT_LT(distance(y, expected_y), 1e-5f);
    EXPECT_LT(distance(dx, expected_dx), 1e-5f);
  }
}

// Blocks of 32768 elements: three of them here, the last one short, far from zero so that a sum of squares would
// cancel.
TEST(BatchNorm, StatisticsFarFromZero) {
  const Index rows = 16384 * 2 + 100;
  const Tensor x = random_normal({rows, 2}, 1, 0.25, 5000).to(DType::f32);
  double mean = 0, variance = 0;
  for (Index i = 0; i < rows; ++i) mean += static_cast<double>(x.data<float>()[2 * i]) / static_cast<double>(rows);
  for (Index i = 0; i < rows; ++i)
    variance += std::pow(static_cast<double>(x.data<float>()[2 * i]) - mean, 2) / static_cast<double>(rows);
  for (const Engine engine : {Engine::native, Engine::automatic}) {
    ContextScope scope;
    scope->engine = engine;
    const Tensor moving_mean = Tensor::zeros({2}), moving_variance = Tensor::zeros({2});
    ops::batch_norm(x, {}, {}, moving_mean, moving_variance, {.statistics = Statistics::batch, .momentum = 0});
    EXPECT_NEAR(moving_mean.data<float>()[0], mean, 1e-3);
    EXPECT_NEAR(moving_variance.data<float>()[0], variance, 1e-3 * variance);
  }
  for (const Device device : test::devices()) {
    ContextScope scope;
    scope->device = device;
    const Tensor moving_mean = Tensor::zeros({2}, DType::f32, device), moving_variance = moving_mean.clone();
    ops::batch_norm(x.to(device), {}, {}, moving_mean, moving_variance,
                    {.statistics = Statistics::batch, .momentum = 0});
    EXPECT_NEAR(moving_mean.to(Device{}).data<float>()[0], mean, 1e-3) << device.to_string();
    EXPECT_NEAR(moving_variance.to(Device{}).data<float>()[0], variance, 1e-5 * variance) << device.to_string();
  }
}

TEST(BatchNorm, UpdatesMovingStatisticsAsKerasDoes) {
  const Tensor x = Tensor::from<float>({4, 1}, {1, 2, 3, 6});  // mean 3, variance 3.5 (14 / 4), unbiased 14 / 3
  for (const Engine engine : {Engine::native, Engine::automatic}) {
    ContextScope scope;
    scope->engine = engine;
    for (const bool unbiased : {false, true}) {
      const Tensor mean = Tensor::full({1}, 10), variance = Tensor::full({1}, 2);
      const std::uint64_t version = mean.version();
      ops::batch_norm(x, {}, {}, mean, variance,
                      {.statistics = Statistics::batch, .momentum = 0.75, .unbiased = unbiased});
      EXPECT_FLOAT_EQ(static_cast<float>(mean.item()), 0.75f * 10 + 0.25f * 3);
      EXPECT_FLOAT_EQ(static_cast<float>(variance.item()), 0.75f * 2 + 0.25f * (unbiased ? 14.f / 3 : 3.5f));
      EXPECT_GT(mean.version(), version);
    }
  }
}

TEST(BatchNorm, MovingStatisticsStayBitIdentical) {
  const Tensor x = random_normal({2, 3, 3, 4}, 1).to(DType::f32);
  const Tensor mean = Tensor::full({4}, 0.3), variance = Tensor::full({4}, 1.7);
  const std::uint64_t version = mean.version();
  Tensor gamma = Tensor::full({4}, 1);
  gamma.set_requires_grad(true);
  const Tensor y = ops::batch_norm(x, gamma, {}, mean, variance);
  autograd::backward(y, {.seed = y});
  EXPECT_THAT(mean.values<float>(), testing::Each(0.3f));
  EXPECT_THAT(variance.values<float>(), testing::Each(1.7f));
  EXPECT_EQ(mean.version(), version);
}

// A frozen layer hands its gradient on, and keeps no activation for that.
TEST(BatchNorm, FrozenSavesNoActivation) {
  const ops::BatchNorm frozen({}, true, true, false);
  EXPECT_FALSE(frozen.saves({0}).inputs.has(0));
  EXPECT_FALSE(frozen.saves({0}).outputs.any());
  EXPECT_TRUE(frozen.saves({frozen.gamma()}).inputs.has(0));
}

TEST(BatchNorm, TheSameWhateverTheThreads) {
  const Tensor x = random_normal({16384, 9}, 1).to(DType::f32);
  std::vector<float> first;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    ContextScope scope;
    scope->engine = Engine::native;
    const Tensor mean = Tensor::zeros({9}), variance = Tensor::zeros({9});
    const Tensor y = ops::batch_norm(x, {}, {}, mean, variance, {.statistics = Statistics::batch});
    const std::vector<float> values(y.values<float>().begin(), y.values<float>().end());
    if (first.empty()) first = values;
    EXPECT_EQ(values, first) << count << " threads";
  }
  set_threads(0);
}

TEST(BatchNorm, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({1, 2, 2, 3}), channels = Tensor::zeros({3}), four = Tensor::zeros({4});
  EXPECT_ERROR(ops::batch_norm(x, four, {}, channels, channels),
               "[batch_norm] expected gamma f32 [3] (input [1, 2, 2, 3]), got f32 [4]");
  EXPECT_ERROR(ops::batch_norm(x, {}, {}, channels, four), "expected moving variance f32 [3]");
  EXPECT_ERROR(ops::batch_norm(x.to(DType::bf16), channels.to(DType::bf16), {}, channels, channels),
               "expected gamma f32 [3] (input [1, 2, 2, 3]), got bf16 [3]");
  EXPECT_ERROR(ops::batch_norm(Tensor::zeros({0, 3}), {}, {}, channels, channels, {.statistics = Statistics::batch}),
               "need 1 or more elements a channel");
  EXPECT_ERROR(ops::batch_norm(Tensor::zeros({1, 3}), {}, {}, channels, channels,
                               {.statistics = Statistics::batch, .unbiased = true}),
               "need 2 or more elements a channel");
  Tensor(x).set_requires_grad(true);
  EXPECT_ERROR(ops::batch_norm(x, {}, {}, channels, channels, {.activation = Activation::gelu}),
               "gelu cannot be fused");
}

}  // namespace
}  // namespace graft
