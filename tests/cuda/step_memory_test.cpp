// A training step allocates nothing after the second.

#include <iostream>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/core/context.h"
#include "graft/models/models.h"
#include "graft/ops/loss.h"
#include "graft/optim/optimizer.h"

#include "support/op_check.h"

namespace graft {
namespace {

struct Row {
  std::string what;
  std::string trainable;
  DType compute = DType::f32;
  optim::Algorithm algorithm = optim::Algorithm::sgd;
  nn::Statistics statistics = nn::Statistics::moving;
};

// Whether freed memory is used again. The emulated device gives out new memory each time while it watches accesses.
bool reuses_memory(Device device) {
  Tensor::empty({7}, DType::f32, device);
  const std::size_t before = memory_use(device).system_allocations;
  Tensor::empty({7}, DType::f32, device);
  return memory_use(device).system_allocations == before;
}

// How often each step asked the system for memory.
std::vector<std::size_t> allocations_of(const Row& row, Device device, int steps) {
  ContextScope scope;
  scope->device = device;
  scope->engine = Engine::native;
  nn::Network network = models::make(
      "mobilenet",
      {.include_top = false, .pooling = models::Pooling::average, .height = 32, .width = 32, .alpha = 0.25});
  network.graft({.classes = 4, .hidden = {5}, .dropout = 0.5});
  network.freeze();
  network.unfreeze(row.trainable);
  network.use_statistics(row.statistics);
  network.to(device);
  network.materialize();
  optim::Group group;
  for (nn::Parameter* parameter : network.trainable_parameters())
    group.parameters.push_back({parameter->name, parameter->value});
  optim::Optimizer optimizer({.algorithm = row.algorithm, .momentum = 0.9, .clip_norm = 1}, {group});
  const Tensor images = test::random_normal({2, 32, 32, 3}, 2).to(row.compute),
               labels = Tensor::from<std::int64_t>({2}, {1, 3});
  release_cached_memory(device);
  std::vector<std::size_t> counts;
  for (int step = 0; step < steps; ++step) {
    const std::size_t before = memory_use(device).system_allocations;
    optimizer.zero_grad();
    const Tensor loss = ops::softmax_cross_entropy(network.run(images, {.training = true}).logits, labels.to(device));
    autograd::backward(loss);
    optimizer.step();
    static_cast<void>(loss.item());
    counts.push_back(memory_use(device).system_allocations - before);
  }
  return counts;
}

class StepOnADevice : public ::testing::TestWithParam<Row> {
 protected:
  static void expect_steady(Device device) {
    SCOPED_TRACE(device.to_string());
    const std::vector<std::size_t> counts = allocations_of(GetParam(), device, 4);
    EXPECT_GT(counts[0], 0u) << "the first step found its memory there: nothing is measured";
    // The first keeps packed copies of frozen weights in memory that its temporaries had.
    EXPECT_EQ(counts[2], 0u);
    EXPECT_EQ(counts[3], 0u);
  }
};

TEST_P(StepOnADevice, AllocatesNothingAfterTheSecond) {
  expect_steady({});
  for (const Device device : test::devices()) {
    if (reuses_memory(device))
      expect_steady(device);
    else
      std::cout << device.to_string() << " is not measured: it is watched (GRAFT_EMULATED_CHECKS=0 ends that)\n";
  }
}

INSTANTIATE_TEST_SUITE_P(Memory, StepOnADevice,
                         ::testing::Values(Row{"head", "head*"}, Row{"half", "conv_*_1?*"},
                                           Row{"all_with_adam", "*", DType::f32, optim::Algorithm::adamw},
                                           Row{"all_in_bf16", "*", DType::bf16, optim::Algorithm::sgd,
                                               nn::Statistics::batch}),
                         [](const auto& test) { return test.param.what; });

}  // namespace
}  // namespace graft
