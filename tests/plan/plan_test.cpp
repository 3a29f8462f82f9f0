#include "graft/plan/plan.h"

#include <thread>

#include <gtest/gtest.h>

#include "graft/autograd/tape.h"
#include "graft/nn/layers.h"
#include "graft/nn/network.h"

#include "core/format.h"
#include "plan/support.h"
#include "support/expect.h"

namespace graft::plan {
namespace {

using test::all_models;
using test::difference;
using test::make;
using test::random_normal;
using test::SmallModel;

TEST(Plan, ComputesWhatTheNetworkDoes) {
  for (const SmallModel& c : all_models()) {
    for (const auto& [dtype, bound] : {std::pair{DType::f32, 1e-5}, std::pair{DType::bf16, 6e-2}}) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, dtype));
      nn::Network network = make(c);
      const Tensor input = random_normal({2, c.size, c.size, 3}, 1).to(dtype);
      const std::vector<std::string> nodes{network.features, network.output().name};
      const Plan plan = compile(network, input.shape(), {.dtype = dtype, .outputs = nodes, .given = {}});
      const autograd::NoGrad off;
      const nn::RunResult want = network.run(input, {.watch = nodes});
      for (const int time : {1, 2}) {
        const std::vector<Tensor> got = plan.run(input);
        for (std::size_t i = 0; i < nodes.size(); ++i)
          EXPECT_LT(difference(got[i], want.watched.at(nodes[i])), bound) << nodes[i] << ", run " << time;
      }
    }
  }
}

class CacheInMemory final : public WeightCache {
 public:
  bool is_valid() const override { return valid; }
  std::shared_ptr<const Entry> find(const std::string& name) const override {
    const auto found = entries.find(name);
    return found != entries.end() ? std::make_shared<const Entry>(found->second) : nullptr;
  }
  void keep(const Entries& made) override {
    ++times;
    for (const auto& [name, entry] : made) entries[name] = entry;
  }

  Entries entries;
  int times = 0;
  bool valid = true;
};

TEST(Plan, TakesWhatOthersMadeOfTheWeights) {
  for (const SmallModel& c : test::small_models()) {
    SCOPED_TRACE(c.name);
    const auto cache = std::make_shared<CacheInMemory>();
    const Tensor input = random_normal({2, c.size, c.size, 3}, 1).to(DType::f32);
    // Weights of its own each time: what is packed lies beside them.
    const auto run = [&] { return compile(make(c), input.shape(), {.cache = cache}).run(input).front(); };
    const Tensor want = compile(make(c), input.shape()).run(input).front();
    EXPECT_EQ(difference(run(), want), 0);
    EXPECT_EQ(cache->times, 1);
    for (auto& [name, entry] : cache->entries) {  // as another process has them
      if (entry.value.defined()) entry.value = entry.value.clone();
      for (auto& [layout, copy] : entry.packed) copy = copy.clone();
    }
    EXPECT_EQ(difference(run(), want), 0);
    EXPECT_EQ(cache->times, 1);
    for (auto& [name, entry] : cache->entries) {
      if (entry.value.defined()) entry.value.fill(0);
      for (auto& [layout, copy] : entry.packed) copy.fill(0);
    }
    EXPECT_GT(difference(run(), want), 1e-3);
    cache->valid = false;
    EXPECT_EQ(difference(run(), want), 0);
  }
}

// A plan that has taken them goes on with weights that change.
TEST(Plan, LeavesTheCacheWhenWeightsChange) {
  nn::Network network = make({"resnet50"});
  const auto cache = std::make_shared<CacheInMemory>();
  const Tensor input = random_normal({1, 32, 32, 3}, 1).to(DType::f32);
  const Plan plan = compile(network, input.shape(), {.cache = cache});
  const Tensor before = plan.run(input).front();
  network.parameter("conv1_conv/weight").value.fill(0.01);
  const Tensor after = plan.run(input).front();
  EXPECT_GT(difference(after, before), 1e-3);
  EXPECT_EQ(difference(after, compile(network, input.shape()).run(input).front()), 0);
  EXPECT_EQ(cache->times, 1);
}

TEST(Plan, FoldsEveryNormOfTheZooAndPlacesEveryPart) {
  for (const SmallModel& c : all_models()) {
    SCOPED_TRACE(c.name);
    const Plan plan = compile(make(c), {2, c.size, c.size, 3});
    for (const Step& step : plan.steps()) {
      EXPECT_NE(step.op, "batch_norm");
      EXPECT_NE(step.op, "relu");
      const bool of_an_image = step.inputs.front().shape.rank() == 4;
      EXPECT_FALSE(of_an_image && step.op == "pad");
    }
    EXPECT_LE(static_cast<double>(plan.memory()), 1.05 * static_cast<double>(plan.least_memory()));
  }
}

