#include "graft/ops/conv2d.h"

#include <gtest/gtest.h>

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::random_normal;

struct ConvCase {
  std::string what;
  Shape x, w;
  ops::Conv2dOptions options = {};
  bool bias = false, residual = false;
};

OpCase make(const ConvCase& c) {
  OpCase result{
      .what = c.what, .op = std::make_shared<ops::Conv2d>(c.options, c.bias, c.residual), .sum_of_products = true};
  result.inputs = {random_normal(c.x, 1), random_normal(c.w, 2)};
  result.exact.add(1);
  std::vector<Spec> specs{result.inputs[0].spec(), result.inputs[1].spec()};
  const Shape y = ops::Conv2d(c.options, false, false).infer(specs).front().shape;
  if (c.bias) {
    result.inputs.push_back(random_normal({c.w[0]}, 3));
    result.exact.add(2);
  }
  if (c.residual) result.inputs.push_back(random_normal(y, 4));
  result.sum_length = std::max(c.w.elements() / c.w[0] * std::max<Index>(1, c.w[0]), y.rows()) + 2;
  return result;
}

TEST(Conv2d, GradientsAndEngines) {
  const std::vector<ConvCase> cases{
      // what                     x               w              options
      {"pointwise", {2, 3, 3, 5}, {4, 1, 1, 5}},
      {"3x3 same", {1, 5, 4, 3}, {6, 3, 3, 3}, {.padding = kSame}},
      {"same, stride 2, even", {1, 6, 6, 2}, {3, 3, 3, 2}, {.stride = 2, .padding = kSame}},
      {"same, stride 2, odd", {1, 7, 5, 2}, {3, 3, 3, 2}, {.stride = 2, .padding = kSame}},
      {"ResNet's first: 7x7, stride 2", {1, 13, 11, 3}, {4, 7, 7, 3}, {.stride = 2, .padding = pad(3)}, true},
      {"Inception's 1x7", {1, 5, 9, 4}, {3, 1, 7, 4}, {.padding = kSame}},
      {"Inception's 7x1", {1, 9, 5, 4}, {3, 7, 1, 4}, {.padding = kSame}},
      {"dilated", {1, 9, 8, 3}, {2, 3, 3, 3}, {.dilation = {2, 3}, .padding = pad(1)}},
      {"groups", {2, 5, 5, 6}, {4, 3, 3, 3}, {.padding = kSame, .groups = 2}},
      {"padding on two sides only", {1, 4, 4, 2}, {3, 3, 3, 2}, {.stride = 2, .padding = {.bottom = 1, .right = 1}}},
      {"bias and residual", {2, 4, 3, 3}, {5, 3, 3, 3}, {.padding = kSame}, true, true},
      {"prime channels", {1, 5, 5, 17}, {19, 3, 3, 17}, {.padding = kSame}, true},
      {"padding wider than the image", {1, 1, 1, 3}, {2, 3, 3, 3}, {.padding = pad(2)}},
      {"empty batch", {0, 4, 4, 3}, {2, 3, 3, 3}, {}, true},
  };
  for (const ConvCase& c : cases) test::check_op({make(c)});
}

// A fused activation is not a sum of products: gradients are checked, and the engines on the scale of the largest
// result.
TEST(Conv2d, FusedActivations) {
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::sigmoid, Activation::tanh}) {
    OpCase c = make({"fused", {2, 4, 4, 3}, {5, 3, 3, 3}, {.padding = kSame, .activation = activation}, true, true});
    c.sum_of_products = false;
    test::check_gradients(c);
    test::check_engines(c);
  }
}

TEST(Conv2d, MatchesTheFormula) {
  const Tensor x = Tensor::from<float>({1, 2, 2, 1}, {1, 2, 3, 4});
  const Tensor w = Tensor::from<float>({1, 2, 2, 1}, {10, 20, 30, 40});
  EXPECT_EQ(ops::conv2d(x, w).item(), 10 + 2 * 20 + 3 * 30 + 4 * 40);
}

TEST(Conv2d, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({8, 56, 56, 32});
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({128, 3, 3, 64})),
               "[conv2d] expected input channels 64 (weight [128, 3, 3, 64], 1 groups), got 32");
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({8, 3, 3, 32}), {.groups = 3}), "3 groups do not divide");
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({8, 59, 3, 32})),
               "the window reaches over 59 pixels, the padded image has 56");
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({8, 3, 3, 32}), {.activation = Activation::gelu}), "gelu cannot be fused");
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({8, 3, 3, 32}), {}, Tensor::zeros({7})), "expected bias [8], got [7]");
}

}  // namespace
}  // namespace graft
