#include "graft/ops/attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/arithmetic.h"
#include "graft/ops/matmul.h"
#include "graft/ops/shape.h"
#include "graft/ops/softmax.h"

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
    Index n, queries, keys, heads, depth;
    double scale = 0;
  };
  const std::vector<Case> cases{
      {"one query, one key", 1, 1, 1, 1, 1},
      {"one head", 2, 5, 5, 1, 4},
      {"heads", 2, 7, 7, 3, 5},
      {"more keys than queries", 1, 3, 11, 2, 3},
      {"one query of a class token", 2, 1, 9, 2, 4},
      {"own scale", 1, 4, 4, 2, 3, 0.25},
      {"several blocks", 1, 37, 131, 2, 8},
      {"more than a device's tiles", 1, 65, 129, 1, 3},
      {"whole tiles of a device", 1, 64, 128, 1, 4},
      {"heads for tensor cores", 2, 9, 9, 2, 16},
      {"one query for tensor cores", 2, 1, 5, 2, 24},
      {"whole tiles of tensor cores", 1, 128, 64, 1, 64},
      {"one more than these", 1, 129, 65, 1, 64},
      {"a deep head for tensor cores", 1, 33, 65, 1, 72},
      {"the deepest", 1, 64, 32, 1, 128},
      {"a chunk of the depth and one more", 1, 3, 5, 1, 65},
      {"head of more than 128", 1, 3, 2, 1, 131},
      {"empty batch", 0, 3, 3, 2, 4},
      {"no queries", 1, 0, 3, 2, 4},
  };
  for (const Case& c : cases) {
    const ops::AttentionOptions options{.heads = c.heads, .scale = c.scale};
    const Shape q{c.n, c.queries, c.heads * c.depth}, k = q.with(1, c.keys);
    const Index longest = c.depth + std::max(c.queries, c.keys);
    rows.push_back({.what = c.what,
                    .op = std::make_shared<ops::Attention>(options, false),
                    .inputs = {random_normal(q, 1), random_normal(k, 2), random_normal(k, 3)},
                    .sum_length = longest});
    if (c.queries == c.keys) {
      rows.push_back({.what = c.what,
                      .op = std::make_shared<ops::Attention>(options, true),
                      .inputs = {random_normal({c.n, c.queries, 3 * c.heads * c.depth}, 4)},
                      .sum_length = longest});
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Attention, OpTable, testing::ValuesIn(table()));

Tensor composed(const Tensor& q, const Tensor& k, const Tensor& v, Index heads) {
  const Index n = q.shape()[0], depth = q.shape()[2] / heads;
  const auto split = [&](const Tensor& x) {
    return ops::permute(ops::reshape(x, {n, -1, heads, depth}), {0, 2, 1, 3});
  };
  const Tensor factor = Tensor::full({}, 1 / std::sqrt(static_cast<double>(depth)), q.dtype());
  const Tensor scores = ops::multiply(ops::matmul(split(q), split(k), {.transpose_b = true}), factor);
  return ops::reshape(ops::permute(ops::matmul(ops::softmax(scores), split(v)), {0, 2, 1, 3}), {n, -1, heads * depth});
}

TEST(Attention, EqualsTheOpsItIsMadeOf) {
  const Tensor q = random_normal({2, 70, 12}, 1), k = random_normal({2, 130, 12}, 2),
               v = random_normal({2, 130, 12}, 3);
  const Tensor got = ops::attention(q, k, v, {.heads = 3}), want = composed(q, k, v, 3);
  for (Index i = 0; i < got.elements(); ++i) ASSERT_NEAR(got.data<double>()[i], want.data<double>()[i], 1e-13) << i;
}

TEST(Attention, PackedEqualsSeparate) {
  const Tensor qkv = random_normal({2, 5, 18}, 1);
  const auto part = [&](Index i) { return ops::slice(qkv, {0, 0, 6 * i}, {-1, -1, 6}); };
  const Tensor packed = ops::attention(qkv, {.heads = 2}),
               separate = ops::attention(part(0), part(1), part(2), {.heads = 2});
  EXPECT_THAT(packed.values<double>(), testing::ElementsAreArray(separate.values<double>()));
}

// Scores of 10000 and more, whose exponentials would overflow: the largest takes everything.
TEST(Attention, DoesNotOverflow) {
  const Tensor q = Tensor::full({1, 1, 1}, 100), k = Tensor::from<float>({1, 2, 1}, {100, 200}),
               v = Tensor::from<float>({1, 2, 1}, {3, 4});
  EXPECT_EQ(ops::attention(q, k, v).item(), 4);
}

TEST(Attention, MemoryGrowsWithTheLengthAlone) {
  const auto kept = [](Index length) {
    Tensor qkv = Tensor::zeros({1, length, 3 * 8});
    qkv.set_requires_grad(true);
    return autograd::saved_bytes(ops::attention(qkv, {.heads = 2}));  // y and the log-sums; qkv is the leaf's own
  };
  EXPECT_EQ(kept(100), 100u * (8 + 2) * sizeof(float));
  EXPECT_EQ(kept(1000), 1000u * (8 + 2) * sizeof(float));
}

TEST(Attention, NamesWhatDoesNotFit) {
  const Tensor q = Tensor::zeros({1, 4, 6});
  EXPECT_ERROR(ops::attention(q, q, q, {.heads = 4}), "[attention] 4 heads do not divide 6 channels");
  EXPECT_ERROR(ops::attention(q, {.heads = 4}), "[attention] 4 heads do not divide 6 channels of q, k and v together");
  EXPECT_ERROR(ops::attention(q, Tensor::zeros({2, 4, 6}), q),
               "[attention] expected k and v [N, Lk, channels] beside q [1, 4, 6], got [2, 4, 6] and [1, 4, 6]");
  EXPECT_ERROR(ops::attention(q, Tensor::zeros({1, 0, 6}), Tensor::zeros({1, 0, 6})),
               "[attention] there is no key to attend to");
}

}  // namespace
}  // namespace graft
