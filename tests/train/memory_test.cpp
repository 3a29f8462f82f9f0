#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/loss.h"

#include "train/samples.h"

namespace graft {
namespace {

// What an error that there is no memory left tells apart, here of a step of training on the CPU.
TEST(Memory, IsCountedByItsPurpose) {
  const auto held = [](Purpose purpose) { return memory_use().by_purpose[static_cast<std::size_t>(purpose)]; };
  const std::size_t weights = held(Purpose::parameters), activations = held(Purpose::activations),
                    gradients = held(Purpose::gradients), state = held(Purpose::optimizer);
  nn::Network network = test::small_network();
  std::size_t bytes = 0, trained = 0;
  optim::Group group;
  for (const nn::Parameter* parameter : network.parameters()) bytes += parameter->value.bytes();
  for (const nn::Parameter* parameter : network.trainable_parameters()) {
    trained += parameter->value.bytes();
    group.parameters.push_back({parameter->name, parameter->value});
  }
  EXPECT_GE(held(Purpose::parameters) - weights, bytes);
  const optim::Optimizer optimizer({}, {group});
  EXPECT_GE(held(Purpose::optimizer) - state, 2 * trained);  // Adam's moments

  const auto examples = test::stripe_features(8, 3);
  const Tensor labels = Tensor::from({8}, examples->labels);
  {
    const Tensor loss =
        ops::softmax_cross_entropy(network.run(examples->values.at("input"), {.training = true}).logits, labels);
    EXPECT_GT(held(Purpose::activations), activations);
    autograd::backward(loss);
  }
  EXPECT_EQ(held(Purpose::activations), activations);
  EXPECT_GE(held(Purpose::gradients) - gradients, trained);
}

}  // namespace
}  // namespace graft