// Where all under a window is negative, a zero beside it is the largest.
TEST(Plan, ZerosBeforeAMaximumOfNegativeValuesStay) {
  nn::Builder b({.height = 4, .width = 4, .channels = 2});
  const auto padded = b.add("pad", nn::ZeroPad({.top = 1, .bottom = 1, .left = 1, .right = 1}), b.input());
  nn::Network network = b.build(b.add("pool", nn::MaxPool({.kernel = 3, .stride = 2}), padded));
  network.materialize();
  const Tensor input = Tensor::full({1, 4, 4, 2}, -1, DType::f32);
  const Tensor output = compile(network, input.shape()).run(input).front();
  EXPECT_EQ(output.data<float>()[0], 0);
  const autograd::NoGrad off;
  EXPECT_EQ(difference(output, network.run(input).output), 0);
}

TEST(Plan, UsesWeightsThatChanged) {
  nn::Network network = make({"mobilenet", 32});
  const Tensor input = random_normal({1, 32, 32, 3}, 1).to(DType::f32);
  const Plan plan = compile(network, input.shape(), {.dtype = DType::f32, .outputs = {"conv_pw_1_relu"}, .given = {}});
  const autograd::NoGrad off;
  Tensor before = plan.run(input).front();
  for (const char* name : {"conv1/weight", "conv1_bn/moving_variance", "conv_dw_1_bn/beta", "conv_pw_1/weight"}) {
    Tensor& value = network.parameter(name).value;
    float* values = value.mutable_data<float>();
    for (Index i = 0; i < value.elements(); ++i) values[i] = 1.5f * values[i] + 0.1f;
    const Tensor want = network.run(input, {.until = {"conv_pw_1_relu"}}).output;
    const Tensor got = plan.run(input).front();
    EXPECT_LT(difference(got, want), 1e-5) << name;
    EXPECT_GT(difference(got, before), 1e-3) << name;
    before = got;
  }
}

TEST(Plan, GivesTheValuesOfNodesInside) {
  nn::Network network = make({"inception_v3", 75});
  const Tensor input = random_normal({1, 75, 75, 3}, 1).to(DType::f32);
  // A part of a concatenation, the whole, a norm, and a view.
  const std::vector<std::string> nodes{"activation_5", "mixed0", "batch_normalization_7", "avg_pool"};
  const Plan plan = compile(network, input.shape(), {.dtype = DType::f32, .outputs = nodes, .given = {}});
  const autograd::NoGrad off;
  const auto want = network.run(input, {.watch = nodes}).watched;
  const std::vector<Tensor> got = plan.run(input);
  ASSERT_EQ(got.size(), nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) EXPECT_LT(difference(got[i], want.at(nodes[i])), 1e-5) << nodes[i];
}

// Wide at first, then with a sum and a concatenation.
nn::Network branches() {
  nn::Builder b({.height = 12, .width = 12});
  const Activation relu = Activation::relu;
  auto x = b.add("wide", nn::Conv2d({.out = 64, .activation = relu}), b.input());
  x = b.add("half", nn::DepthwiseConv2d({.stride = 2, .padding = kSame, .activation = relu}), x);
  x = b.add("narrow", nn::Conv2d({.out = 16, .activation = relu}), x);
  const auto y = b.add("sum", nn::Add(), {b.add("branch1", nn::Conv2d({.out = 16}), x), x});
  const auto z = b.add("branch2", nn::DepthwiseConv2d({.padding = kSame, .activation = relu}), x);
  x = b.add("mean", nn::GlobalAveragePool(), b.add("concat", nn::Concat(), {z, y}));
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 10}), x));
  test::randomize(network);
  return network;
}

// With a small cache the first layers take a few images at a time: numbers and steps stay the same. Values inside the
// rounds are wanted, or read behind them, some as parts of a concatenation.
TEST(Plan, TakesABatchInRounds) {
  struct Case {
    nn::Network network;
    Index cache;  // of f32
    std::vector<std::string> outputs;
  };
  const std::vector<Case> cases{{make({"mobilenet"}), 400 << 10, {}},
                                {make({"mobilenet"}), 400 << 10, {"conv_pad_2", "conv_pw_3_relu", "predictions"}},
                                {make({"efficientnet_lite0"}), 500 << 10, {"block2a_expand_conv"}},
                                {branches(), 200 << 10, {}}};
  constexpr Index kBatch = 7;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Case& c : cases) {
      SCOPED_TRACE(fmt::format("{}, {} outputs, {}", c.network.name, c.outputs.size(), dtype));
      Shape shape = c.network.input_shape();
      shape = {kBatch, shape[-3], shape[-2], shape[-1]};
      const Tensor input = random_normal(shape, 1).to(dtype);
      const auto plan = [&](std::size_t bytes) {
        return compile(c.network, shape, {.dtype = dtype, .outputs = c.outputs, .last_cache = bytes});
      };
      const Plan whole = plan(1 << 30),
                 rounds = plan(static_cast<std::size_t>(c.cache) * size_of(dtype) / sizeof(float));
      EXPECT_LT(rounds.memory(), whole.memory());
      EXPECT_GT(rounds.steps().front().rounds, 1);
      const std::vector<Tensor> want = whole.run(input);
      std::vector<std::string> told;
      const std::vector<Tensor> got = rounds.run({{c.network.nodes().front().name, input}},
                                                 [&](const Step& step, double) { told.push_back(step.layers.back()); });
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i)
        EXPECT_LT(difference(got[i], want[i]), dtype == DType::f32 ? 1e-5 : 0.05);
      ASSERT_EQ(rounds.steps().size(), whole.steps().size());
      ASSERT_EQ(told.size(), whole.steps().size());
      for (std::size_t i = 0; i < told.size(); ++i) {
        const Step &one = rounds.steps()[i], &other = whole.steps()[i];
        EXPECT_EQ(told[i], other.layers.back());
        EXPECT_EQ(one.layers, other.layers);
        EXPECT_EQ(one.output, other.output);
        EXPECT_EQ(one.operations, other.operations);
        EXPECT_EQ(one.bytes, other.bytes);
      }
    }
  }
}

