#include "graft/autograd/backward.h"

#include <gtest/gtest.h>

#include "graft/ops/ops.h"

#include "support/expect.h"

namespace graft {
namespace {

using testing::ElementsAre;

Tensor leaf(std::vector<float> values) {
  Tensor tensor = Tensor::from<float>({static_cast<Index>(values.size())}, values);
  tensor.set_requires_grad(true);
  return tensor;
}

auto gradient(const Tensor& tensor) { return tensor.grad().values<float>(); }

TEST(Backward, AddsToTheGradientOfALeaf) {
  Tensor x = leaf({1, 2});
  autograd::backward(ops::sum(x));
  autograd::backward(ops::sum(ops::multiply(x, x)));
  EXPECT_THAT(gradient(x), ElementsAre(1 + 2, 1 + 4));
  x.clear_grad();
  EXPECT_FALSE(x.grad().defined());
  autograd::backward(ops::sum(x));
  EXPECT_THAT(gradient(x), ElementsAre(1, 1));
}

TEST(Backward, OneTensorAsTwoInputs) {
  const Tensor x = leaf({3, -4});
  autograd::backward(ops::sum(ops::divide(x, x)));
  EXPECT_THAT(gradient(x), ElementsAre(0, 0));
  const Tensor a = leaf({5});
  const std::vector<Tensor> parts{a, a, a};
  autograd::backward(ops::concat(parts, 0), {.seed = Tensor::from<float>({3}, {1, 10, 100})});
  EXPECT_THAT(gradient(a), ElementsAre(111));
}

// y = x^2, z = 3 y + y^2: dz/dx = (3 + 2 y) 2 x.
TEST(Backward, SumsOverThePathsOfADiamond) {
  const Tensor x = leaf({2});
  const Tensor y = ops::multiply(x, x);
  autograd::backward(ops::add(ops::multiply(y, Tensor::full({1}, 3)), ops::multiply(y, y)));
  EXPECT_THAT(gradient(x), ElementsAre((3 + 2 * 4) * 2 * 2));
}

// Each of 20 levels doubles the number of paths; a walk along paths instead of nodes would make a million steps.
TEST(Backward, VisitsEachNodeOnce) {
  const Tensor x = leaf({1});
  Tensor y = x;
  for (int i = 0; i < 20; ++i) y = ops::add(y, y);
  autograd::backward(y);
  EXPECT_THAT(gradient(x), ElementsAre(1 << 20));
}

TEST(Backward, TakesASeedForAResultOfSeveralElements) {
  const Tensor x = leaf({1, 2});
  const Tensor y = ops::multiply(x, x);
  EXPECT_ERROR(autograd::backward(y), "[backward] a result of shape [2] needs a seed: its gradient from outside");
  EXPECT_ERROR(autograd::backward(y, {.seed = Tensor::zeros({3})}),
               "[backward] the seed must be f32 [2] like the result, got f32 [3]");
  autograd::backward(y, {.seed = Tensor::from<float>({2}, {10, 100})});
  EXPECT_THAT(gradient(x), ElementsAre(20, 400));
}

TEST(Backward, LeavesTheSeedAlone) {
  const Tensor x = leaf({1, 2}), seed = Tensor::from<float>({2}, {1, 1});
  const Tensor y = ops::relu(x);
  const Tensor z = ops::add(y, y);
  autograd::backward(z, {.seed = seed});
  EXPECT_THAT(seed.values<float>(), ElementsAre(1, 1));
}

TEST(Backward, ASecondOneNeedsTheGraph) {
  const Tensor x = leaf({3});
  const Tensor y = ops::multiply(x, x);
  autograd::backward(y, {.retain_graph = true});
  autograd::backward(y);
  EXPECT_THAT(gradient(x), ElementsAre(12));
  EXPECT_ERROR(autograd::backward(y),
               "[backward] multiply was already used by an earlier backward, which gave its saved tensors back; pass "
               "retain_graph to the first");
}

TEST(Backward, NoticesASavedTensorThatChanged) {
  const Tensor x = leaf({1, 2});
  Tensor factor = Tensor::from<float>({2}, {3, 4});
  const Tensor y = ops::sum(ops::multiply(x, factor));
  factor.fill(5);
  EXPECT_ERROR(autograd::backward(y),
               "[backward] input 1 of multiply, f32 [2], was changed in place after it was saved (version 0, now 1)");
  Tensor s = ops::sigmoid(x);
  const Tensor z = ops::sum(s);
  s.fill(0);
  EXPECT_ERROR(autograd::backward(z),
               "[backward] output 0 of sigmoid, f32 [2], was changed in place after it was saved (version 0, now 1)");
}

// Addition reads neither operand in backward, so both may change.
TEST(Backward, AllowsChangesToWhatIsNotSaved) {
  const Tensor x = leaf({1, 2});
  Tensor other = Tensor::from<float>({2}, {3, 4});
  const Tensor y = ops::sum(ops::add(x, other));
  other.fill(5);
  autograd::backward(y);
  EXPECT_THAT(gradient(x), ElementsAre(1, 1));
}

TEST(Backward, NeedsSomethingRecorded) {
  const char* message =
      "[backward] the tensor was not recorded: no input of it requires a gradient, or recording was off";
  EXPECT_ERROR(autograd::backward(ops::sum(Tensor::zeros({2}))), message);
  const Tensor x = leaf({1});
  Tensor y;
  {
    const autograd::NoGrad off;
    EXPECT_FALSE(autograd::recording());
    y = ops::relu(x);
  }
  EXPECT_TRUE(autograd::recording());
  EXPECT_FALSE(y.requires_grad());
  EXPECT_ERROR(autograd::backward(y), message);
}

TEST(Backward, SkipsFrozenInputs) {
  const Tensor x = leaf({1, 2}), frozen = Tensor::from<float>({2}, {3, 4});
  autograd::backward(ops::sum(ops::multiply(x, frozen)));
  EXPECT_THAT(gradient(x), ElementsAre(3, 4));
  EXPECT_FALSE(frozen.grad().defined());
}

TEST(Gradients, OfATensorInTheMiddle) {
  const Tensor x = leaf({2, 3});
  const Tensor middle = ops::multiply(x, x);
  const Tensor loss = ops::sum(ops::multiply(middle, middle));
  const std::vector<Tensor> of{middle, x};
  const std::vector<Tensor> found = autograd::gradients(loss, of);
  EXPECT_THAT(found[0].values<float>(), ElementsAre(8, 18));
  EXPECT_THAT(found[1].values<float>(), ElementsAre(32, 108));
  EXPECT_FALSE(x.grad().defined());
}

TEST(Gradients, AreZeroWhereNothingDepends) {
  const Tensor x = leaf({2}), other = leaf({1, 1});
  const std::vector<Tensor> of{other};
  EXPECT_THAT(autograd::gradients(ops::sum(x), of)[0].values<float>(), ElementsAre(0, 0));
}

// Only the part of the graph above the tensor is walked, so the part below it can still be used.
TEST(Gradients, LeaveTheRestOfTheGraph) {
  const Tensor x = leaf({2});
  const Tensor middle = ops::multiply(x, x);
  const std::vector<Tensor> of{middle};
  EXPECT_THAT(autograd::gradients(ops::multiply(middle, middle), of, {.retain_graph = true})[0].values<float>(),
              ElementsAre(8));
  autograd::backward(middle);
  EXPECT_THAT(gradient(x), ElementsAre(4));
}

}  // namespace
}  // namespace graft
