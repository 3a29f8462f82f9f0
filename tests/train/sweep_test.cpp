#include "graft/train/sweep.h"

#include <gtest/gtest.h>

#include "graft/models/models.h"

#include "support/expect.h"
#include "train/samples.h"

namespace graft::train {
namespace {

using test::bytes_of;
using test::quick_options;
using testing::ElementsAre;

nn::Network backbone() { return test::small_network().cut("conv2"); }

class Sweeping : public testing::Test {
 protected:
  Sweeping()
      : folder_("sweep"),
        train(test::stripe_photos(folder_.path() / "train", 30, 1)),
        validation(test::stripe_photos(folder_.path() / "validation", 10, 2)) {
    scope_->engine = Engine::reference;  // whose arithmetic does not depend on the composition of a batch
    options.train = quick_options();
    options.layers = {"conv2", "conv1", "relu1"};
  }

  // As `graft finetune` does it, one depth alone.
  Report alone(const std::string& layer) const {
    nn::Network network = backbone();
    network.graft(
        {.classes = 2, .hidden = {}, .cut = options.fine_tune ? "conv2" : layer, .class_names = train.classes});
    network.use_statistics(nn::Statistics::moving);
    network.unfreeze();
    const nn::Network below = backbone().cut(layer);
    for (const nn::LayerEntry& entry : below.layers()) network.freeze(entry.name);
    return Trainer(network, train, validation, options.train).run();
  }

