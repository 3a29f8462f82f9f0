#include "graft/ops/conv2d_batch_norm.h"

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

struct FusedCase {
  std::string what;
  Shape x, w;
  ops::Conv2dOptions options = {};
  bool bias = false, gamma = true, beta = true, residual = false;
  Activation activation = Activation::linear;
};

OpCase make(const FusedCase& c) {
  const auto op = std::make_shared<ops::Conv2dBatchNorm>(
      ops::Conv2d(c.options, c.bias, false),
      ops::BatchNorm({.statistics = Statistics::batch, .epsilon = 1e-2, .activation = c.activation}, c.gamma, c.beta,
                     c.residual));
  OpCase result{.what = c.what, .op = op};
  result.constant = {op->input(op->norm.moving_mean()), op->input(op->norm.moving_variance())};
  const Shape channels{c.w[0]};
  result.inputs = {random_normal(c.x, 1), random_normal(c.w, 2)};
  if (c.bias) result.inputs.push_back(random_normal(channels, 3));
  if (c.gamma) result.inputs.push_back(random_normal(channels, 4, 0.3, 1));
  if (c.beta) result.inputs.push_back(random_normal(channels, 5));
  result.inputs.push_back(random_normal(channels, 6));
  result.inputs.push_back(Tensor::full(channels, 1.5, DType::f64));
  std::vector<Spec> specs{result.inputs[0].spec(), result.inputs[1].spec()};
  const Shape y = ops::Conv2d(c.options, false, false).infer(specs).front().shape;
  if (c.residual) result.inputs.push_back(random_normal(y, 7));
  for (int i = 1; i <= op->input(op->norm.moving_variance()); ++i) result.exact.add(i);
  // A sum over the taps, normalised by sums over the rows.
  result.sum_length = std::max(c.w.elements() / c.w[0] * std::max<Index>(1, c.w[0]), y.rows()) + 2;
  return result;
}

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  const std::vector<FusedCase> cases{
      // what                x              w              options, bias, gamma, beta, residual, activation
      {"pointwise", {2, 4, 3, 5}, {4, 1, 1, 5}},
      {"3x3 and relu", {1, 5, 4, 3}, {6, 3, 3, 3}, {.padding = kSame}, false, true, true, false, Activation::relu},
      {"InceptionV3: no gamma", {2, 4, 4, 4}, {8, 1, 3, 4}, {.padding = kSame}, false, false, true, false},
      {"neither gamma nor beta", {2, 4, 4, 4}, {8, 1, 1, 4}, {}, false, false, false, false},
      {"residual and relu", {2, 3, 3, 8}, {8, 3, 3, 8}, {.padding = kSame}, false, true, true, true, Activation::relu},
      {"stride 2, groups", {2, 7, 6, 8}, {16, 3, 3, 4}, {.stride = 2, .padding = pad(1), .groups = 2}},
      {"several tiles of rows, the last one short", {3, 5, 7, 8}, {40, 1, 1, 8}},
      {"prime channels", {2, 5, 5, 7}, {37, 1, 1, 7}},
      {"a depth that is split", {1, 5, 4, 32}, {8, 3, 3, 32}, {.padding = kSame}},
  };
  rows.reserve(cases.size());
  for (const FusedCase& c : cases) rows.push_back(make(c));
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Conv2dBatchNorm, OpTable, testing::ValuesIn(table()));

// The norm takes the mean of what a bias shifts, so that its gradient is zero but for rounding: it is checked in f64,
// and the engines without it.
TEST(Conv2dBatchNorm, WithABias) {
  OpCase c = make({"ResNet's first", {1, 9, 8, 3}, {4, 7, 7, 3}, {.stride = 2, .padding = pad(3)}, true});
  test::check_gradients(c);
  c.constant.add(2);
  test::check_engines(c);
}

// What the op computes by itself and by the ops that it stands for, in the same place.
struct Result {
  std::vector<float> y, mean, variance, dx, dw, dgamma;
};

Result run(Device device, bool fused, const Tensor& x, const Tensor& w, const Tensor& bias) {
  ContextScope scope;
  scope->device = device;
  scope->engine = Engine::native;
  const Shape channels{w.shape()[0]};
  std::vector<Tensor> leaves;
  for (const Tensor& tensor : {x, w, Tensor::full(channels, 1.25)}) {
    leaves.push_back(tensor.clone().to(device));
    leaves.back().set_requires_grad(true);
  }
  const Tensor mean = Tensor::zeros(channels, DType::f32, device), variance = mean.clone();
  const ops::BatchNormOptions norm{.statistics = Statistics::batch, .momentum = 0};
  const Tensor there = bias.to(device);
  const Tensor y =
      fused ? ops::conv2d_batch_norm(leaves[0], leaves[1], {}, there, leaves[2], {}, mean, variance, norm)
            : ops::batch_norm(ops::conv2d(leaves[0], leaves[1], {}, there), leaves[2], {}, mean, variance, norm);
  autograd::backward(y, {.seed = random_normal(y.shape(), 9).to(DType::f32).to(device)});
  const auto values = [](const Tensor& tensor) {
    const Tensor here = tensor.to(Device{});
    return std::vector<float>(here.data<float>(), here.data<float>() + here.elements());
  };
  return {values(y),
          values(mean),
          values(variance),
          values(leaves[0].grad()),
          values(leaves[1].grad()),
          values(leaves[2].grad())};
}

