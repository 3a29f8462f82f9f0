#include "graft/ops/layer_norm.h"

#include <cmath>

#include <gtest/gtest.h>

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;

using test::random_normal;

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  for (const Shape& x : {Shape{7}, Shape{3, 5}, Shape{2, 3, 17}, Shape{2, 1, 4}, Shape{1, 5, 192}, Shape{1100, 3},
                         Shape{5, 264}, Shape{300, 40}, Shape{0, 5}}) {
    for (const double epsilon : {1e-6, 1e-1}) {
      rows.push_back({.what = x.to_string(),
                      .op = std::make_shared<ops::LayerNorm>(epsilon),
                      .inputs = {random_normal(x, 1, 2, 1), random_normal({x[-1]}, 2), random_normal({x[-1]}, 3)},
                      .sum_length = std::max(x.rows(), x[-1]),
                      .exact = {1, 2}});
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(LayerNorm, OpTable, testing::ValuesIn(table()));

// A row of one channel is its own mean, so nothing is left of it.
TEST(LayerNorm, OfOneChannelIsBeta) {
  const Tensor y =
      ops::layer_norm(random_normal({3, 1}, 1), Tensor::full({1}, 5, DType::f64), Tensor::full({1}, 2, DType::f64));
  EXPECT_THAT(y.values<double>(), testing::Each(2));
}

// Mean 2, variance 1.
TEST(LayerNorm, MatchesTheFormula) {
  const Tensor x = Tensor::from<double>({1, 2}, {1, 3}), gamma = Tensor::from<double>({2}, {10, 20}),
               beta = Tensor::from<double>({2}, {1, 2});
  const double s = 1 / std::sqrt(1 + 1e-3);
  EXPECT_THAT(ops::layer_norm(x, gamma, beta, 1e-3).values<double>(),
              testing::ElementsAre(testing::DoubleNear(1 - 10 * s, 1e-14), testing::DoubleNear(2 + 20 * s, 1e-14)));
}

TEST(LayerNorm, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({2, 3}), three = Tensor::zeros({3});
  EXPECT_ERROR(ops::layer_norm(x, Tensor::zeros({2}), three), "[layer_norm] expected gamma [3], got [2]");
  EXPECT_ERROR(ops::layer_norm(x, three, Tensor::zeros({3}, DType::f64)), "[layer_norm] expected beta in f32, got f64");
  EXPECT_ERROR(ops::layer_norm(x, three, three, 0), "[layer_norm] epsilon must be above 0, got 0");
}

}  // namespace
}  // namespace graft
