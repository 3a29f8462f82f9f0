#include "train/feature_store.h"

#include <cstring>
#include <future>
#include <numeric>

#include "core/format.h"
#include "data/shuffle.h"

namespace graft::train {
namespace {

class MemoryStore final : public FeatureStore {
 public:
  MemoryStore(std::shared_ptr<const Features> features, Index rows) : features_(std::move(features)), rows_(rows) {
    for (const auto& [node, value] : features_->values) {
      check(value.shape().rank() > 0 && value.shape()[0] == rows, "[data] '{}' is {}, expected {} rows", node,
            value.shape(), rows);
    }
  }

  Index rows() const override { return rows_; }
  std::map<std::string, Tensor> read(std::span<const Index> rows) const override {
    std::map<std::string, Tensor> values;
    for (const auto& [node, value] : features_->values) values[node] = gather(value, rows);
    return values;
  }

 private:
  static Tensor gather(const Tensor& from, std::span<const Index> rows) {
    Tensor to = Tensor::empty(from.shape().with(0, static_cast<Index>(rows.size())), from.dtype());
    const std::size_t bytes = from.bytes() / static_cast<std::size_t>(from.shape()[0]);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(static_cast<std::byte*>(to.raw()) + i * bytes,
                  static_cast<const std::byte*>(from.raw()) + static_cast<std::size_t>(rows[i]) * bytes, bytes);
    }
    return to;
  }

  std::shared_ptr<const Features> features_;
  Index rows_;
};

class StoredSource final : public Source {
 public:
  StoredSource(StoredExamples examples, const BatchOptions& options)
      : examples_(std::move(examples)), options_(options) {
    check(!examples_.rows.empty(), "[data] expected examples, got none");
    check(options_.batch >= 1, "[data] expected a batch of at least 1, got {}", options_.batch);
    const Index all = examples_.store->rows() - (examples_.views - 1) * examples_.view_stride;
    for (const Index row : examples_.rows)
      check(row >= 0 && row < all, "[data] there is no example {} among {}", row, all);
  }

  const std::vector<Index>& labels() const override { return examples_.labels; }
  Index batches() const override { return (size() + options_.batch - 1) / options_.batch; }
  void start_epoch(std::uint64_t epoch) override {
    ahead_ = {};  // waits for a read that nobody wants any more
    order_.resize(examples_.rows.size());
    std::iota(order_.begin(), order_.end(), Index{0});
    if (options_.shuffle) order_ = data::epoch_order(size(), options_.seed, epoch);
    view_ = static_cast<Index>(epoch % static_cast<std::uint64_t>(examples_.views));
    next_ = 0;
  }
  std::optional<Examples> next() override {
    if (!examples_.store->reads_ahead()) return read_at(std::exchange(next_, next_ + batch()));
    if (!ahead_.valid()) read_ahead();
    auto examples = ahead_.get();
    if (examples) read_ahead();
    return examples;
  }

 private:
  std::size_t batch() const { return static_cast<std::size_t>(options_.batch); }

  void read_ahead() {
    ahead_ = std::async(std::launch::async, [this, at = next_] { return read_at(at); });
    next_ += batch();
  }

  std::optional<Examples> read_at(std::size_t begin) const {
    if (begin >= order_.size()) return std::nullopt;
    const std::size_t end = std::min(order_.size(), begin + batch());
    Examples examples;
    std::vector<Index> rows;
    std::vector<std::int64_t> labels;
    for (std::size_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(order_[i]);
      examples.indices.push_back(order_[i]);
      rows.push_back(examples_.rows[at] + view_ * examples_.view_stride);
      labels.push_back(examples_.labels[at]);
    }
    examples.labels = Tensor::from({static_cast<Index>(labels.size())}, labels);
    examples.values = examples_.store->read(rows);
    return examples;
  }

  const StoredExamples examples_;
  const BatchOptions options_;
  std::vector<Index> order_;
  Index view_ = 0;
  std::size_t next_ = 0;                          // beyond the order before an epoch has begun
  std::future<std::optional<Examples>> ahead_{};  // last: its thread reads the rest
};

}  // namespace

std::shared_ptr<const FeatureStore> memory_store(std::shared_ptr<const Features> features, Index rows) {
  return std::make_shared<MemoryStore>(std::move(features), rows);
}

std::unique_ptr<Source> stored_source(StoredExamples examples, const BatchOptions& options) {
  return std::make_unique<StoredSource>(std::move(examples), options);
}

}  // namespace graft::train
