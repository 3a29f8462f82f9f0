#include "graft/train/source.h"

#include <numeric>

#include "graft/ops/preprocess.h"

#include "core/format.h"
#include "train/feature_store.h"

namespace graft::train {
namespace {

class PhotoSource final : public Source {
 public:
  PhotoSource(std::shared_ptr<const data::ImageFolder> photos, const data::LoaderOptions& options, std::string input)
      : loader_(std::move(photos), options), input_(std::move(input)) {}

  const std::vector<Index>& labels() const override { return loader_.photos().labels; }
  Index batches() const override { return loader_.batches(); }
  void start_epoch(std::uint64_t epoch) override { loader_.start_epoch(epoch); }
  std::optional<Examples> next() override {
    auto batch = loader_.next();
    if (!batch) return std::nullopt;
    return Examples{{{input_, batch->images}}, batch->labels, std::move(batch->indices)};
  }

 private:
  data::Loader loader_;
  std::string input_;
};

}  // namespace

std::size_t Features::bytes() const {
  std::size_t total = 0;
  for (const auto& [node, value] : values) total += value.bytes();
  return total;
}

std::unique_ptr<Source> photo_source(data::ImageFolder photos, const data::LoaderOptions& options, std::string input) {
  return photo_source(std::make_shared<const data::ImageFolder>(std::move(photos)), options, std::move(input));
}

std::unique_ptr<Source> photo_source(std::shared_ptr<const data::ImageFolder> photos,
                                     const data::LoaderOptions& options, std::string input) {
  return std::make_unique<PhotoSource>(std::move(photos), options, std::move(input));
}

std::unique_ptr<Source> memory_source(std::shared_ptr<const Features> features, std::vector<Index> rows,
                                      const BatchOptions& options) {
  std::vector<Index> labels;
  for (const Index row : rows) {
    check(row >= 0 && row < features->size(), "[data] there is no example {} among {}", row, features->size());
    labels.push_back(features->labels[static_cast<std::size_t>(row)]);
  }
  const Index size = features->size();
  return stored_source({memory_store(std::move(features), size), std::move(rows), std::move(labels)}, options);
}

std::unique_ptr<Source> memory_source(std::shared_ptr<const Features> features, const BatchOptions& options) {
  std::vector<Index> rows(static_cast<std::size_t>(features->size()));
  std::iota(rows.begin(), rows.end(), Index{0});
  return memory_source(std::move(features), std::move(rows), options);
}

std::map<std::string, Tensor> values_of(const Examples& examples, const nn::Network& network, DType dtype) {
  std::map<std::string, Tensor> values;
  for (const auto& [node, value] : examples.values) {
    if (value.dtype() == DType::u8)
      values[node] = ops::preprocess(value.to(network.device()), network.preprocessing, dtype);
    else
      values[node] = is_floating(value.dtype()) ? value.to(dtype) : value;
  }
  return values;
}

nn::RunResult run(nn::Network& network, const Examples& examples, DType dtype, nn::RunOptions options) {
  Tensor input;
  for (auto& [node, value] : values_of(examples, network, dtype)) {
    if (node == network.nodes().front().name)
      input = value;
    else
      options.given[node] = value;
  }
  return network.run(input, options);
}

}  // namespace graft::train
