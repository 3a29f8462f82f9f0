#include "graft/ops/shape.h"

#include <numeric>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/reduce.h"

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;
using test::random_normal;
using testing::ElementsAre;

template <class O>
OpCase row(const std::string& what, O op, const std::vector<Shape>& shapes) {
  OpCase c{.what = what, .op = std::make_shared<O>(std::move(op)), .sum_of_products = true};
  for (const Shape& shape : shapes) c.inputs.push_back(random_normal(shape, c.inputs.size() + 1));
  return c;
}

std::vector<OpCase> table() {
  using namespace ops;
  return {
      row("flatten", Reshape({-1, 60}), {{2, 3, 4, 5}}),
      row("to a scalar", Reshape({}), {{1, 1}}),
      row("empty", Reshape({-1, 4}), {{0, 2, 2}}),
      row("NHWC to NCHW", Permute({0, 3, 1, 2}), {{2, 3, 4, 5}}),
      row("heads", Permute({0, 2, 1, 3}), {{2, 5, 3, 4}}),
      row("reversed", Permute({-1, -2, -3}), {{3, 1, 7}}),
      row("large enough for threads", Permute({1, 0}), {{201, 203}}),
      row("empty", Permute({1, 0}), {{0, 3}}),
      row("channels", Concat(-1), {{2, 3, 3, 4}, {2, 3, 3, 1}, {2, 3, 3, 7}}),
      row("batch", Concat(0), {{2, 3}, {0, 3}, {1, 3}}),
      row("a middle axis", Concat(1), {{2, 1, 3}, {2, 4, 3}}),
      row("one part", Concat(0), {{5}}),
      row("empty batch", Concat(1), {{0, 2}, {0, 3}}),
      row("a box", Slice({1, 0, 2}, {2, -1, 1}), {{4, 3, 5}}),
      row("trailing axes stay", Slice({1}, {2}), {{4, 3, 2}}),
      row("nothing", Slice({2, 0}, {0, 3}), {{4, 3}}),
      row("an image", Pad({.before = {0, 1, 2, 0}, .after = {0, 2, 1, 0}, .value = 3}), {{2, 3, 2, 3}}),
      row("channels", Pad({.before = {0, 1}, .after = {0, 0}}), {{4, 3}}),
      row("empty batch", Pad({.before = {0, 1}, .after = {0, 1}}), {{0, 3}}),
      row("exact", Cast(DType::f64), {{3, 5}}),
  };
}

INSTANTIATE_TEST_SUITE_P(ShapeOps, OpTable, testing::ValuesIn(table()));

Tensor ladder(const Shape& shape) {
  Tensor x = Tensor::empty(shape, DType::i32);
  std::iota(x.mutable_data<std::int32_t>(), x.mutable_data<std::int32_t>() + x.elements(), 0);
  return x;
}

TEST(ShapeOps, MoveElementsOfAnyType) {
  const Tensor x = ladder({2, 3});
  const auto values = [](const Tensor& t) { return t.values<std::int32_t>(); };
  EXPECT_EQ(ops::reshape(x, {3, -1}).storage(), x.storage());
  EXPECT_THAT(values(ops::transpose(x)), ElementsAre(0, 3, 1, 4, 2, 5));
  const std::vector<Tensor> parts{x, ladder({2, 1})};
  EXPECT_THAT(values(ops::concat(parts)), ElementsAre(0, 1, 2, 0, 3, 4, 5, 1));
  EXPECT_THAT(values(ops::slice(x, {0, 1}, {-1, 2})), ElementsAre(1, 2, 4, 5));
  EXPECT_THAT(values(ops::pad(ladder({1, 2}), {.before = {1, 0}, .after = {0, 1}, .value = 9})),
              ElementsAre(9, 9, 9, 0, 1, 9));
  EXPECT_THAT(ops::cast(x, DType::f64).values<double>(), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(ShapeOps, CastGivesTheGradientBackInTheTypeOfTheInput) {
  Tensor x = Tensor::full({3}, 0.5);
  x.set_requires_grad(true);
  autograd::backward(ops::sum(ops::cast(x, DType::bf16)));
  EXPECT_EQ(x.grad().dtype(), DType::f32);
  EXPECT_THAT(x.grad().values<float>(), ElementsAre(1, 1, 1));
  EXPECT_FALSE(ops::cast(x, DType::i32).requires_grad());
}

TEST(ShapeOps, NameWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_ERROR(ops::reshape(x, {4, 2}), "[reshape] [2, 3] has 6 elements, [4, 2] has 8");
  EXPECT_ERROR(ops::reshape(x, {-1, 4}), "[reshape] [2, 3] cannot become [-1, 4]: no extent in place of -1 fits");
  EXPECT_ERROR(ops::permute(x, {0}), "[permute] [2, 3] has 2 axes, got 1");
  EXPECT_ERROR(ops::permute(x, {1, -1}), "[permute] axis -1 of [2, 3] is given twice");
  const std::vector<Tensor> parts{x, Tensor::zeros({3, 3})};
  EXPECT_ERROR(ops::concat(parts, 1), "[concat] f32 [3, 3] does not fit f32 [2, 3] along axis 1");
  EXPECT_ERROR(ops::slice(x, {0, 2}, {1, 2}), "[slice] axis 1 of [2, 3] has no 2 elements from 2 on");
  EXPECT_ERROR(ops::pad(x, {.before = {1}, .after = {0, 0}}),
               "[pad] [2, 3] has 2 axes, got 1 numbers before and 2 after");
}

}  // namespace
}  // namespace graft
