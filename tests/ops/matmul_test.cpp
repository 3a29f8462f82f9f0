#include "graft/ops/matmul.h"

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
  struct Case {
    std::string what;
    Index m, k, n;
    std::vector<Index> batch_a = {}, batch_b = {};
  };
  const std::vector<Case> cases{
      {"one number", 1, 1, 1},
      {"a matrix", 3, 5, 4},
      {"a vector", 5, 7, 1},
      {"a batch", 3, 5, 2, {4}, {4}},
      {"b for the whole batch", 3, 5, 2, {4}, {}},
      {"a repeated in the middle", 3, 2, 4, {2, 1, 3}, {2, 5, 3}},
      {"both repeated", 3, 2, 4, {2, 1}, {1, 3}},
      {"more rows and columns than a block", 17, 3, 259},
      {"longer sums than a block", 3, 1031, 5},
      {"nothing to sum", 3, 0, 2},
      {"empty batch", 3, 5, 2, {0}, {0}},
  };
  const auto shape = [](std::vector<Index> batch, Index height, Index width, bool transpose) {
    batch.push_back(transpose ? width : height);
    batch.push_back(transpose ? height : width);
    return Shape(std::span<const Index>(batch));
  };
  for (const Case& c : cases) {
    for (const auto& [ta, tb] : {std::pair{false, false}, {false, true}, {true, false}, {true, true}}) {
      OpCase row{.what = c.what,
                 .op = std::make_shared<ops::Matmul>(ops::MatmulOptions{ta, tb}),
                 .sum_of_products = true,
                 .tf32 = true};
      row.inputs = {random_normal(shape(c.batch_a, c.m, c.k, ta), 1), random_normal(shape(c.batch_b, c.k, c.n, tb), 2)};
      row.sum_length = 8 * std::max({c.m, c.n, c.k});
      rows.push_back(row);
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Matmul, OpTable, testing::ValuesIn(table()));

TEST(Matmul, MatchesTheFormula) {
  const Tensor a = Tensor::from<float>({2, 2}, {1, 2, 3, 4}), b = Tensor::from<float>({2, 2}, {10, 20, 30, 40});
  EXPECT_THAT(ops::matmul(a, b).values<float>(), testing::ElementsAre(70, 100, 150, 220));
  EXPECT_THAT(ops::matmul(a, b, {.transpose_b = true}).values<float>(), testing::ElementsAre(50, 110, 110, 250));
}

TEST(Matmul, NamesWhatDoesNotFit) {
  EXPECT_ERROR(ops::matmul(Tensor::zeros({2, 3}), Tensor::zeros({2, 3})),
               "[matmul] [2, 3] and [2, 3] do not fit: the inner extents are 3 and 2");
  EXPECT_ERROR(ops::matmul(Tensor::zeros({4, 2, 3}), Tensor::zeros({5, 3, 2})),
               "[matmul] [4] and [5] do not broadcast");
  EXPECT_ERROR(ops::matmul(Tensor::zeros({3}), Tensor::zeros({3, 2})), "[matmul] expected matrices");
}

}  // namespace
}  // namespace graft
