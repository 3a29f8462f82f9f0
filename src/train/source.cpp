#include "graft/train/source.h"

#include <cstring>
#include <numeric>

#include "graft/ops/preprocess.h"

#include "core/format.h"
#include "data/shuffle.h"

namespace graft::train {
namespace {

class PhotoSource final : public Source {
 public:
  PhotoSource(data::ImageFolder photos, const data::LoaderOptions& options, std::string input)
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

class MemorySource final : public Source {
 public:
  MemorySource(std::shared_ptr<const Features> features, std::vector<Index> rows, const BatchOptions& options)
      : features_(std::move(features)), rows_(std::move(rows)), options_(options) {
    check(!rows_.empty(), "[data] expected examples, got none");
    check(options_.batch >= 1, "[data] expected a batch of at least 1, got {}", options_.batch);
    for (const Index row : rows_) {
      check(row >= 0 && row < features_->size(), "[data] there is no example {} among {}", row, features_->size());
      labels_.push_back(features_->labels[static_cast<std::size_t>(row)]);
    }
    for (const auto& [node, value] : features_->values) {
      check(value.shape().rank() > 0 && value.shape()[0] == features_->size(), "[data] '{}' is {}, expected {} rows",
            node, value.shape(), features_->size());
    }
  }

  const std::vector<Index>& labels() const override { return labels_; }
  Index batches() const override { return (size() + options_.batch - 1) / options_.batch; }
  void start_epoch(std::uint64_t epoch) override {
    order_.resize(rows_.size());
    std::iota(order_.begin(), order_.end(), Index{0});
    if (options_.shuffle) order_ = data::epoch_order(size(), options_.seed, epoch);
    next_ = 0;
  }
  std::optional<Examples> next() override {
    if (next_ >= order_.size()) return std::nullopt;
    const std::size_t end = std::min(order_.size(), next_ + static_cast<std::size_t>(options_.batch));
    Examples examples;
    std::vector<Index> rows;
    std::vector<std::int64_t> labels;
    for (; next_ < end; ++next_) {
      const auto at = static_cast<std::size_t>(order_[next_]);
      examples.indices.push_back(order_[next_]);
      rows.push_back(rows_[at]);
      labels.push_back(labels_[at]);
    }
    examples.labels = Tensor::from({static_cast<Index>(labels.size())}, labels);
    for (const auto& [node, value] : features_->values) examples.values[node] = gather(value, rows);
    return examples;
  }

 private:
  static Tensor gather(const Tensor& from, const std::vector<Index>& rows) {
    Tensor to = Tensor::empty(from.shape().with(0, static_cast<Index>(rows.size())), from.dtype());
    const std::size_t bytes = from.bytes() / static_cast<std::size_t>(from.shape()[0]);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(static_cast<std::byte*>(to.raw()) + i * bytes,
                  static_cast<const std::byte*>(from.raw()) + static_cast<std::size_t>(rows[i]) * bytes, bytes);
    }
    return to;
  }

  std::shared_ptr<const Features> features_;
  std::vector<Index> rows_;
  BatchOptions options_;
  std::vector<Index> labels_;
  std::vector<Index> order_;
  std::size_t next_ = 0;
};

}  // namespace

std::size_t Features::bytes() const {
  std::size_t total = 0;
  for (const auto& [node, value] : values) total += value.bytes();
  return total;
}

std::unique_ptr<Source> photo_source(data::ImageFolder photos, const data::LoaderOptions& options, std::string input) {
  return std::make_unique<PhotoSource>(std::move(photos), options, std::move(input));
}

std::unique_ptr<Source> memory_source(std::shared_ptr<const Features> features, std::vector<Index> rows,
                                      const BatchOptions& options) {
  return std::make_unique<MemorySource>(std::move(features), std::move(rows), options);
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
