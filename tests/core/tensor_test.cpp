#include "graft/core/tensor.h"

#include <set>

#include <gtest/gtest.h>

#include "graft/core/generator.h"

#include "support/expect.h"

namespace graft {
namespace {

TEST(Tensor, HandlesShareElements) {
  Tensor a = Tensor::from<float>({2, 3}, {0, 1, 2, 3, 4, 5});
  Tensor b = a.reshaped({3, -1});
  b.mutable_data<float>()[0] = 9;
  EXPECT_EQ(a.data<float>()[0], 9);
  EXPECT_EQ(a.rows(1, 1).values<float>()[0], 3);
  EXPECT_EQ(a.clone().to(DType::f64).values<double>()[5], 5);
}

TEST(Tensor, WritesAreCounted) {
  Tensor a = Tensor::zeros({4});
  const auto before = a.version();
  a.reshaped({2, 2}).fill(1);
  EXPECT_GT(a.version(), before);
}

TEST(Tensor, RefusesWhatItIsNot) {
  const Tensor a = Tensor::zeros({2, 2});
  EXPECT_ERROR(a.data<double>(), "f32 was read as f64");
  EXPECT_ERROR(a.item(), "item() needs one element");
  EXPECT_ERROR(a.reshaped({3}), "[2, 2] has 4 elements, [3] has 3");
  EXPECT_ERROR(a.rows(1, 2), "has no rows 1 to 3");
  EXPECT_ERROR(Tensor().shape(), "used before it was given a value");
  EXPECT_ERROR((Tensor::from<float>({2}, {1, 2, 3})), "takes 8 bytes, got 12");
}

TEST(Storage, FreedBlocksAreReused) {
  { const Tensor warm = Tensor::empty({1000}); }
  const auto before = memory_use().system_allocations;
  for (int i = 0; i < 10; ++i) const Tensor again = Tensor::empty({1000});
  EXPECT_EQ(memory_use().system_allocations, before);
}

// Known answer of the authors' test suite (Random123, kat_vectors: philox4x32 10, zero key and counter).
TEST(Generator, PhiloxMatchesItsAuthors) {
  const auto words = philox(0, 0);
  EXPECT_EQ(words[0], 0x6627e8d5u);
  EXPECT_EQ(words[1], 0xe169c58du);
  EXPECT_EQ(words[2], 0xbc57ac4cu);
  EXPECT_EQ(words[3], 0x9b00dbd8u);
}

TEST(Generator, DrawsAreUniformAndNormal) {
  Generator generator{.seed = 7};
  double sum = 0, squares = 0, uniform = 0;
  constexpr int kDraws = 100000;
  std::set<Index> seen;
  for (int i = 0; i < kDraws; ++i) {
    const double z = generator.normal();
    sum += z;
    squares += z * z;
    uniform += generator.uniform();
    seen.insert(generator.below(5));
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.02);
  EXPECT_NEAR(squares / kDraws, 1, 0.02);
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.01);
  EXPECT_EQ(seen, (std::set<Index>{0, 1, 2, 3, 4}));
}

}  // namespace
}  // namespace graft