void expect_near(const std::vector<float>& got, const std::vector<float>& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  double largest = 0;
  for (const float value : want) largest = std::fmax(largest, std::fabs(value));
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance * largest) << what << ' ' << i;
}

// On the CPU it is those ops. On a device the moments come from the tiles, of 32 rows here, and are merged in two
// stages.
TEST(Conv2dBatchNorm, IsItsTwoOps) {
  const Tensor x = random_normal({93, 14, 13, 4}, 1).to(DType::f32), w = random_normal({3, 1, 1, 4}, 2).to(DType::f32),
               bias = Tensor::full({3}, 0.5);
  const Result cpu = run({}, true, x, w, bias), separate = run({}, false, x, w, bias);
  EXPECT_EQ(cpu.y, separate.y);
  EXPECT_EQ(cpu.mean, separate.mean);
  EXPECT_EQ(cpu.dw, separate.dw);
  for (const Device device : test::devices()) {
    const Result fused = run(device, true, x, w, bias), two = run(device, false, x, w, bias);
    expect_near(fused.y, two.y, 1e-6, "y");
    expect_near(fused.mean, two.mean, 1e-6, "mean");
    expect_near(fused.variance, two.variance, 1e-6, "variance");
    expect_near(fused.dx, two.dx, 1e-5, "dx");
    expect_near(fused.dw, two.dw, 1e-5, "dw");
    expect_near(fused.dgamma, two.dgamma, 1e-5, "dgamma");
  }
}

// Where a sum of squares would cancel: the convolution hands on numbers that are far from zero.
TEST(Conv2dBatchNorm, StatisticsFarFromZero) {
  const Index rows = 17 * 14 * 13;
  const Tensor x = random_normal({17, 14, 13, 2}, 1, 0.25).to(DType::f32);
  const Tensor w = Tensor::from<float>({2, 1, 1, 2}, {1, 0, 0, 1}), bias = Tensor::full({2}, 5000);
  double mean = 0, variance = 0;  // of what f32 holds of channel 0
  const auto value = [&](Index row) { return static_cast<double>(x.data<float>()[2 * row] + 5000.f); };
  for (Index i = 0; i < rows; ++i) mean += value(i) / static_cast<double>(rows);
  for (Index i = 0; i < rows; ++i) variance += std::pow(value(i) - mean, 2) / static_cast<double>(rows);
  for (const Device device : test::devices()) {
    const Result fused = run(device, true, x, w, bias);
    EXPECT_NEAR(fused.mean[0], mean, 1e-3) << device.to_string();
    EXPECT_NEAR(fused.variance[0], variance, 1e-5 * variance) << device.to_string();
  }
}

TEST(Conv2dBatchNorm, UpdatesAndSaves) {
  const ops::Conv2dBatchNorm op(ops::Conv2d({}, true, false),
                                ops::BatchNorm({.statistics = Statistics::batch}, true, true, false));
  EXPECT_TRUE(op.updates().has(5) && op.updates().has(6));
  EXPECT_FALSE(op.saves({op.input(op.norm.beta())}).outputs.any());
  const Saves of_weight = op.saves({1});
  EXPECT_TRUE(of_weight.inputs.has(0) && of_weight.outputs.has(1));
  EXPECT_FALSE(of_weight.inputs.has(1));
  EXPECT_FALSE(op.saves({op.input(op.norm.gamma())}).inputs.has(0));
}

TEST(Conv2dBatchNorm, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({1, 4, 4, 2}), w = Tensor::zeros({3, 1, 1, 2}), c = Tensor::zeros({3});
  const ops::BatchNormOptions batch{.statistics = Statistics::batch};
  EXPECT_ERROR(ops::conv2d_batch_norm(x, w, {.activation = Activation::relu}, {}, c, c, c, c, batch),
               "[conv2d_batch_norm] expected a convolution without activation and residual, got stride 1x1");
  EXPECT_ERROR(ops::conv2d_batch_norm(x, w, {}, {}, c, c, c, c, {}),
               "[conv2d_batch_norm] expected a norm with batch statistics, got moving statistics");
  EXPECT_ERROR(ops::conv2d_batch_norm(x, w, {}, {}, Tensor::zeros({4}), c, c, c, batch), "[batch_norm] expected gamma");
}

}  // namespace
}  // namespace graft
