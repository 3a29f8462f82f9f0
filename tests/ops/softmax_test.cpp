#include "graft/ops/softmax.h"

#include <cmath>

#include <gtest/gtest.h>

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  for (const bool log : {false, true}) {
    // On a GPU a warp reads 32 numbers at once, and a row of 256 or of 1024 just fits its registers.
    for (const Shape& shape :
         {Shape{1}, Shape{7}, Shape{3, 1}, Shape{2, 3, 17}, Shape{3, 31}, Shape{2, 32}, Shape{2, 33}, Shape{2, 256},
          Shape{2, 257}, Shape{5, 1000}, Shape{1, 1024}, Shape{1, 1025}, Shape{1, 4099}, Shape{0, 4}, Shape{3, 0}}) {
      rows.push_back({.what = shape.to_string(),
                      .op = std::make_shared<ops::Softmax>(log),
                      .inputs = {test::random_normal(shape, 1)},
                      .sum_length = shape.channels()});
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Softmax, OpTable, testing::ValuesIn(table()));

TEST(Softmax, MatchesTheFormulas) {
  const Tensor x = Tensor::from<double>({1, 2}, {0, std::log(3.0)});
  EXPECT_THAT(ops::softmax(x).values<double>(),
              testing::ElementsAre(testing::DoubleNear(0.25, 1e-15), testing::DoubleNear(0.75, 1e-15)));
  EXPECT_THAT(ops::log_softmax(x).values<double>(),
              testing::ElementsAre(testing::DoubleNear(std::log(0.25), 1e-15), testing::_));
}

TEST(Softmax, DoesNotOverflow) {
  const Tensor x = Tensor::from<float>({1, 2}, {1000, -1000});
  EXPECT_THAT(ops::softmax(x).values<float>(), testing::ElementsAre(1, 0));
  EXPECT_THAT(ops::log_softmax(x).values<float>(), testing::ElementsAre(0, -2000));
}

TEST(Softmax, NamesWhatDoesNotFit) {
  EXPECT_ERROR(ops::softmax(Tensor::zeros({})), "[softmax] needs at least one axis");
  EXPECT_ERROR(ops::log_softmax(Tensor::zeros({2}, DType::u8)), "[log_softmax] needs a floating type, got u8");
}

}  // namespace
}  // namespace graft
