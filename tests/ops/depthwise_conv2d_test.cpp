#include "graft/ops/depthwise_conv2d.h"

#include <gtest/gtest.h>

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;
using test::random_normal;

struct DepthwiseCase {
  std::string what;
  Shape x, w;
  ops::DepthwiseConv2dOptions options = {};
  bool bias = false;
};

OpCase make(const DepthwiseCase& c) {
  OpCase result{
      .what = c.what, .op = std::make_shared<ops::DepthwiseConv2d>(c.options, c.bias), .sum_of_products = true};
  result.inputs = {random_normal(c.x, 1), random_normal(c.w, 2)};
  result.exact.add(1);
  const std::vector<Spec> specs{result.inputs[0].spec(), result.inputs[1].spec()};
  const Shape y = ops::DepthwiseConv2d(c.options, false).infer(specs).front().shape;
  if (c.bias) {
    result.inputs.push_back(random_normal({c.w[2]}, 3));
    result.exact.add(2);
  }
  result.sum_length = std::max(c.w[0] * c.w[1] * c.w[2] / c.x[3], y.rows()) + 1;
  return result;
}

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  const std::vector<DepthwiseCase> cases{
      // what                     x               w             options
      {"3x3 same", {1, 5, 4, 3}, {3, 3, 3}, {.padding = kSame}},
      {"MobileNet's stride 2", {1, 8, 8, 16}, {3, 3, 16}, {.stride = 2, .padding = {.bottom = 1, .right = 1}}, true},
      {"same, stride 2, odd", {2, 7, 5, 2}, {3, 3, 2}, {.stride = 2, .padding = kSame}},
      {"5x5", {1, 6, 7, 8}, {5, 5, 8}, {.padding = pad(2)}},
      {"not square", {1, 5, 9, 4}, {1, 7, 4}, {.stride = {2, 1}, .padding = kSame}},
      {"dilated", {1, 9, 8, 3}, {3, 3, 3}, {.dilation = {2, 3}, .padding = pad(1)}},
      {"multiplier", {2, 5, 4, 3}, {3, 3, 6}, {.padding = kSame}, true},
      {"one channel, many kernels", {1, 4, 4, 1}, {2, 2, 5}},
      {"prime channels, more than the registers", {1, 4, 4, 67}, {3, 3, 67}, {.padding = kSame}, true},
      {"pointwise", {1, 3, 3, 16}, {1, 1, 16}},
      {"one pixel, all else padding", {1, 1, 1, 3}, {3, 3, 3}, {.padding = pad(2)}},
      {"last strip of one, in vectors", {2, 6, 9, 8}, {3, 3, 8}, {.padding = kSame}, true},
      {"stride 2, last strip of three", {1, 7, 14, 24}, {3, 3, 24}, {.stride = 2, .padding = kSame}},
      {"5x5, stride 2, in vectors", {1, 7, 6, 8}, {5, 5, 8}, {.stride = 2, .padding = kSame}},
      {"7x7, larger than the image", {1, 4, 5, 16}, {7, 7, 16}, {.padding = pad(3)}},
      {"dilated, in vectors", {1, 7, 7, 8}, {3, 3, 8}, {.dilation = 2, .padding = pad(2)}},
      {"multiplier, stride 2", {2, 5, 5, 8}, {3, 3, 16}, {.stride = 2, .padding = kSame}},
      {"multiplier, more padding than kernel", {1, 3, 3, 2}, {2, 2, 4}, {.padding = pad(2)}},
      {"more padding than kernel", {1, 3, 3, 8}, {3, 3, 8}, {.padding = pad(4)}},
      {"several parts of the weights' sum", {2, 13, 11, 40}, {3, 3, 40}, {.padding = kSame}},
      {"two blocks of channels", {1, 4, 4, 264}, {3, 3, 264}, {.padding = kSame}},
      {"empty batch", {0, 4, 4, 3}, {2, 2, 3}, {}, true},
  };
  rows.reserve(cases.size());
  for (const DepthwiseCase& c : cases) rows.push_back(make(c));
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::sigmoid, Activation::tanh}) {
    rows.push_back(make({"fused", {2, 4, 4, 19}, {3, 3, 19}, {.padding = kSame, .activation = activation}, true}));
    rows.back().sum_of_products = false;
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(DepthwiseConv2d, OpTable, testing::ValuesIn(table()));

TEST(DepthwiseConv2d, OutputChannelsOfOneInputStandTogether) {
  const Tensor x = Tensor::from<float>({1, 1, 1, 2}, {10, 100});
  const Tensor w = Tensor::from<float>({1, 1, 4}, {1, 2, 3, 4});
  EXPECT_THAT(ops::depthwise_conv2d(x, w).values<float>(), testing::ElementsAre(10, 20, 300, 400));
}

TEST(DepthwiseConv2d, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({1, 4, 4, 6});
  EXPECT_ERROR(ops::depthwise_conv2d(x, Tensor::zeros({3, 3, 8})),
               "[depthwise_conv2d] expected a multiple of 6 channels in weight [3, 3, 8]");
  EXPECT_ERROR(ops::depthwise_conv2d(x, Tensor::zeros({3, 3, 1, 6})),
               "expected input [N, H, W, C] and weight [Kh, Kw, C multiplier]");
  EXPECT_ERROR(ops::depthwise_conv2d(x, Tensor::zeros({3, 3, 12}), {}, Tensor::zeros({6})),
               "expected bias [12], got [6]");
  Tensor(x).set_requires_grad(true);
  EXPECT_ERROR(ops::depthwise_conv2d(x, Tensor::zeros({3, 3, 6}), {.activation = Activation::silu}),
               "silu cannot be fused");
}

}  // namespace
}  // namespace graft
