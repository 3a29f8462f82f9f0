#include "graft/predict/predictor.h"

#include <algorithm>
#include <numeric>

#include "graft/data/image.h"
#include "graft/data/preprocess.h"
#include "graft/io/network_file.h"
#include "graft/ops/preprocess.h"
#include "graft/ops/softmax.h"

#include "core/downloader.h"
#include "core/format.h"
#include "core/parallel.h"
#include "core/uploader.h"
#include "nn/batched.h"
#include "nn/scores.h"

namespace graft::predict {
namespace {

// Photos that are decoded and run together: enough to keep every core busy, few enough for the activations of a VGG.
constexpr Index kBatch = 16;

}  // namespace

Predictor::Predictor(nn::Network network) : Predictor(std::move(network), nullptr) {}

Predictor::Predictor(nn::Network network, const FileIdentity* file) {
  network.materialize();
  const nn::Program program = network.lower(nn::batched(network.input_shape(), 1));
  const Shape& output = program[program.output].spec.shape;
  check(output.rank() == 2,
        "[predict] expected a classifier with an output of [N, classes], '{}' gives {}; train a head on it with 'graft "
        "finetune'",
        network.name, output);
  nn::check_gives_scores("predict", network, program);
  classes_ = output[1];
  ends_in_softmax_ = program.logits() != program.output;
  check(network.classes.empty() || static_cast<Index>(network.classes.size()) == classes_,
        "[predict] '{}' has {} outputs but names for {} classes", network.name, classes_, network.classes.size());
  plan::CompileOptions options;
  if (file != nullptr) options.cache = packed_beside(*file, network);
  inference_ = std::make_shared<const plan::Inference>(network, options);
}

Predictor Predictor::load(const std::filesystem::path& path) {
  const FileIdentity file(path);
  nn::Network network = io::load_network(path);
  try {
    return {std::move(network), &file};
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
}

std::string Predictor::label(Index index) const {
  check(index >= 0 && index < classes_, "[predict] '{}' has classes 0 to {}, not {}", network().name, classes_ - 1,
        index);
  return network().classes.empty() ? std::to_string(index) : network().classes[static_cast<std::size_t>(index)];
}

std::vector<Prediction> Predictor::predict(const std::filesystem::path& photo, Index top) const {
  return predict(data::decode_image(photo, network().preprocessing.background), top);
}

std::vector<Prediction> Predictor::predict(const Tensor& image, Index top) const {
  return predict(std::span(&image, 1), top).front();
}

std::vector<std::vector<Prediction>> Predictor::predict(std::span<const std::filesystem::path> photos, Index top,
                                                        const std::function<void(Index photos)>& after_batch) const {
  const auto decode = [&](Index i) {
    return data::decode_image(photos[static_cast<std::size_t>(i)], network().preprocessing.background);
  };
  return predict_batches(static_cast<Index>(photos.size()), top, decode, after_batch);
}

std::vector<std::vector<Prediction>> Predictor::predict(std::span<const Tensor> images, Index top) const {
  return predict_batches(static_cast<Index>(images.size()), top,
                         [&](Index i) { return images[static_cast<std::size_t>(i)]; }, {});
}

std::vector<std::vector<Prediction>> Predictor::predict_batches(
    Index count, Index top, const std::function<Tensor(Index)>& image,
    const std::function<void(Index photos)>& after_batch) const {
  const Preprocessing& preprocessing = network().preprocessing;
  std::vector<std::vector<Prediction>> all;
  const auto keep = [&](std::span<const Tensor> values) {
    const auto predictions = rank(values.front().to(Device{}), top);
    all.insert(all.end(), predictions.begin(), predictions.end());
    if (after_batch) after_batch(static_cast<Index>(predictions.size()));
  };
  // While a single batch is copied there is nothing else to do: pinned memory would cost more than waiting does.
  const Device device = count > kBatch ? network().device() : Device{};
  Uploader uploader(device);
  Downloader downloader(device);
  for (Index first = 0; first < count; first += kBatch) {
    const Index size = std::min(kBatch, count - first);
    std::vector<Tensor> fitted(static_cast<std::size_t>(size));
    parallel_for(size,
                 [&](Index i) { fitted[static_cast<std::size_t>(i)] = data::fit(image(first + i), preprocessing); });
    downloader.download({scores(normalized_batch(fitted, uploader))}, keep);
  }
  downloader.finish();
  return all;
}

// Bytes travel to a device as they are and are normalised there.
Tensor Predictor::normalized_batch(std::span<const Tensor> fitted, Uploader& uploader) const {
  const Preprocessing& p = network().preprocessing;
  const bool bytes =
      network().device() != Device{} &&
      std::all_of(fitted.begin(), fitted.end(), [](const Tensor& image) { return image.dtype() == DType::u8; });
  const auto size = static_cast<Index>(fitted.size());
  const Tensor batch = Tensor::empty({size, p.height, p.width, 3}, bytes ? DType::u8 : DType::f32);
  parallel_for(size, [&](Index i) {
    Tensor row = batch.rows(i, 1);
    const Tensor& image = fitted[static_cast<std::size_t>(i)];
    if (bytes)
      row.copy_from(image.reshaped(row.shape()));
    else
      data::normalize_into(image, p, row);
  });
  const Tensor there = uploader.upload(batch).to(network().device());
  return bytes ? ops::preprocess(there, p) : there;
}

Tensor Predictor::probabilities(const Tensor& batch) const { return scores(batch).to(Device{}); }

Tensor Predictor::scores(const Tensor& batch) const {
  check(batch.defined() && batch.shape().rank() > 0 &&
            batch.shape() == nn::batched(network().input_shape(), batch.shape()[0]) && batch.dtype() == DType::f32,
        "[predict] '{}' expects f32 {}, got {}", network().name, nn::batched(network().input_shape(), 0),
        batch.defined() ? fmt::format("{} {}", batch.dtype(), batch.shape()) : "nothing");
  const Tensor output = inference_->run(batch).front();
  return ends_in_softmax_ ? output : ops::softmax(output);
}

std::vector<std::vector<Prediction>> Predictor::rank(const Tensor& probabilities, Index top) const {
  check(top >= 1, "[predict] expected to name at least 1 class, got {}", top);
  check(probabilities.shape().rank() == 2 && probabilities.shape()[1] == classes_,
        "[predict] expected probabilities [N, {}], got {}", classes_, probabilities.shape());
  const auto count = std::min(top, classes_);
  std::vector<std::vector<Prediction>> all;
  std::vector<Index> order(static_cast<std::size_t>(classes_));
  for (Index n = 0; n < probabilities.shape()[0]; ++n) {
    const float* row = probabilities.data<float>() + n * classes_;
    std::iota(order.begin(), order.end(), Index{0});
    std::partial_sort(order.begin(), order.begin() + count, order.end(),
                      [&](Index a, Index b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    std::vector<Prediction>& ranked = all.emplace_back();
    for (Index i = 0; i < count; ++i) {
      const Index index = order[static_cast<std::size_t>(i)];
      ranked.push_back({index, label(index), row[index]});
    }
  }
  return all;
}

}  // namespace graft::predict