  test::TemporaryFolder folder_;
  ContextScope scope_;
  data::ImageFolder train, validation;
  SweepOptions options;
};

TEST_F(Sweeping, GivesWhatSeparateRunsGive) {
  struct Row {
    std::vector<std::string> layers;
    bool fine_tune, in_file;
    double tolerance;
  };
  // Where the value before a batch-norm is wanted too, the batch-norm is no part of the convolution.
  for (const Row& row :
       {Row{{"conv2", "relu1"}, false, false, 0}, Row{{"conv2", "relu1"}, false, true, 0},
        Row{{"conv2", "relu1"}, true, false, 0}, Row{{"conv2", "relu1"}, true, true, 0},
        Row{{"relu1", "conv2", "conv1"}, false, false, 1e-5}, Row{{"relu1", "conv2", "conv1"}, true, false, 1e-5}}) {
    SCOPED_TRACE(fmt::format("{} layers, fine-tuned {}, file {}", row.layers.size(), row.fine_tune, row.in_file));
    options.layers = row.layers;
    options.fine_tune = row.fine_tune;
    options.train.cache_folder = row.in_file ? folder_.path() / "cache" : std::filesystem::path();
    options.train.cache_bytes = row.in_file ? 0 : 1 << 20;
    nn::Network network = backbone();
    const auto before = bytes_of(network);
    const Sweep got = sweep(network, train, validation, options);
    EXPECT_EQ(bytes_of(network), before);
    ASSERT_EQ(got.depths.size(), row.layers.size());
    for (const Depth& depth : got.depths) {
      EXPECT_EQ(depth.width, 8);
      const Report expected = alone(depth.layer);
      ASSERT_EQ(depth.report.epochs.size(), expected.epochs.size());
      for (std::size_t i = 0; i < expected.epochs.size(); ++i) {
        const EpochRecord &one = depth.report.epochs[i], &other = expected.epochs[i];
        EXPECT_NEAR(one.train.loss, other.train.loss, row.tolerance) << depth.layer;
        EXPECT_NEAR(one.validation->loss, other.validation->loss, row.tolerance) << depth.layer;
      }
      EXPECT_EQ(depth.report.best_epoch, expected.best_epoch);
    }
    EXPECT_EQ(got.depths.back().layer, "conv2") << "the order is that of computation";
    EXPECT_GT(got.frozen_seconds, 0);
  }
}

// Wherever the probed values are kept, and where they are not.
TEST_F(Sweeping, KeepsWhatIsProbedWhereARunWould) {
  options.layers = {"conv2", "relu1"};
  const auto probe = [&](const std::string& line) {
    nn::Network network = backbone();
    Sweep got = sweep(network, train, validation, options);
    for (const Depth& depth : got.depths) EXPECT_THAT(depth.report.features, testing::HasSubstr(line));
    return got;
  };
  const Sweep expected = probe("is computed once for 40 photos and kept in 2.5 KiB of memory");
  EXPECT_GT(expected.frozen_seconds, 0);
  const auto same = [&](const std::string& line, bool computes) {
    const Sweep got = probe(line);
    EXPECT_EQ(got.frozen_seconds > 0, computes) << line;
    for (std::size_t i = 0; i < got.depths.size(); ++i)
      EXPECT_EQ(got.depths[i].report.best().validation->loss, expected.depths[i].report.best().validation->loss);
  };
  options.train.cache_folder = folder_.path() / "cache";
  options.train.cache_bytes = 0;
  same("kept in 2.5 KiB of the cache folder", true);
  same("was computed by an earlier run for 40 photos", false);
  options.train.cache_file_bytes = 0;
  options.layers = {"conv2", "conv1"};
  EXPECT_EQ(probe("its values for 40 photos would take 2.5 KiB of memory").frozen_seconds, 0);
  options.layers = {"conv2", "relu1"};
  options.train.cache_features = false;
  same("runs in every step, as asked", false);
}

TEST_F(Sweeping, ProbesTokensAveraged) {
  nn::Builder b({.height = 12, .width = 12});
  auto x = b.add("patches", nn::Conv2d({.out = 6, .kernel = 4, .stride = 4}), b.input());
  x = b.add("tokens", nn::Reshape({-1, 6}), x);
  x = b.add("norm", nn::LayerNorm(), x);
  nn::Network network = b.build(b.add("first", nn::TakeToken(0), x));
  network.preprocessing = tf_preprocessing(12);
  options.layers = {"patches", "tokens", "norm", "first"};
  for (const bool cache : {true, false}) {
    options.train.cache_features = cache;
    const Sweep got = sweep(network, train, validation, options);
    ASSERT_EQ(got.depths.size(), 4u);
    for (const Depth& depth : got.depths) EXPECT_EQ(depth.width, 6);
    const Report &of_pixels = got.depths[0].report, &of_tokens = got.depths[1].report;
    EXPECT_NEAR(of_tokens.best().train.loss, of_pixels.best().train.loss, 1e-5);
    EXPECT_NE(got.depths[2].report.best().train.loss, of_tokens.best().train.loss);
  }
}

TEST_F(Sweeping, TrainsWhatIsBehindEachLayer) {
  options.train.epochs = 1;
  nn::Network network = backbone();
  const Index head = 8 * 2 + 2, conv2 = 3 * 3 * 8 * 8 + 8, bn1 = 16;
  const auto trained = [&] {
    std::vector<Index> counts;
    for (const Depth& depth : sweep(network, train, validation, options).depths) counts.push_back(depth.trained);
    return counts;
  };
  EXPECT_THAT(trained(), ElementsAre(head, head, head));
  options.fine_tune = true;
  EXPECT_THAT(trained(), ElementsAre(head + conv2 + bn1, head + conv2, head));
}

TEST_F(Sweeping, RefusesWhatMakesNoSense) {
  struct Row {
    std::function<void(SweepOptions&)> change;
    std::string error;
  };
  for (const Row& row :
       {Row{[](SweepOptions& o) { o.layers = {"conv9"}; }, "conv9"},
        Row{[](SweepOptions& o) { o.train.augmentation.flip = true; }, "on the photos as they are"},
        Row{[](SweepOptions& o) { o.train.out = "run"; }, "writes no run"},
        Row{[](SweepOptions& o) { o.train.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 1000}; },
            "leaves none after a warm-up"},
        Row{[](SweepOptions& o) { o.train.epochs = 0; }, "at least one epoch"}}) {
    SweepOptions changed = options;
    row.change(changed);
    nn::Network network = backbone();
    EXPECT_ERROR(sweep(network, train, validation, changed), row.error);
  }
}

TEST(BlockEnds, AreTheLastBottleneckOfEachSize) {
  EXPECT_THAT(block_ends(backbone()), ElementsAre("relu1", "conv2"));
  const auto of = [](const std::string& model) {
    const nn::Network network = models::make(model);
    return block_ends(network.cut(network.features));
  };
  EXPECT_THAT(of("resnet50"), ElementsAre("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out",
                                          "conv5_block3_out"));
  EXPECT_THAT(of("vgg16"), ElementsAre("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3",
                                       "block5_pool"));
  EXPECT_THAT(of("mobilenet"),
              ElementsAre("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"));
  EXPECT_EQ(block_ends(models::make("vgg16").cut("fc2")).back(), "fc2");
  std::vector<std::string> blocks{"patch_embed.proj"};
  for (int i = 0; i < 12; ++i) blocks.push_back(fmt::format("blocks.{}.add2", i));
  blocks.emplace_back("class_token_out");
  EXPECT_EQ(of("vit_tiny"), blocks);
}

}  // namespace
}  // namespace graft::train
