#include "graft/train/frozen.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "graft/autograd/tape.h"

#include "support/expect.h"
#include "train/samples.h"

namespace graft::train {
namespace {

using test::bytes_of;
using test::quick_options;
using test::small_network;
using testing::ElementsAre;
using testing::HasSubstr;

nn::Network frozen_backbone(double dropout = 0) {
  nn::Network network = small_network(dropout);
  network.freeze();
  network.unfreeze("head");
  return network;
}

// input -> a -> {b, c} -> add -> head: the border has two tensors when b trains.
nn::Network forked() {
  nn::Builder b({.height = 4, .width = 4});
  const auto a = b.add("a", nn::Conv2d({.out = 3, .kernel = 3, .padding = kSame}), b.input());
  const auto left = b.add("b", nn::Conv2d({.out = 5, .kernel = 1}), a);
  const auto right = b.add("c", nn::Conv2d({.out = 5, .kernel = 1}), a);
  const auto pool = b.add("pool", nn::GlobalAveragePool(), b.add("sum", nn::Add(), {left, right}));
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 2}), pool));
  network.materialize();
  return network;
}

TEST(FrozenPart, EndsBeforeTheFirstThingThatChanges) {
  struct Row {
    std::string what;
    std::function<void(nn::Network&)> change;
    std::vector<std::string> border;
  };
  const std::vector<Row> rows{
      {"head alone trains", [](nn::Network&) {}, {"dropout"}},
      {"last convolution trains", [](nn::Network& n) { n.unfreeze("conv2"); }, {"relu1"}},
      {"batch statistics update", [](nn::Network& n) { n.use_statistics(nn::Statistics::batch, "bn1"); }, {"conv1"}},
      {"gamma and beta train", [](nn::Network& n) { n.unfreeze("bn1"); }, {"conv1"}},
      {"all trains", [](nn::Network& n) { n.unfreeze("*"); }, {"input"}},
  };
  for (const Row& row : rows) {
    nn::Network network = frozen_backbone();
    row.change(network);
    EXPECT_EQ(frozen_part(network).border, row.border) << row.what;
  }
  nn::Network drops = frozen_backbone(0.5);
  EXPECT_THAT(frozen_part(drops).border, ElementsAre("pool")) << "live dropout";
}

TEST(FrozenPart, MayHaveSeveralTensorsInItsBorder) {
  nn::Network network = forked();
  network.freeze();
  network.unfreeze("head");
  network.unfreeze("b");
  const FrozenPart part = frozen_part(network);
  EXPECT_THAT(part.nodes, ElementsAre("a", "c"));
  EXPECT_THAT(part.border, ElementsAre("a", "c"));
  EXPECT_EQ(part.bytes, 4u * 4u * (3u + 5u) * sizeof(float));
  EXPECT_EQ(part.operations, 2.0 * 16 * (9 * 3 * 3 + 3 * 5));
  EXPECT_EQ(frozen_part(network, DType::bf16).bytes, part.bytes / 2);
}

TEST(FrozenPart, NothingToTrain) {
  nn::Network network = small_network();
  network.freeze();
  EXPECT_ERROR(frozen_part(network), "[train] nothing to train");
}

TEST(FrozenFeatures, AreTheBordersValues) {
  nn::Network network = forked();
  network.freeze();
  network.unfreeze("head");
  network.unfreeze("b");
  auto inputs = std::make_shared<Features>();
  inputs->values["input"] = Tensor::full({5, 4, 4, 3}, 0.5);
  inputs->labels = {0, 1, 0, 1, 1};
  const auto source = memory_source(inputs, {.batch = 2});
  const Features features = frozen_features(network, frozen_part(network), *source);
  EXPECT_EQ(features.labels, inputs->labels);
  EXPECT_EQ(features.bytes(), 5u * 4u * 4u * 8u * sizeof(float));
  const autograd::NoGrad off;
  nn::RunOptions options;
  options.watch = {"c"};
  const Tensor c = network.run(inputs->values["input"], options).watched.at("c");
  const auto expected = c.values<float>(), got = features.values.at("c").values<float>();
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6);
}

