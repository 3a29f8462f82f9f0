#include "graft/autograd/tape.h"

#include <sstream>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/ops.h"

#include "support/expect.h"

namespace graft {
namespace {

using testing::ElementsAre;

Tensor leaf(const Shape& shape) {
  Tensor tensor = Tensor::full(shape, 0.5);
  tensor.set_requires_grad(true);
  return tensor;
}

std::vector<bool> saved(const std::vector<autograd::Node::Slot>& slots) {
  std::vector<bool> result;
  for (const auto& slot : slots) result.push_back(slot.value.defined());
  return result;
}

TEST(Tape, RecordsNothingForFrozenInputs) {
  const Tensor y = ops::relu(ops::multiply(Tensor::zeros({2}), Tensor::zeros({2})));
  EXPECT_EQ(y.producer(), nullptr);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_TRUE(autograd::tape(y).empty());
  EXPECT_EQ(autograd::saved_bytes(y), 0u);
}

TEST(Tape, SavesOnlyWhatTheWantedGradientsRead) {
  struct Case {
    std::string what;
    bool x, w, bias;
    std::vector<bool> inputs;
  };
  const std::vector<Case> cases{
      {"dx reads w", true, false, false, {false, true, false}},
      {"dw reads x", false, true, false, {true, false, false}},
      {"dbias reads neither", false, false, true, {false, false, false}},
      {"both", true, true, true, {true, true, false}},
  };
  for (const Case& c : cases) {
    Tensor x = Tensor::zeros({2, 3}), w = Tensor::zeros({4, 3}), bias = Tensor::zeros({4});
    x.set_requires_grad(c.x);
    w.set_requires_grad(c.w);
    bias.set_requires_grad(c.bias);
    const Tensor y = ops::linear(x, w, bias);
    EXPECT_EQ(saved(y.producer()->saved_inputs), c.inputs) << c.what;
    EXPECT_EQ(saved(y.producer()->saved_outputs), std::vector<bool>{false}) << c.what;
  }
}

TEST(Tape, CountsEachBlockOfMemoryOnce) {
  const Tensor x = leaf({10});
  const Tensor y = ops::sigmoid(x);                   // keeps y
  const Tensor z = ops::multiply(y, y);               // keeps y twice more
  const Tensor root = ops::sum(ops::multiply(z, x));  // keeps z, and x, which lives anyway
  EXPECT_EQ(z.producer()->saved_bytes(), 40u);
  EXPECT_EQ(autograd::saved_bytes(root), 80u);
  autograd::backward(root);
  EXPECT_EQ(autograd::saved_bytes(root), 0u);
}

TEST(Tape, Prints) {
  const Tensor x = Tensor::zeros({8, 6}), w = leaf({4, 6}), bias = leaf({4});
  const Tensor y = ops::linear(x, w, bias, Activation::relu);
  const Tensor loss = ops::mean(ops::multiply(y, y));
  std::ostringstream text;
  autograd::print_tape(text, loss);
  EXPECT_EQ(text.str(),
            "mean (all axes): [8, 4] -> [], 0 bytes saved\n"
            "multiply: [8, 4] (saved), [8, 4] (saved) -> [8, 4], 128 bytes saved\n"
            "linear (bias, relu): [8, 6] (no gradient) (saved), [4, 6], [4] -> [8, 4], 320 bytes saved\n"
            "kept for backward: 320 bytes\n");
}

TEST(Tape, AnOutputDoesNotKeepItsOwnNodeAlive) {
  const Tensor x = leaf({3});
  std::weak_ptr<autograd::Node> node;
  std::weak_ptr<Storage> memory;
  {
    const Tensor y = ops::sigmoid(x);  // its backward reads y
    node = y.producer();
    memory = y.storage();
  }
  EXPECT_TRUE(node.expired());
  EXPECT_TRUE(memory.expired());
}

TEST(Tape, BackwardGivesSavedTensorsBackAndTheRootTheNodes) {
  const Tensor x = leaf({3});
  std::weak_ptr<autograd::Node> node;
  std::weak_ptr<Storage> memory;
  Tensor root;
  {
    const Tensor y = ops::sigmoid(x);
    node = y.producer();
    memory = y.storage();
    root = ops::sum(ops::multiply(y, y));
  }
  EXPECT_FALSE(memory.expired());
  autograd::backward(root);
  EXPECT_TRUE(memory.expired());
  EXPECT_FALSE(node.expired());
  root = {};
  EXPECT_TRUE(node.expired());
}

// Destruction by recursion would need a frame a node and overflow the stack.
TEST(Tape, AChainOfAHundredThousandNodesIsWalkedAndDestroyed) {
  const Tensor x = leaf({1});
  Tensor y = x;
  const Tensor zero = Tensor::zeros({1});
  for (int i = 0; i < 100'000; ++i) y = ops::add(y, zero);
  EXPECT_EQ(autograd::tape(y).size(), 100'000u);
  autograd::backward(y);
  EXPECT_EQ(x.grad().item(), 1);
  const std::weak_ptr<autograd::Node> last = y.producer();
  y = {};
  EXPECT_TRUE(last.expired());
}

TEST(Tape, ViewsAreRecordedToo) {
  const Tensor x = leaf({2, 3});
  const Tensor y = ops::reshape(x, {6});
  EXPECT_EQ(y.storage(), x.storage());
  autograd::backward(ops::sum(ops::slice(y, {4}, {2})));
  EXPECT_THAT(x.grad().values<float>(), ElementsAre(0, 0, 0, 0, 1, 1));
}

TEST(Tape, NamesAnInputThatIsNotThere) {
  EXPECT_ERROR(ops::add(Tensor::zeros({1}), Tensor{}), "[add] input 1 has no value");
}

}  // namespace
}  // namespace graft
