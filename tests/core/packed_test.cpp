#include "core/packed.h"

#include <gtest/gtest.h>

#include "graft/core/tensor.h"

namespace graft {
namespace {

struct Counted {
  int made = 0;

  float first_doubled(const Tensor& from, const std::string& layout = "doubled") {
    const Operand x = from;
    const auto copy = packed(x, layout, sizeof(float), [&](void* to) {
      ++made;
      *static_cast<float*>(to) = 2 * x.as<float>()[0];
    });
    return *reinterpret_cast<const float*>(copy->data());
  }
};

TEST(Packed, IsMadeEachTimeUnlessItMayBeKept) {
  Counted counted;
  const Tensor x = Tensor::full({4}, 3);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.made, 2);
  x.storage()->keep_packed(true);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.made, 3);
}

TEST(Packed, IsMadeAnewOnceTheElementsChanged) {
  Counted counted;
  Tensor x = Tensor::full({4}, 3);
  x.storage()->keep_packed(true);
  EXPECT_EQ(counted.first_doubled(x), 6);
  x.fill(5);
  EXPECT_EQ(counted.first_doubled(x), 10);
  EXPECT_EQ(counted.made, 2);
}

TEST(Packed, TellsLayoutsAndPlacesApart) {
  Counted counted;
  Tensor x = Tensor::from<float>({2, 1}, {1, 2});
  x.storage()->keep_packed(true);
  EXPECT_EQ(counted.first_doubled(x.rows(0, 1)), 2);
  EXPECT_EQ(counted.first_doubled(x.rows(1, 1)), 4);
  EXPECT_EQ(counted.first_doubled(x.rows(1, 1), "another"), 4);
  EXPECT_EQ(counted.made, 3);
}

TEST(Packed, IsGivenBackWhenItMayNoLongerBeKept) {
  const Tensor x = Tensor::full({1 << 20}, 1);
  Counted counted;
  x.storage()->keep_packed(true);
  counted.first_doubled(x);
  const std::size_t held = memory_use().in_use;
  x.storage()->keep_packed(false);
  EXPECT_LT(memory_use().in_use, held);
}

}  // namespace
}  // namespace graft
