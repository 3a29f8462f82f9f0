#include "graft/ops/conv2d.h"

#include <gtest/gtest.h>

#include "kernels/conv2d.h"
#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;
using test::random_normal;

struct ConvCase {
  std::string what;
  Shape x, w;
  ops::Conv2dOptions options = {};
  bool bias = false, residual = false;
};

OpCase make(const ConvCase& c) {
  OpCase result{.what = c.what,
                .op = std::make_shared<ops::Conv2d>(c.options, c.bias, c.residual),
                .sum_of_products = true,
                .tf32 = true};
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

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
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
      {"whole vectors", {2, 6, 5, 16}, {40, 3, 3, 16}, {.padding = kSame}, true, true},
      {"whole vectors, stride 2, groups", {1, 7, 6, 32}, {32, 3, 3, 16}, {.stride = 2, .padding = pad(1), .groups = 2}},
      {"rows of several tiles: 1x5", {2, 5, 9, 12}, {34, 1, 5, 12}, {.padding = kSame}, true},
      {"columns of several tiles: 5x1", {3, 9, 5, 9}, {20, 5, 1, 9}, {.stride = {2, 1}, .padding = kSame}},
      {"stride 3 with dilation 2", {1, 11, 10, 8}, {8, 3, 2, 8}, {.stride = 3, .dilation = 2, .padding = pad(1)}},
      {"pointwise, stride 2: pixels that no window sees", {1, 5, 6, 8}, {16, 1, 1, 8}, {.stride = 2}},
      {"one group a channel, two filters each", {1, 4, 5, 3}, {6, 3, 3, 1}, {.padding = kSame, .groups = 3}},
      {"padding wider than the image", {1, 1, 1, 3}, {2, 3, 3, 3}, {.padding = pad(2)}},
      {"padding wider than the window", {2, 5, 4, 9}, {20, 1, 1, 9}, {.padding = pad(3)}},
      {"image narrower than the stride", {2, 1, 2, 8}, {8, 3, 3, 8}, {.stride = 3, .padding = pad(1)}},
      {"empty batch", {0, 4, 4, 3}, {2, 3, 3, 3}, {}, true},
  };
  rows.reserve(cases.size());
  for (const ConvCase& c : cases) rows.push_back(make(c));
  // A fused activation is not a sum of products: the engines are held to the scale of the largest result.
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::sigmoid, Activation::tanh}) {
    rows.push_back(
        make({"fused", {2, 4, 4, 3}, {5, 3, 3, 3}, {.padding = kSame, .activation = activation}, true, true}));
    rows.back().sum_of_products = rows.back().tf32 = false;
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Conv2d, OpTable, testing::ValuesIn(table()));

// Operands may be channel ranges of wider tensors; what lies beside them stays as it was.
TEST(Conv2d, ReadsAndWritesChannelRanges) {
  const ConvGeometry g{{.batch = 2,
                        .height = 5,
                        .width = 4,
                        .channels = 8,
                        .kernel_height = 3,
                        .kernel_width = 3,
                        .stride_height = 2,
                        .stride_width = 1,
                        .pad_top = 1,
                        .pad_left = 1,
                        .pad_bottom = 1,
                        .pad_right = 1,
                        .out_height = 3,
                        .out_width = 4},
                       16};
  const auto rounded = [](const Shape& shape, std::uint64_t seed) { return random_normal(shape, seed).to(DType::f32); };
  const Tensor x = rounded({2, 5, 4, 8}, 1), w = rounded({16, 3, 3, 8}, 2), residual = rounded({2, 3, 4, 16}, 3),
               dz = rounded({2, 3, 4, 16}, 4);
  // A tensor in channels `first` to `first + C - 1` of one that is wider and full of sevens.
  const auto widened = [](const Tensor& tensor, Index wide, Index first, Device device) {
    const Index channels = tensor.shape()[-1];
    Tensor result = Tensor::full(tensor.shape().with(3, wide), 7, DType::f32);
    for (Index i = 0; i < tensor.elements(); ++i)
      result.mutable_data<float>()[i / channels * wide + first + i % channels] = tensor.data<float>()[i];
    return result.to(device);
  };
  const auto range = [](const Tensor& wide, Index first, Index channels) {
    Operand operand = wide;
    operand.data = static_cast<float*>(operand.data) + first;
    operand.shape = operand.shape.with(3, channels);
    return operand;
  };
  const auto expect_range = [](const Tensor& got, const Tensor& want, Index first, const std::string& what) {
    const Tensor here = got.to(Device{});
    const Index wide = here.shape()[-1], channels = want.shape()[-1];
    for (Index i = 0; i < here.elements(); ++i) {
      const Index c = i % wide - first;
      const bool inside = c >= 0 && c < channels;
      const float value = inside ? want.data<float>()[i / wide * channels + c] : 7.f;
      ASSERT_NEAR(here.data<float>()[i], value, inside ? 1e-4 : 0) << what << ", element " << i;
    }
  };
  ContextScope scope;
  scope->engine = Engine::native;
  const Tensor y = Tensor::empty({2, 3, 4, 16}, DType::f32), dx = Tensor::empty({2, 5, 4, 8}, DType::f32),
               dw = Tensor::empty({16, 3, 3, 8}, DType::f32);
  Context& context = Context::current();
  kernels::conv2d_forward(context, g, x, w, {}, residual, Activation::relu, y);
  kernels::conv2d_backward_input(context, g, dz, w, {dx, false});
  kernels::conv2d_backward_weight(context, g, x, dz, {dw, false});
  for (const Device device : test::devices()) {
    scope->device = device;
    for (const Index first : {1, 4}) {  // from an address that vectors may not begin at, and from one that they may
      const std::string what = device.to_string() + " from channel " + std::to_string(first);
      const Tensor wide_x = widened(x, 16, first, device), wide_residual = widened(residual, 20 + first, first, device),
                   wide_dz = widened(dz, 24, first, device), there_w = w.to(device);
      const Tensor wide_y = widened(Tensor::zeros(y.shape()), 24, first, device),
                   wide_dx = widened(Tensor::zeros(dx.shape()), 16, first, device),
                   there_dw = Tensor::full(w.shape(), 7, DType::f32, device);
      kernels::conv2d_forward(context, g, range(wide_x, first, 8), there_w, {}, range(wide_residual, first, 16),
                              Activation::relu, range(wide_y, first, 16));
      expect_range(wide_y, y, first, what + ", y");
      kernels::conv2d_backward_input(context, g, range(wide_dz, first, 16), there_w, {range(wide_dx, first, 8), false});
      expect_range(wide_dx, dx, first, what + ", dx");
      kernels::conv2d_backward_weight(context, g, range(wide_x, first, 8), range(wide_dz, first, 16),
                                      {there_dw, false});
      expect_range(there_dw, dw, 0, what + ", dw");
    }
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
  Tensor(x).set_requires_grad(true);
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({8, 3, 3, 32}), {.activation = Activation::gelu}), "gelu cannot be fused");
  EXPECT_ERROR(ops::conv2d(x, Tensor::zeros({8, 3, 3, 32}), {}, Tensor::zeros({7})), "expected bias [8], got [7]");
}

}  // namespace
}  // namespace graft
