#include "graft/ops/loss.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/autograd/backward.h"

#include "kernels/loss.h"
#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;
using test::random_normal;

template <class T>
Tensor labels(Index count, Index classes) {
  Tensor tensor = Tensor::empty({count}, dtype_of<T>);
  for (Index i = 0; i < count; ++i) tensor.mutable_data<T>()[i] = static_cast<T>((i * 7 + 3) % classes);
  return tensor;
}

// 0, 1, 2, 0, 1, ...: the first row never counts.
Tensor some_weights(Index count) {
  Tensor tensor = Tensor::empty({count}, DType::f64);
  for (Index i = 0; i < count; ++i) tensor.mutable_data<double>()[i] = static_cast<double>(i % 3);
  return tensor;
}

std::vector<OpCase> softmax_table() {
  std::vector<OpCase> rows;
  for (const Shape& shape : {Shape{1, 1}, Shape{1, 7}, Shape{5, 3}, Shape{13, 17}, Shape{2, 1000}, Shape{0, 4}}) {
    for (const double smoothing : {0.0, 0.1}) {
      for (const bool weighted : {false, true}) {
        OpCase c{.what = shape.to_string(), .op = std::make_shared<ops::SoftmaxCrossEntropy>(smoothing, weighted)};
        c.inputs = {random_normal(shape, 1), labels<std::int64_t>(shape[0], shape[1])};
        if (weighted) c.inputs.push_back(some_weights(shape[0]));
        c.sum_length = shape.elements();
        c.constant = {2};
        c.exact = {2};
        rows.push_back(c);
      }
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(SoftmaxCrossEntropy, OpTable, testing::ValuesIn(softmax_table()));

TEST(SoftmaxCrossEntropy, OfEqualLogitsIsTheLogarithmOfTheirNumber) {
  const Tensor logits = Tensor::full({3, 10}, 4, DType::f64);
  EXPECT_NEAR(ops::softmax_cross_entropy(logits, labels<std::int32_t>(3, 10)).item(), std::log(10.0), 1e-14);
  EXPECT_NEAR(ops::softmax_cross_entropy(logits, labels<std::int32_t>(3, 10), {.label_smoothing = 0.3}).item(),
              std::log(10.0), 1e-14);
}

// Two classes with logits 0 and x: softplus(x) for label 0, softplus(-x) for label 1; smoothing mixes them.
TEST(SoftmaxCrossEntropy, MatchesTheFormula) {
  const Tensor logits = Tensor::from<double>({1, 2}, {0, 2}), label = Tensor::from<std::int32_t>({1}, {1});
  const double hit = std::log1p(std::exp(-2.0)), miss = std::log1p(std::exp(2.0));
  EXPECT_NEAR(ops::softmax_cross_entropy(logits, label).item(), hit, 1e-15);
  EXPECT_NEAR(ops::softmax_cross_entropy(logits, label, {.label_smoothing = 0.2}).item(), 0.9 * hit + 0.1 * miss,
              1e-15);
}

TEST(SoftmaxCrossEntropy, LeavesOutRowsOfWeightZero) {
  const float nan = std::nanf("");
  Tensor padded = Tensor::from<float>({3, 2}, {1, 2, nan, nan, 0.5f, -1});
  const Tensor padded_labels = Tensor::from<std::int64_t>({3}, {0, -1, 1}),
               weights = Tensor::from<float>({3}, {1, 0, 1});
  const Tensor rows = Tensor::from<float>({2, 2}, {1, 2, 0.5f, -1}),
               row_labels = Tensor::from<std::int64_t>({2}, {0, 1});
  padded.set_requires_grad(true);
  const Tensor loss = ops::softmax_cross_entropy(padded, padded_labels, {.weights = weights});
  EXPECT_EQ(loss.item(), ops::softmax_cross_entropy(rows, row_labels).item());
  autograd::backward(loss);
  EXPECT_EQ(padded.grad().data<float>()[2], 0);
  EXPECT_EQ(padded.grad().data<float>()[3], 0);
  const Tensor none = Tensor::zeros({3});
  EXPECT_EQ(ops::softmax_cross_entropy(padded, padded_labels, {.weights = none}).item(), 0);
}

// Padding on a device: rows of weight zero may hold anything, labels included.
TEST(SoftmaxCrossEntropy, LeavesOutRowsOfWeightZeroOnADevice) {
  const float nan = std::nanf("");
  for (const Device device : test::devices()) {
    Tensor padded = Tensor::from<float>({3, 2}, {1, 2, nan, nan, 0.5f, -1}).to(device);
    padded.set_requires_grad(true);
    const Tensor label = Tensor::from<std::int64_t>({3}, {0, -1, 1}).to(device),
                 weights = Tensor::from<float>({3}, {1, 0, 1}).to(device);
    const Tensor rows = Tensor::from<float>({2, 2}, {1, 2, 0.5f, -1}),
                 row_labels = Tensor::from<std::int64_t>({2}, {0, 1});
    const Tensor loss = ops::softmax_cross_entropy(padded, label, {.weights = weights});
    EXPECT_NEAR(loss.item(), ops::softmax_cross_entropy(rows, row_labels).item(), 1e-6);
    autograd::backward(loss);
    const Tensor gradient = padded.grad().to(Device{});
    EXPECT_EQ(gradient.data<float>()[2], 0);
    EXPECT_EQ(gradient.data<float>()[3], 0);
    EXPECT_TRUE(std::isfinite(gradient.data<float>()[0]));
    EXPECT_EQ(ops::softmax_cross_entropy(padded, label, {.weights = Tensor::zeros({3}).to(device)}).item(), 0);
  }
}

// A kernel cannot throw: the loss shows that a label is wrong, and so does the gradient of its row and of no other.
TEST(SoftmaxCrossEntropy, OfAnImpossibleLabelIsNanOnADevice) {
  for (const Device device : test::devices()) {
    for (const std::int64_t impossible : {std::int64_t{-1}, std::int64_t{3}, std::int64_t{1} << 40}) {
      Tensor logits = Tensor::zeros({2, 3}).to(device);
      logits.set_requires_grad(true);
      const Tensor label = Tensor::from<std::int64_t>({2}, {1, impossible}).to(device);
      const Tensor loss = ops::softmax_cross_entropy(logits, label);
      EXPECT_TRUE(std::isnan(loss.item())) << impossible;
      autograd::backward(loss);
      const Tensor gradient = logits.grad().to(Device{});
      EXPECT_TRUE(std::isfinite(gradient.data<float>()[0]));
      EXPECT_TRUE(std::isnan(gradient.data<float>()[5]));
    }
  }
}

// Logits and their gradient in a channel range of wider rows.
TEST(SoftmaxCrossEntropy, ReadsRowsThatLieApart) {
  constexpr Index kRows = 5, kClasses = 6, kPitch = 9;
  const Tensor wide = random_normal({kRows, kPitch}, 1), label = labels<std::int32_t>(kRows, kClasses);
  for (const Device device : test::devices()) {
    std::vector<std::vector<double>> gradients;
    for (const Device where : {Device{}, device}) {
      ContextScope scope;
      scope->device = where;
      scope->engine = Engine::native;
      const Tensor x = wide.to(where), y = label.to(where), loss = Tensor::zeros({}, DType::f64, where),
                   sums = Tensor::zeros({kRows}, DType::f64, where), one = Tensor::full({}, 1, DType::f64, where),
                   dx = Tensor::zeros({kRows, kPitch}, DType::f64, where);
      const auto range = [&](const Tensor& tensor) {
        Operand part(tensor.raw(), {kRows, kClasses}, DType::f64);
        part.pitch = kPitch;
        return part;
      };
      kernels::softmax_cross_entropy_forward(Context::current(), 0.1, range(x), y, {}, loss, sums);
      kernels::softmax_cross_entropy_backward(Context::current(), 0.1, range(x), y, {}, sums, one, {range(dx)});
      const Tensor back = dx.to(Device{});
      gradients.emplace_back(back.data<double>(), back.data<double>() + back.elements());
      gradients.back().push_back(loss.item());
    }
    EXPECT_THAT(gradients[1], testing::Pointwise(testing::DoubleNear(1e-14), gradients[0]));
    EXPECT_EQ(gradients[1][kClasses], 0) << "written beside its range";
  }
}

TEST(SoftmaxCrossEntropy, IsComputedInF32ForHalves) {
  const Tensor logits = Tensor::zeros({2, 3}, DType::bf16);
  EXPECT_EQ(ops::softmax_cross_entropy(logits, labels<std::int32_t>(2, 3)).dtype(), DType::f32);
}

TEST(SoftmaxCrossEntropy, NamesWhatDoesNotFit) {
  const Tensor logits = Tensor::zeros({2, 3});
  EXPECT_ERROR(ops::softmax_cross_entropy(logits, Tensor::from<std::int64_t>({2}, {0, 3})),
               "label 3 of row 1 is not among the 3 classes");
  EXPECT_ERROR(ops::softmax_cross_entropy(logits, Tensor::from<std::int32_t>({2}, {-1, 0})),
               "label -1 of row 0 is not among the 3 classes");
  EXPECT_ERROR(ops::softmax_cross_entropy(logits, Tensor::zeros({2})), "expected labels in i32 or i64, got f32");
  EXPECT_ERROR(ops::softmax_cross_entropy(logits, labels<std::int32_t>(3, 3)),
               "expected labels [2] for logits [2, 3], got [3]");
  EXPECT_ERROR(ops::softmax_cross_entropy(logits, labels<std::int32_t>(2, 3), {.label_smoothing = 1}),
               "label smoothing lies in [0, 1), got 1");
  Tensor weights = Tensor::full({2}, 1);
  weights.set_requires_grad(true);
  EXPECT_ERROR(autograd::backward(ops::softmax_cross_entropy(logits, labels<std::int32_t>(2, 3), {.weights = weights})),
               "has no gradient for the weights");
}

std::vector<OpCase> binary_table() {
  std::vector<OpCase> rows;
  for (const Shape& shape : {Shape{1}, Shape{7}, Shape{3, 5}, Shape{2, 3, 4, 1}, Shape{0, 4}, Shape{4, 0}}) {
    for (const bool weighted : {false, true}) {
      OpCase c{.what = shape.to_string(), .op = std::make_shared<ops::BinaryCrossEntropy>(weighted)};
      c.inputs = {random_normal(shape, 1), random_normal(shape, 2, 0.2, 0.5)};
      if (weighted) c.inputs.push_back(some_weights(shape[0]));
      c.sum_length = shape.elements();
      c.constant = {2};
      c.exact = {2};
      rows.push_back(c);
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(BinaryCrossEntropy, OpTable, testing::ValuesIn(binary_table()));

TEST(BinaryCrossEntropy, MatchesTheFormula) {
  const auto loss = [](double x, double t) {
    return ops::binary_cross_entropy(Tensor::full({1}, x, DType::f64), Tensor::full({1}, t, DType::f64)).item();
  };
  EXPECT_NEAR(loss(0, 0.3), std::log(2.0), 1e-15);
  EXPECT_NEAR(loss(2, 1), std::log1p(std::exp(-2.0)), 1e-15);
  EXPECT_EQ(loss(1000, 0), 1000);
  EXPECT_EQ(loss(-1000, 0), 0);
}

TEST(BinaryCrossEntropy, NamesWhatDoesNotFit) {
  EXPECT_ERROR(ops::binary_cross_entropy(Tensor::zeros({2, 1}), Tensor::zeros({2})),
               "[binary_cross_entropy] expected targets f32 [2, 1] like the logits");
}

}  // namespace
}  // namespace graft
