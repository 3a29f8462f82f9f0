#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/core/graph.h"
#include "graft/ops/loss.h"

#include "support/op_check.h"
#include "train/samples.h"

namespace graft {
namespace {

class TrainingOnADevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (test::devices().empty())
      GTEST_SKIP() << "there is no device beside the CPU: no GPU, and no emulated one in this build";
    scope_->engine = Engine::native;
  }

 private:
  ContextScope scope_;
};

struct FineTuned {
  nn::Network network;
  train::Report report;
};

// The first convolution and its batch-norm stay as they are, the rest learns to tell rows from columns.
FineTuned fine_tune(Device device) {
  FineTuned run{test::small_network(), {}};
  run.network.freeze("conv1");
  run.network.freeze("bn1");
  run.network.to(device);
  train::TrainOptions options = test::quick_options();
  options.epochs = 3;
  train::Trainer trainer = test::stripe_trainer(run.network, options);
  run.report = trainer.run();
  run.network.to(Device{});
  return run;
}

TEST_F(TrainingOnADevice, FineTunesToTheAccuracyOfTheCpu) {
  FineTuned cpu = fine_tune({});
  const double reached = cpu.report.epochs.back().validation->top1;
  EXPECT_GT(reached, 0.9) << "too little for a comparison";
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    FineTuned other = fine_tune(device);
    EXPECT_EQ(other.report.epochs.back().validation->top1, reached);
    EXPECT_NEAR(other.report.epochs.back().validation->loss, cpu.report.epochs.back().validation->loss, 1e-3);
    EXPECT_LT(test::largest_difference(other.network, cpu.network), 1e-3);
  }
}

TEST_F(TrainingOnADevice, LeavesWhatIsFrozenBitForBit) {
  nn::Network before = test::small_network();
  auto first = test::bytes_of(before);
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    FineTuned run = fine_tune(device);
    auto last = test::bytes_of(run.network);
    for (const auto& [name, bytes] : first) {
      const bool frozen = name.starts_with("conv1/") || name.starts_with("bn1/");
      EXPECT_EQ(last.at(name) == bytes, frozen) << name;
    }
    EXPECT_EQ(run.report.frozen_hashes.size(), 5u) << "conv1's weight, bn1's two parameters and two statistics";
  }
}

// The network after some steps; those after the first are replays of a recording where one is asked for.
std::map<std::string, std::string> after_steps(Device device, bool captured) {
  constexpr int kSteps = 4;
  nn::Network network = test::small_network();
  network.to(device);
  optim::Group group;
  for (nn::Parameter* parameter : network.trainable_parameters())
    group.parameters.push_back({parameter->name, parameter->value});
  optim::Optimizer optimizer(
      optim::OptimizerOptions{.algorithm = optim::Algorithm::sgd, .learning_rate = 0.05, .momentum = 0.9},
      std::vector{group});
  const auto examples = test::stripe_features(8, 3);
  const Tensor images = examples->values.at("input").to(device),
               labels = Tensor::from<std::int64_t>({8}, {0, 1, 0, 1, 0, 1, 0, 1}).to(device);
  const auto find_gradients = [&] {
    optimizer.zero_grad();
    autograd::backward(ops::softmax_cross_entropy(network.run(images, {.training = true}).logits, labels));
  };
  const auto step = [&] {
    find_gradients();
    optimizer.step();
  };
  step();
  if (captured) {
    optim::Optimizer::Step update;
    const Graph graph = Graph::record(device, [&] {
      find_gradients();
      // Memory of every size that earlier kernels of the recording have written: a replay may not find the step's in
      // it.
      for (Index bytes = 256; bytes <= Index{1} << 20; bytes *= 2) Tensor::zeros({bytes}, DType::u8, device);
      update = optimizer.prepare();
      optimizer.launch(update);
    });
    for (int i = 1; i < kSteps; ++i) {
      optimizer.advance(update);
      graph.replay();
    }
    synchronize(device);
  } else {
    for (int i = 1; i < kSteps; ++i) step();
  }
  network.to(Device{});
  return test::bytes_of(network);
}

TEST_F(TrainingOnADevice, StepsTheSameFromARecording) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    const auto eager = after_steps(device, false), captured = after_steps(device, true);
    for (const auto& [name, bytes] : eager) EXPECT_EQ(captured.at(name), bytes) << name;
  }
}

}  // namespace
}  // namespace graft
