#include "graft/core/shape.h"

#include <gtest/gtest.h>

#include "support/expect.h"

namespace graft {
namespace {

TEST(Shape, CountsElements) {
  EXPECT_EQ(Shape({2, 3, 4}).elements(), 24);
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ(Shape({Index{1} << 40, 0, Index{1} << 40}).elements(), 0);
  EXPECT_ERROR(Shape({Index{1} << 40, Index{1} << 40}).elements(), "more elements than can be counted");
}

TEST(Shape, NegativeAxesCountFromTheEnd) {
  EXPECT_EQ(Shape({2, 3, 4})[-1], 4);
  EXPECT_ERROR(Shape({2, 3})[2], "[2, 3] has no axis 2");
  EXPECT_EQ(Shape({2, 3, 4}).with(-2, 7), Shape({2, 7, 4}));
}

TEST(Shape, RefusesNegativeExtents) { EXPECT_ERROR(Shape({2, -3}), "an extent is negative: -3"); }

}  // namespace
}  // namespace graft
