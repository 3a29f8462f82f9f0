#include "graft/train/metrics.h"

#include <limits>

#include <gtest/gtest.h>

#include "support/expect.h"
#include "train/hash.h"

namespace graft::train {
namespace {

using testing::ElementsAre;

TEST(Metrics, ByHand) {
  Metrics metrics;
  metrics.add(Tensor::from<float>({3, 7}, {9, 8, 7, 6, 5, 4, 3,    //
                                           9, 8, 7, 6, 5, 4, 3,    //
                                           1, 1, 1, 1, 1, 1, 1}),  // a tie goes to the lower class
              Tensor::from<std::int64_t>({3}, {0, 4, 5}), Tensor::full({}, 2));
  EXPECT_EQ(metrics.count(), 3);
  EXPECT_DOUBLE_EQ(metrics.top1(), 1.0 / 3);
  EXPECT_DOUBLE_EQ(metrics.top5(), 2.0 / 3);
  EXPECT_THAT(metrics.confusion()[4], ElementsAre(1, 0, 0, 0, 0, 0, 0));
  metrics.add(Tensor::from<float>({1, 7}, {0, 0, 0, 0, 0, 0, 1}), Tensor::from<std::int64_t>({1}, {6}),
              Tensor::full({}, 6));
  EXPECT_DOUBLE_EQ(metrics.loss(), 3.0);  // batches count by their size
  EXPECT_EQ(metrics.confusion()[6][6], 1);
}

TEST(Metrics, FewerThanFiveClasses) {
  Metrics metrics;
  metrics.add(Tensor::from<double>({2, 2}, {1, 2, 1, 2}), Tensor::from<std::int64_t>({2}, {0, 1}),
              Tensor::full({}, 1, DType::f64));
  EXPECT_EQ(metrics.top1(), 0.5);
  EXPECT_EQ(metrics.top5(), 1);
}

TEST(Metrics, WhatIsNotANumberIsNotRight) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Metrics metrics;
  metrics.add(Tensor::from<float>({3, 3}, {nan, nan, nan, nan, 1, 2, 3, nan, 1}),
              Tensor::from<std::int64_t>({3}, {0, 2, 0}), Tensor::full({}, nan));
  EXPECT_EQ(metrics.top1(), 0);
  EXPECT_THAT(metrics.confusion()[0], ElementsAre(2, 0, 0));  // the highest of what is a number
  EXPECT_THAT(metrics.confusion()[2], ElementsAre(0, 0, 1));
}

TEST(Metrics, EmptyIsZero) {
  EXPECT_EQ(Metrics().loss(), 0);
  EXPECT_EQ(Metrics().top1(), 0);
  EXPECT_TRUE(Metrics().confusion().empty());
}

TEST(Metrics, RefusesWhatDoesNotFit) {
  Metrics metrics;
  EXPECT_ERROR(metrics.add(Tensor::zeros({2, 3}), Tensor::zeros({3}, DType::i64), Tensor::zeros({})),
               "expected logits [N, C] and labels [N], got [2, 3] and [3]");
  EXPECT_ERROR(metrics.add(Tensor::zeros({1, 3}), Tensor::full({1}, 3, DType::i64), Tensor::zeros({})),
               "label 3 of row 0 is not one of 3 classes");
}

// Values of the reference implementation: `printf '' | xxh128sum`, `printf 'abcd' | xxh128sum`.
TEST(Hash, IsXxh128) {
  EXPECT_EQ(hash_of(Tensor::zeros({0}, DType::u8)), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_of(Tensor::from<std::uint8_t>({4}, {'a', 'b', 'c', 'd'})), "8d6b60383dfa90c21be79eecd1b1353d");
}

}  // namespace
}  // namespace graft::train