TEST(FrozenHashes, FailIfOneBitMoves) {
  nn::Network network = frozen_backbone();
  const auto hashes = frozen_hashes(network);
  EXPECT_TRUE(hashes.contains("conv1/weight"));
  EXPECT_TRUE(hashes.contains("bn1/moving_mean"));
  EXPECT_FALSE(hashes.contains("head/weight"));
  check_unchanged(network, hashes);
  for (const char* name : {"conv1/weight", "bn1/gamma", "bn1/moving_mean", "bn1/moving_variance", "conv2/bias"}) {
    auto* first = static_cast<std::uint8_t*>(network.parameter(name).value.raw());
    *first ^= 1;
    EXPECT_ERROR(check_unchanged(network, hashes), fmt::format("'{}' is frozen, but its values changed", name));
    *first ^= 1;
  }
  check_unchanged(network, hashes);
}

TEST(FrozenHashes, LeaveOutStatisticsThatUpdate) {
  nn::Network network = frozen_backbone();
  network.use_statistics(nn::Statistics::batch, "bn1");
  const auto hashes = frozen_hashes(network);
  EXPECT_FALSE(hashes.contains("bn1/moving_mean"));
  EXPECT_TRUE(hashes.contains("bn1/gamma"));
}

// Training must not touch a frozen layer, its batch-norm statistics included, though it runs in training mode.
TEST(Frozen, MeansFrozen) {
  nn::Network network = small_network(0.3);
  network.freeze("conv1");
  network.freeze("bn1");
  const auto before = bytes_of(network);
  auto options = quick_options();
  options.epochs = 2;
  options.optimizer = {.algorithm = optim::Algorithm::adamw, .learning_rate = 0.05, .weight_decay = 0.1};
  const Report report = test::stripe_trainer(network, options).run();
  const auto after = bytes_of(network);
  for (const auto& [name, bytes] : before) {
    const bool frozen = name.starts_with("conv1/") || name.starts_with("bn1/");
    EXPECT_EQ(after.at(name) == bytes, frozen) << name;
    EXPECT_EQ(report.frozen_hashes.contains(name), frozen) << name;
  }
}

// And the check that says so does not sleep: something that writes into a frozen statistic during the run is caught.
TEST(Frozen, AWriteDuringTheRunIsAnError) {
  for (const char* name : {"conv1/weight", "bn1/moving_variance"}) {
    nn::Network network = frozen_backbone();
    auto options = quick_options();
    options.epochs = 1;
    options.after_step = [&](Index, Index step) {
      if (step == 1) *static_cast<std::uint8_t*>(network.parameter(name).value.raw()) ^= 1;
    };
    EXPECT_ERROR(test::stripe_trainer(network, options).run(),
                 fmt::format("'{}' is frozen, but its values changed", name));
  }
}

// A batch-norm whose statistics are those of the batch does update in a run, so the frozen one above could have.
TEST(Frozen, BatchStatisticsDoUpdate) {
  nn::Network network = frozen_backbone();
  network.use_statistics(nn::Statistics::batch, "bn1");
  const auto before = bytes_of(network);
  auto options = quick_options();
  options.epochs = 1;
  test::stripe_trainer(network, options).run();
  const auto after = bytes_of(network);
  EXPECT_NE(after.at("bn1/moving_mean"), before.at("bn1/moving_mean"));
  EXPECT_EQ(after.at("bn1/gamma"), before.at("bn1/gamma"));
}

// No work is done for gradients of frozen weights: conv1 is not on the tape, and conv2, which passes a gradient on to
// the trainable conv1 in the second case, keeps its weight and not its input, which only its own gradient would need.
TEST(Frozen, WeightGradientsAreNotComputed) {
  const auto features = test::stripe_features(2, 3);
  const auto convolutions = [&](nn::Network& network) {
    nn::RunOptions options;
    options.training = true;
    const Tensor logits = network.run(features->values.at("input"), options).logits;
    auto nodes = autograd::tape(logits);
    std::erase_if(nodes, [](const auto& node) { return node->op->name() != "conv2d"; });
    return nodes;
  };
  nn::Network head_only = frozen_backbone();
  EXPECT_TRUE(convolutions(head_only).empty());

  nn::Network first = small_network();
  first.freeze("conv2");
  const auto nodes = convolutions(first);
  ASSERT_EQ(nodes.size(), 2u);  // conv2 was recorded last and comes first
  EXPECT_TRUE(nodes[0]->edges[0].wanted());
  EXPECT_FALSE(nodes[0]->edges[1].wanted());
  EXPECT_FALSE(nodes[0]->saved_inputs[0].value.defined());
  EXPECT_TRUE(nodes[0]->saved_inputs[1].value.defined());
}

