#pragma once

#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "graft/data/image.h"
#include "graft/nn/layers.h"
#include "graft/train/trainer.h"

#include "core/format.h"

/// Tiny networks and data for the tests of training.
namespace graft::test {

/// A folder of its own that goes away with the object.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / fmt::format("graft_{}_{}", name, getpid())) {
    std::filesystem::remove_all(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Noise with bright rows (class 0) or bright columns (class 1): the mean of a picture says nothing about its class.
inline Tensor stripes(Index label, Generator generator, Index size = 12) {
  std::vector<std::uint8_t> pixels;
  const Index phase = generator.below(3);
  for (Index i = 0; i < size; ++i) {
    for (Index j = 0; j < size; ++j) {
      const bool bright = ((label == 0 ? i : j) + phase) % 3 == 0;
      for (int c = 0; c < 3; ++c)
        pixels.push_back(static_cast<std::uint8_t>((bright ? 150 : 30) + generator.below(60)));
    }
  }
  return Tensor::from({size, size, 3}, pixels);
}

/// Such pictures in memory as values of `input` from -1 to 1, classes in turn.
inline std::shared_ptr<const train::Features> stripe_features(Index count, std::uint64_t seed, Index size = 12) {
  auto features = std::make_shared<train::Features>();
  Tensor inputs = Tensor::empty({count, size, size, 3});
  for (Index i = 0; i < count; ++i) {
    const Tensor picture = stripes(i % 2, Generator{.seed = seed}.split(static_cast<std::uint64_t>(i)), size);
    float* to = inputs.mutable_data<float>() + i * picture.elements();
    for (Index k = 0; k < picture.elements(); ++k)
      to[k] = static_cast<float>(picture.data<std::uint8_t>()[k]) / 127.5f - 1;
    features->labels.push_back(i % 2);
  }
  features->values["input"] = inputs;
  return features;
}

/// The same as PNG files: FOLDER/{rows,columns}/*.png, read as a data set.
inline data::ImageFolder stripe_photos(const std::filesystem::path& folder, Index count, std::uint64_t seed) {
  for (Index i = 0; i < count; ++i) {
    const auto directory = folder / (i % 2 == 0 ? "columns" : "rows");
    std::filesystem::create_directories(directory);
    const auto png = data::encode_png(stripes(1 - i % 2, Generator{.seed = seed}.split(static_cast<std::uint64_t>(i))));
    std::ofstream(directory / fmt::format("{:03}.png", i), std::ios::binary)
        .write(reinterpret_cast<const char*>(png.data()), static_cast<std::streamsize>(png.size()));
  }
  return data::read_image_folder(folder);
}

/// conv, batch-norm, ReLU, conv, ReLU, pool, dropout, linear, softmax for 12x12 pictures and two classes.
inline nn::Network small_network(double dropout = 0) {
  nn::Builder b({.height = 12, .width = 12});
  auto x = b.add("conv1", nn::Conv2d({.out = 8, .kernel = 3, .padding = kSame, .bias = false}), b.input());
  x = b.add("bn1", nn::BatchNorm({.momentum = 0.8}), x);
  x = b.add("relu1", nn::Activate(Activation::relu), x);
  x = b.add("conv2", nn::Conv2d({.out = 8, .kernel = 3, .stride = 2, .activation = Activation::relu}), x);
  x = b.add("pool", nn::GlobalAveragePool(), x);
  x = b.add("dropout", nn::Dropout({.rate = dropout}), x);
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 2, .softmax = true}), x));
  network.preprocessing = tf_preprocessing(12);
  network.seed = 7;
  network.materialize();
  return network;
}

/// Every parameter and statistic, byte for byte.
inline std::map<std::string, std::string> bytes_of(nn::Network& network) {
  std::map<std::string, std::string> all;
  for (const nn::Parameter* p : network.parameters())
    all[p->name] = std::string(static_cast<const char*>(p->value.raw()), p->value.bytes());
  return all;
}

/// The largest difference between parameters of the same name.
inline double largest_difference(nn::Network& a, nn::Network& b) {
  double worst = 0;
  for (const nn::Parameter* p : a.parameters()) {
    const auto x = p->value.values<float>(), y = b.parameter(p->name).value.values<float>();
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(x[i] - y[i])));
  }
  return worst;
}

/// Four epochs, nothing printed, a checkpoint after each; on one thread, which is quickest for networks this small.
inline train::TrainOptions quick_options() {
  set_threads(1);
  train::TrainOptions options;
  options.epochs = 4;
  options.batch = 16;
  options.optimizer.learning_rate = 0.02;
  options.workers = 1;
  options.checkpoint_seconds = 0;
  options.progress = train::Progress::none;
  return options;
}

/// A Trainer on 96 pictures in memory, with 32 others to validate on.
inline train::Trainer stripe_trainer(nn::Network& network, const train::TrainOptions& options) {
  return {network,
          train::memory_source(stripe_features(96, 1), {.batch = options.batch, .shuffle = true, .seed = options.seed}),
          train::memory_source(stripe_features(32, 2), {.batch = options.batch}), options};
}

}  // namespace graft::test