TEST(Plan, TakesWholeBatchesWhereRoundsAreOfNoUse) {
  const auto rounds = [](const SmallModel& model, Index batch, std::size_t cache) {
    const Plan plan = compile(make(model), {batch, model.size, model.size, 3}, {.last_cache = cache});
    return plan.steps().front().rounds;
  };
  EXPECT_EQ(rounds({"mobilenet"}, 8, 400 << 10), 4);
  EXPECT_EQ(rounds({"mobilenet"}, 1, 400 << 10), 1) << "one image";
  EXPECT_EQ(rounds({"mobilenet"}, 8, 0), 1) << "no cache is known";
  EXPECT_EQ(rounds({"mobilenet"}, 8, 128 << 10), 1) << "no image stays there";
  EXPECT_EQ(rounds({"mobilenet"}, 8, 64 << 20), 1) << "all of them do";
  EXPECT_EQ(rounds({"vgg16"}, 8, 2 << 20), 1) << "much is computed with each number";
  EXPECT_EQ(rounds({"vit_tiny"}, 8, 40 << 10), 1) << "weights outweigh the values";
}

TEST(Plan, StartsFromValuesThatAreGiven) {
  nn::Network network = make({"resnet50", 32});
  const Tensor input = random_normal({2, 32, 32, 3}, 1).to(DType::f32);
  const autograd::NoGrad off;
  const nn::RunResult whole = network.run(input, {.watch = {"conv4_block6_out"}});
  const Tensor& given = whole.watched.at("conv4_block6_out");
  const Plan plan = compile(network, input.shape(),
                            {.dtype = DType::f32, .outputs = {}, .given = {{"conv4_block6_out", given.spec()}}});
  EXPECT_LT(difference(plan.run({{"conv4_block6_out", given}}).front(), whole.output), 1e-5);
  EXPECT_ERROR(plan.run({{"input_1", input}}), "needs a value for 'conv4_block6_out'");
  EXPECT_ERROR(plan.run({{"conv4_block6_out", given.rows(0, 1)}}), "[2, 2, 2, 1024], got f32 [1, 2, 2, 1024]");
}

TEST(Plan, IsRunByManyThreadsAtOnce) {
  const nn::Network network = make({"mobilenet", 32});
  const Plan plan = compile(network, {1, 32, 32, 3});
  std::vector<Tensor> inputs, want;
  for (std::uint64_t i = 0; i < 8; ++i) {
    inputs.push_back(random_normal({1, 32, 32, 3}, i).to(DType::f32));
    want.push_back(plan.run(inputs.back()).front());
  }
  std::vector<Tensor> got(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 8; ++i) threads.emplace_back([&, i] { got[i] = plan.run(inputs[i]).front(); });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(difference(got[i], want[i]), 0);
}

TEST(Inference, KeepsTheFourPlansThatRanLast) {
  const Inference inference(make({"mobilenet", 32}));
  const auto run = [&](Index batch) { inference.run(random_normal({batch, 32, 32, 3}, 1).to(DType::f32)); };
  for (Index batch = 1; batch <= 4; ++batch) run(batch);
  const std::size_t four = memory_use().in_use;
  run(1);
  EXPECT_EQ(memory_use().in_use, four) << "it was kept";
  run(5);  // instead of 2
  const std::size_t others = memory_use().in_use;
  EXPECT_GT(others, four);
  EXPECT_LT(others, four + four / 4);
  run(1);
  EXPECT_EQ(memory_use().in_use, others) << "it had run after 2, 3 and 4";
}

TEST(Plan, NeedsValues) {
  const nn::Network network = models::make("mobilenet", {.height = 32, .width = 32});
  EXPECT_ERROR(compile(network, {1, 32, 32, 3}), "has no value yet");
}

}  // namespace
}  // namespace graft::plan
