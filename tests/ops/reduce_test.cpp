#include "graft/ops/reduce.h"

#include <gtest/gtest.h>

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;

using ops::Reduce;

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  struct Case {
    std::string what;
    Shape x;
    ops::ReduceOptions options;
  };
  const std::vector<Case> cases{
      {"a scalar", {}, {}},
      {"everything", {2, 3, 5}, {}},
      {"everything, kept", {2, 3, 5}, {.keep_dims = true}},
      {"last axis", {7, 5}, {.axes = {-1}}},
      {"first axis", {7, 5}, {.axes = {0}, .keep_dims = true}},
      {"space", {2, 3, 4, 5}, {.axes = {1, 2}}},
      {"batch and channels", {2, 3, 4, 5}, {.axes = {3, 0}}},
      {"an axis of one", {3, 1, 2}, {.axes = {1}}},
      {"longer than a block", {40011}, {}},
      {"many rows", {700, 53}, {.axes = {0}}},
      {"one channel", {700, 1}, {.axes = {0}}},
      {"empty batch", {0, 3}, {.axes = {1}}},
  };
  for (const auto function : {Reduce::Function::sum, Reduce::Function::mean}) {
    for (const Case& c : cases) {
      rows.push_back({.what = c.what,
                      .op = std::make_shared<Reduce>(function, c.options),
                      .inputs = {test::random_normal(c.x, 1)},
                      .sum_of_products = true,
                      .sum_length = c.x.elements()});
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Reduce, OpTable, testing::ValuesIn(table()));

TEST(Reduce, MatchesTheFormulas) {
  const Tensor x = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(ops::sum(x).item(), 21);
  EXPECT_EQ(ops::mean(x).item(), 3.5);
  EXPECT_THAT(ops::sum(x, {.axes = {0}}).values<float>(), testing::ElementsAre(5, 7, 9));
  EXPECT_THAT(ops::mean(x, {.axes = {1}, .keep_dims = true}).values<float>(), testing::ElementsAre(2, 5));
  EXPECT_EQ(ops::mean(x, {.axes = {1}, .keep_dims = true}).shape(), (Shape{2, 1}));
}

TEST(Reduce, OverNothing) {
  EXPECT_THAT(ops::sum(Tensor::zeros({0, 2}), {.axes = {0}}).values<float>(), testing::ElementsAre(0, 0));
  EXPECT_THAT(ops::sum(Tensor::zeros({2, 0}), {.axes = {1}}).values<float>(), testing::ElementsAre(0, 0));
  EXPECT_EQ(ops::mean(Tensor::zeros({0})).item(), 0);
}

TEST(Reduce, NamesTheWrongAxis) {
  EXPECT_ERROR(ops::sum(Tensor::zeros({2, 3}), {.axes = {2}}), "[2, 3] has no axis 2");
  EXPECT_ERROR(ops::sum(Tensor::zeros({2, 3}), {.axes = {1, -1}}), "[sum] axis -1 of [2, 3] is given twice");
}

}  // namespace
}  // namespace graft
