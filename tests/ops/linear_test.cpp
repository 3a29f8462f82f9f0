#include "graft/ops/linear.h"

#include <cmath>

#include <gtest/gtest.h>

#include "graft/core/context.h"

#include "core/packed.h"
#include "support/expect.h"
#include "support/op_check.h"

#if GRAFT_HAS_VECTORIZED
#include "cpu/vectorized/machine.h"
#endif

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;
using test::random_normal;

OpCase row(std::string what, const Shape& x, Index out, bool bias, Activation activation = Activation::linear) {
  OpCase c{.what = std::move(what), .op = std::make_shared<ops::Linear>(activation, bias)};
  c.inputs = {random_normal(x, 1), random_normal({out, x[-1]}, 2)};
  if (bias) c.inputs.push_back(random_normal({out}, 3));
  c.sum_of_products = c.tf32 = activation == Activation::linear;
  c.sum_length = std::max({x[-1], x.rows(), out}) + 1;
  c.exact = {1, 2};
  return c;
}

std::vector<OpCase> table() {
  return {
      row("one number", {1, 1}, 1, false),
      row("a vector", {7}, 5, true),
      row("rows", {3, 5}, 4, true),
      row("tokens", {2, 3, 5}, 7, true),
      row("no bias", {4, 6}, 3, false),
      row("more rows and columns than a block", {17, 3}, 263, true),
      row("longer sums than a block", {3, 1033}, 5, true),
      row("empty batch", {0, 5}, 3, true),
      row("relu", {3, 5}, 4, true, Activation::relu),
      row("sigmoid", {3, 5}, 4, true, Activation::sigmoid),
      row("tanh without bias", {3, 5}, 4, false, Activation::tanh),
  };
}

INSTANTIATE_TEST_SUITE_P(Linear, OpTable, testing::ValuesIn(table()));

TEST(Linear, MatchesTheFormula) {
  const Tensor x = Tensor::from<float>({1, 2}, {1, 2}), w = Tensor::from<float>({2, 2}, {10, 20, -30, -40}),
               bias = Tensor::from<float>({2}, {1, 2});
  EXPECT_THAT(ops::linear(x, w, bias).values<float>(), testing::ElementsAre(51, -108));
  EXPECT_THAT(ops::linear(x, w, bias, Activation::relu).values<float>(), testing::ElementsAre(51, 0));
}

// With many rows the vectorized kernels keep weights in a layout of their own. Rows of x are a page of memory apart
// here.
TEST(Linear, IsTheSameWithWeightsThatAreKept) {
  ContextScope scope;
  scope->engine = Engine::native;
  for (const DType type : {DType::f32, DType::bf16}) {
    const Index depth = 4096 / static_cast<Index>(size_of(type));
    const Tensor x = random_normal({70, depth}, 1).to(type), w = random_normal({260, depth}, 2).to(DType::f32),
                 bias = random_normal({260}, 3).to(DType::f32), rounded = w.to(type);
    w.storage()->keep_packed(true);
    for (const Activation activation : {Activation::linear, Activation::relu, Activation::gelu}) {
      const Tensor want =
          ops::linear(x.to(DType::f64), rounded.to(DType::f64), bias.to(DType::f64), activation).to(DType::f32);
      for (int call = 0; call < 2; ++call) {
        const Tensor y = ops::linear(x, w, bias, activation).to(DType::f32);
        for (Index i = 0; i < y.elements(); ++i) {
          const float expected = want.data<float>()[i];
          ASSERT_NEAR(y.data<float>()[i], expected, type == DType::f32 ? 1e-3 : 0.05 + 0.01 * std::fabs(expected)) << i;
        }
      }
    }
#if GRAFT_HAS_VECTORIZED
    if (kernels::vectorized::has_avx2()) {
      EXPECT_FALSE(w.storage()->packed()->all(*w.storage()).empty());
    }
#endif
  }
}

TEST(Linear, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({8, 4});
  EXPECT_ERROR(ops::linear(x, Tensor::zeros({3, 5})),
               "[linear] expected 5 input features (weight [3, 5]), got 4 (input [8, 4])");
  EXPECT_ERROR(ops::linear(x, Tensor::zeros({3, 4}), Tensor::zeros({4})), "[linear] expected bias [3], got [4]");
  EXPECT_ERROR(ops::linear(x, Tensor::zeros({3, 4}, DType::bf16)),
               "[linear] expected weight in f32 (input f32), got bf16");
  Tensor(x).set_requires_grad(true);
  EXPECT_ERROR(ops::linear(x, Tensor::zeros({3, 4}), {}, Activation::silu), "[linear] silu cannot be fused");
}

}  // namespace
}  // namespace graft
