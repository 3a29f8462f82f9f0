#include "graft/train/cross_validation.h"

#include <gtest/gtest.h>

#include "support/expect.h"
#include "train/samples.h"

namespace graft::train {
namespace {

using test::bytes_of;
using test::small_network;

TEST(CrossValidation, HoldsEveryExampleOutOnce) {
  nn::Network network = small_network();
  const auto before = bytes_of(network);
  const CrossValidation result =
      cross_validate(network, test::stripe_features(60, 1), test::quick_options(), {.folds = 3, .seeds = {1, 2}});
  ASSERT_EQ(result.accuracies.size(), 2u);
  EXPECT_GE(result.mean, 0.85);
  EXPECT_NEAR(result.mean, (result.accuracies[0] + result.accuracies[1]) / 2, 1e-12);
  EXPECT_NEAR(result.deviation, std::abs(result.accuracies[0] - result.accuracies[1]) / std::sqrt(2), 1e-12);
  EXPECT_EQ(bytes_of(network), before) << "the network is left as it was";
}

// Labels that have nothing to do with the pictures cannot be guessed on pictures that were held out.
TEST(CrossValidation, DoesNotLookAtTheFoldItIsMeasuredOn) {
  auto features = std::make_shared<Features>(*test::stripe_features(80, 1));
  for (std::size_t i = 0; i < features->labels.size(); ++i) features->labels[i] = static_cast<Index>(i / 2 % 2);
  nn::Network network = small_network();
  auto options = test::quick_options();
  options.epochs = 8;
  EXPECT_LT(cross_validate(network, features, options, {.folds = 4}).mean, 0.75);
}

TEST(CrossValidation, OfPhotosComputesFrozenFeaturesOnce) {
  const test::TemporaryFolder folder("cross");
  const auto photos = test::stripe_photos(folder.path(), 20, 1);
  ContextScope scope;
  scope->engine = Engine::reference;
  CrossValidation results[2];
  for (const bool cache : {false, true}) {
    nn::Network network = small_network();
    network.freeze();
    network.unfreeze("head");
    auto options = test::quick_options();
    options.cache_features = cache;
    results[cache] = cross_validate(network, photos, options, {.folds = 4});
  }
  EXPECT_THAT(results[1].features, testing::HasSubstr("computed once for 20 photos"));
  EXPECT_EQ(results[0].accuracies, results[1].accuracies);
}

TEST(CrossValidation, RefusesWhatMakesNoSense) {
  nn::Network network = small_network();
  auto options = test::quick_options();
  EXPECT_ERROR(cross_validate(network, test::stripe_features(4, 1), options, {.folds = 5}), "5");
  const test::TemporaryFolder folder("cross_nonsense");
  const auto photos = test::stripe_photos(folder.path(), 4, 1);
  network.freeze("conv1");
  options.progress = Progress::lines;
  options.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 1000};
  testing::internal::CaptureStderr();
  EXPECT_ERROR(cross_validate(network, photos, options, {.folds = 5}), "expected 2 to 4 folds, got 5");
  EXPECT_ERROR(cross_validate(network, photos, options, {.folds = 2}), "leaves none after a warm-up");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "before anything is computed";
  options.out = "somewhere";
  EXPECT_ERROR(cross_validate(network, test::stripe_features(4, 1), options), "writes no run");
}

}  // namespace
}  // namespace graft::train