struct Trained {
  nn::Network network;
  Report report;
};

Trained train_photos(const std::filesystem::path& folder, nn::Network network, bool cache,
                     DType precision = DType::f32) {
  auto options = quick_options();
  options.cache_features = cache;
  options.precision = precision;
  options.seed = 5;
  const auto train = test::stripe_photos(folder / "train", 30, 1),
             validation = test::stripe_photos(folder / "validation", 10, 2);
  Report report = Trainer(network, train, validation, options).run();
  return {std::move(network), std::move(report)};
}

TEST(CachedFeatures, GiveTheSameNetworkBitForBit) {
  const test::TemporaryFolder folder("cached");
  ContextScope scope;
  scope->engine = Engine::reference;  // whose arithmetic does not depend on the composition of a batch
  for (const DType precision : {DType::f32, DType::bf16}) {
    Trained cached = train_photos(folder.path(), frozen_backbone(0.4), true, precision);
    Trained plain = train_photos(folder.path(), frozen_backbone(0.4), false, precision);
    EXPECT_THAT(cached.report.features,
                HasSubstr("the frozen part (5 of 7 layers, up to 'pool') is computed once for 40 photos"));
    EXPECT_THAT(plain.report.features, HasSubstr("runs in every step, as asked"));
    EXPECT_EQ(bytes_of(cached.network), bytes_of(plain.network)) << name(precision);
    EXPECT_EQ(cached.report.epochs.back().validation->loss, plain.report.epochs.back().validation->loss);
    EXPECT_EQ(cached.report.confusion, plain.report.confusion);
  }
}

// The photos themselves belong to the border where a trainable layer reads them.
TEST(CachedFeatures, MayHoldTheInputToo) {
  const test::TemporaryFolder folder("input_too");
  ContextScope scope;
  scope->engine = Engine::reference;
  const auto build = [] {
    nn::Builder b({.height = 12, .width = 12});
    const auto a = b.add("a", nn::Conv2d({.out = 4, .kernel = 3, .padding = kSame}), b.input());
    const auto own = b.add("b", nn::Conv2d({.out = 4, .kernel = 3, .padding = kSame}), b.input());
    const auto pool = b.add("pool", nn::GlobalAveragePool(), b.add("both", nn::Concat(), {a, own}));
    nn::Network network = b.build(b.add("head", nn::Linear({.out = 2}), pool));
    network.freeze("a");
    network.materialize();
    return network;
  };
  Trained cached = train_photos(folder.path(), build(), true), plain = train_photos(folder.path(), build(), false);
  EXPECT_THAT(cached.report.features, HasSubstr("up to 'input', 'a') is computed once"));
  EXPECT_EQ(bytes_of(cached.network), bytes_of(plain.network));
}

TEST(CachedFeatures, AgreeOnAnyEngine) {
  const test::TemporaryFolder folder("cached_any");
  nn::Network base = frozen_backbone();
  base.unfreeze("conv2");
  nn::Network other = frozen_backbone();
  other.unfreeze("conv2");
  Trained cached = train_photos(folder.path(), base, true), plain = train_photos(folder.path(), other, false);
  EXPECT_LT(test::largest_difference(cached.network, plain.network), 1e-5);
}

TEST(CachedFeatures, DecisionIsSaid) {
  const test::TemporaryFolder folder("decision");
  const auto photos = test::stripe_photos(folder.path(), 12, 1);
  const auto line = [&](const std::function<void(TrainOptions&)>& change, nn::Network network = frozen_backbone()) {
    auto options = quick_options();
    options.epochs = 2;
    change(options);
    return Trainer(network, photos, photos, options).run().features;
  };
  EXPECT_THAT(line([](TrainOptions& o) { o.cache_bytes = 100; }),
              HasSubstr("would take 0.8 KiB of memory, allowed are 0.1 KiB"));
  EXPECT_THAT(line([](TrainOptions& o) { o.augmentation.flip = true; }), HasSubstr("computed once for the 12 photos"));
  EXPECT_THAT(line([](TrainOptions& o) { o.augmentation.flip = true; }),
              HasSubstr("for training it runs in every step, since augmentation"));
  EXPECT_THAT(line([](TrainOptions&) {}, small_network()),
              HasSubstr("nothing is frozen before the first trainable layer"));
}

}  // namespace
}  // namespace graft::train
