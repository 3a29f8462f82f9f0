#include "graft/ops/activation.h"

#include <cmath>

#include <gtest/gtest.h>

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;

const std::vector<Activation> kAll{Activation::linear, Activation::relu, Activation::relu6,     Activation::sigmoid,
                                   Activation::tanh,   Activation::gelu, Activation::gelu_tanh, Activation::silu};

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  for (const Activation function : kAll) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{2, 3, 5, 7}, Shape{17}, Shape{0, 4, 4, 3}}) {
      // Steps of 0.07 reach from -7 to 7 and meet neither 0 nor 6, where relu6 has its kinks.
      rows.push_back({.what = shape.to_string(),
                      .op = std::make_shared<ops::Activate>(function),
                      .inputs = {test::distinct(shape, 3, 0.07)}});
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Activate, OpTable, testing::ValuesIn(table()));

// Rows of a tensor begin anywhere, which a kernel that loads vectors must not mind.
TEST(Activate, TakesRowsThatAreNotAligned) {
  const Tensor x = test::distinct({3, 7}, 3, 0.07).to(DType::f32);
  const Tensor want = ops::relu(x.rows(1, 2));
  for (const Device device : test::devices()) {
    const Tensor got = ops::relu(x.to(device).rows(1, 2)).to(Device{});
    for (Index i = 0; i < want.elements(); ++i) EXPECT_EQ(got.data<float>()[i], want.data<float>()[i]) << i;
  }
}

TEST(Activate, MatchesTheFormulas) {
  const std::vector<double> xs{-7, -1.5, 0, 0.25, 3, 6.5};
  const Tensor x = Tensor::from<double>({6}, xs);
  const auto expect = [&](const Tensor& y, double (*f)(double)) {
    for (std::size_t i = 0; i < xs.size(); ++i) EXPECT_NEAR(y.data<double>()[i], f(xs[i]), 1e-14) << "at " << xs[i];
  };
  expect(ops::relu(x), [](double v) { return std::max(v, 0.0); });
  expect(ops::relu6(x), [](double v) { return std::min(std::max(v, 0.0), 6.0); });
  expect(ops::sigmoid(x), [](double v) { return 1 / (1 + std::exp(-v)); });
  expect(ops::tanh(x), [](double v) { return std::tanh(v); });
  expect(ops::gelu(x), [](double v) { return v * 0.5 * std::erfc(-v / std::sqrt(2.0)); });
  expect(ops::gelu_tanh(x),
         [](double v) { return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); });
  expect(ops::silu(x), [](double v) { return v / (1 + std::exp(-v)); });
}

TEST(Activate, KeepsNaN) {
  const Tensor x = Tensor::full({1}, std::nan(""), DType::f64);
  for (const Activation function : kAll) EXPECT_TRUE(std::isnan(ops::activate(x, function).item())) << name(function);
}

TEST(Activate, NeedsAFloatingType) {
  EXPECT_ERROR(ops::relu(Tensor::zeros({2}, DType::i32)), "[relu] needs a floating type, got i32");
}

}  // namespace
}  // namespace graft
