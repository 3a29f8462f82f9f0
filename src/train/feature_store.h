#pragma once

#include <memory>
#include <span>

#include "graft/train/source.h"

namespace graft::train {

/// Rows of values of some nodes, wherever they are kept.
class FeatureStore {
 public:
  virtual ~FeatureStore() = default;
  virtual Index rows() const = 0;
  virtual std::map<std::string, Tensor> read(std::span<const Index> rows) const = 0;
  /// Whether reading takes so long that it pays to read the next batch while the network works on this one.
  virtual bool reads_ahead() const { return false; }
};

/// `rows` rows of `features`, which may lack labels. Throws Error if a value has another number of rows.
std::shared_ptr<const FeatureStore> memory_store(std::shared_ptr<const Features> features, Index rows);

/// Which rows of a store the examples of a data set are.
struct StoredExamples {
  std::shared_ptr<const FeatureStore> store;
  std::vector<Index> rows;    ///< one an example
  std::vector<Index> labels;  ///< one an example
  /// Several versions of each example: in epoch e its row is rows[i] + (e mod views) * view_stride.
  Index views = 1, view_stride = 0;
};
std::unique_ptr<Source> stored_source(StoredExamples examples, const BatchOptions& options);

}  // namespace graft::train
