#include "graft/predict/predictor.h"

#include <atomic>
#include <cmath>
#include <span>
#include <thread>

#include <gmock/gmock.h>

#include "graft/data/preprocess.h"
#include "graft/io/network_file.h"
#include "graft/nn/layers.h"

#include "data/support.h"
#include "support/op_check.h"

namespace graft::predict {
namespace {

using data::picture;
using testing::HasSubstr;
using testing::ThrowsMessage;

// conv, pool, five classes; with a softmax at the end or without.
nn::Network small_network(bool softmax) {
  nn::Builder b({.height = 12, .width = 16});
  auto x = b.add("conv", nn::Conv2d({.out = 6, .kernel = 3, .stride = 2, .activation = Activation::relu}), b.input());
  x = b.add("bn", nn::BatchNorm(), x);
  x = b.add("pool", nn::GlobalAveragePool(), x);
  nn::Network network = b.build(b.add("top", nn::Linear({.out = 5, .softmax = softmax}), x));
  network.preprocessing = tf_preprocessing(12);
  network.preprocessing.width = 16;
  network.seed = 3;
  return network;
}

TEST(Predictor, GivesTheSoftmaxOfTheLogitsWhetherTheNetworkEndsInOneOrNot) {
  const Tensor image = picture(20, 30);
  nn::Network network = small_network(false);
  const Tensor batch = data::preprocess(image, network.preprocessing).reshaped({1, 12, 16, 3});
  const Tensor logits = network.run(batch).output;
  double sum = 0;
  for (const float logit : logits.values<float>()) sum += std::exp(logit);
  const Tensor without = Predictor(small_network(false)).probabilities(batch);
  const Tensor with = Predictor(small_network(true)).probabilities(batch);
  for (Index i = 0; i < 5; ++i) {
    const double expected = std::exp(logits.data<float>()[i]) / sum;
    EXPECT_NEAR(without.data<float>()[i], expected, 1e-6);
    EXPECT_NEAR(with.data<float>()[i], expected, 1e-6);
  }
}

TEST(Predictor, RanksByProbabilityThenByNumber) {
  nn::Network network = small_network(true);
  network.classes = {"a", "b", "c", "d", "e"};
  const Predictor predictor(network);
  const auto ranked =
      predictor.rank(Tensor::from({2, 5}, std::vector<float>{.1f, .3f, .2f, .3f, .1f, 0, 0, 1, 0, 0}), 3);
  ASSERT_EQ(ranked.size(), 2u);
  ASSERT_EQ(ranked[0].size(), 3u);
  EXPECT_EQ(ranked[0][0].label, "b");
  EXPECT_EQ(ranked[0][1].label, "d");
  EXPECT_EQ(ranked[0][2].index, 2);
  EXPECT_FLOAT_EQ(static_cast<float>(ranked[0][2].probability), .2f);
  EXPECT_EQ(ranked[1][0].label, "c");
  EXPECT_EQ(predictor.rank(Tensor::full({1, 5}, .2), 99).front().size(), 5u);
}

TEST(Predictor, FilesImagesAndBatchesAgree) {
  const data::TemporaryFolder folder;
  std::vector<std::filesystem::path> files;
  std::vector<Tensor> images;
  for (std::uint64_t i = 0; i < 19; ++i) {  // more than a batch of its own
    images.push_back(picture(10 + static_cast<Index>(i), 24, 3, i));
    files.push_back(folder.write(std::to_string(i) + ".png", data::encode_png(images.back())));
  }
  io::save_network(*std::make_unique<nn::Network>(small_network(true)), folder.path() / "w.safetensors");
  const Predictor predictor = Predictor::load(folder.path() / "w.safetensors");
  std::vector<Index> batches;
  const auto of_files = predictor.predict(files, 5, [&](Index photos) { batches.push_back(photos); }),
             of_images = predictor.predict(images, 5);
  EXPECT_THAT(batches, testing::ElementsAre(16, 3));
  ASSERT_EQ(of_files.size(), files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto alone = predictor.predict(files[i], 5);
    EXPECT_EQ(alone.front().label, std::to_string(alone.front().index));
    for (std::size_t k = 0; k < 5; ++k) {
      EXPECT_EQ(of_files[i][k].index, of_images[i][k].index);
      EXPECT_EQ(of_files[i][k].probability, of_images[i][k].probability);
      EXPECT_EQ(alone[k].index, of_images[i][k].index);
      EXPECT_NEAR(alone[k].probability, of_images[i][k].probability, 1e-6);
    }
  }
}

// On a device photos are normalised there; floats, which come from the caller, on the CPU. The numbers are the same.
TEST(Predictor, NormalisesBytesOnADevice) {
  std::vector<Tensor> images, floats;
  for (std::uint64_t i = 0; i < 3; ++i) {
    images.push_back(picture(12, 16, 3, i));
    floats.push_back(images.back().to(DType::f32));
  }
  for (const Device device : test::devices()) {
    nn::Network network = small_network(true);
    network.to(device);
    const Predictor predictor(network);
    const auto of_bytes = predictor.predict(images, 5), of_floats = predictor.predict(floats, 5);
    for (std::size_t i = 0; i < images.size(); ++i) {
      for (std::size_t k = 0; k < 5; ++k) {
        EXPECT_EQ(of_bytes[i][k].index, of_floats[i][k].index) << device.to_string();
        EXPECT_EQ(of_bytes[i][k].probability, of_floats[i][k].probability) << device.to_string();
      }
    }
  }
}

// In several batches, each computed while the next one is made ready.
TEST(Predictor, GivesManyInTheirOrderOnADevice) {
  std::vector<Tensor> images;
  for (std::uint64_t i = 0; i < 40; ++i) {
    images.push_back(picture(12, 16, 3, i));
    if (i >= 16 && i < 32) images.back() = images.back().to(DType::f32);  // a batch that travels as floats
  }
  nn::Network network = small_network(true);
  const auto want = Predictor(network).predict(images, 5);
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    network.to(device);
    const auto got = Predictor(network).predict(images, 5);
    ASSERT_EQ(got.size(), images.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
      for (std::size_t k = 0; k < 5; ++k) EXPECT_NEAR(got[i][k].probability, want[i][k].probability, 1e-6) << i;
    }
  }
}

TEST(Predictor, ManyThreadsGetWhatOneGets) {
  const Predictor predictor(small_network(true));
  std::vector<Tensor> images;
  for (std::uint64_t i = 0; i < 8; ++i) images.push_back(picture(20, 20, 3, i));
  std::vector<Prediction> expected;
  expected.reserve(images.size());
  for (const Tensor& image : images) expected.push_back(predictor.predict(image, 1).front());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 40; ++i) {
        const std::size_t at = (i * 3 + t) % images.size();
        const Prediction got = predictor.predict(images[at], 1).front();
        wrong += got.index != expected[at].index || got.probability != expected[at].probability;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// Their first calls compile a plan for each size of batch; the plans share the weights.
TEST(Predictor, ManyThreadsMayBeginAtOnce) {
  std::vector<Tensor> images;
  for (std::uint64_t i = 0; i < 16; ++i) images.push_back(picture(20, 20, 3, i));
  const std::span<const Tensor> all = images;
  const std::vector<std::vector<Prediction>> expected = Predictor(small_network(true)).predict(all, 1);
  for (int round = 0; round < 20; ++round) {
    const Predictor predictor(small_network(true));
    std::atomic<int> ready = 0, wrong = 0;
    std::vector<std::thread> threads;
    for (const std::size_t count : {1u, 3u, 16u}) {
      threads.emplace_back([&, count] {
        ++ready;
        while (ready < 3) std::this_thread::yield();
        const auto got = predictor.predict(all.first(count), 1);
        for (std::size_t i = 0; i < count; ++i) {
          wrong += got[i].front().index != expected[i].front().index ||
                   std::abs(got[i].front().probability - expected[i].front().probability) > 1e-5f;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Predictor, RefusesWhatItCannotPredict) {
  nn::Network backbone = small_network(true).cut("conv");
  EXPECT_THAT([&] { Predictor{backbone}; }, ThrowsMessage<Error>(HasSubstr("expected a classifier")));
  nn::Network named = small_network(true);
  named.classes = {"one", "two"};
  EXPECT_THAT([&] { Predictor{named}; }, ThrowsMessage<Error>(HasSubstr("5 outputs but names for 2")));
  const Predictor predictor(small_network(true));
  EXPECT_THAT([&] { static_cast<void>(predictor.label(5)); }, ThrowsMessage<Error>(HasSubstr("0 to 4, not 5")));
  EXPECT_THAT([&] { static_cast<void>(predictor.predict("nowhere.jpg")); },
              ThrowsMessage<Error>(HasSubstr("nowhere.jpg")));
  EXPECT_THAT([&] { static_cast<void>(predictor.predict(picture(8, 8), 0)); },
              ThrowsMessage<Error>(HasSubstr("at least 1")));
  EXPECT_THAT(
      [&] {
        static_cast<void>(predictor.probabilities(Tensor::zeros({1, 12, 12, 3})));
      },
      ThrowsMessage<Error>(HasSubstr("expects f32 [0, 12, 16, 3], got f32 [1, 12, 12, 3]")));
}

}  // namespace
}  // namespace graft::predict
