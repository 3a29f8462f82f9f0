#pragma once

#include <vector>

#include "graft/core/tensor.h"

namespace graft::train {

/// Counts over the examples of an epoch: loss, top-1, top-5 and the confusion matrix.
class Metrics {
 public:
  /// Counts a batch. Among equal scores the lower class number comes first.
  ///
  /// logits  [N, C], a floating type
  /// labels  i64 [N], in 0 .. C-1
  /// loss    the mean over the batch
  void add(const Tensor& logits, const Tensor& labels, double loss);

  Index count() const { return count_; }
  /// Mean over all examples; 0 if there are none, like the shares below.
  double loss() const { return share(loss_); }
  /// Share of examples whose label has the highest score, and one of the five highest.
  double top1() const { return share(static_cast<double>(top1_)); }
  double top5() const { return share(static_cast<double>(top5_)); }
  /// confusion()[label][prediction]: how many examples; empty before the first batch.
  const std::vector<std::vector<Index>>& confusion() const { return confusion_; }

 private:
  double share(double sum) const { return count_ == 0 ? 0 : sum / static_cast<double>(count_); }

  Index count_ = 0;
  double loss_ = 0;
  Index top1_ = 0;
  Index top5_ = 0;
  std::vector<std::vector<Index>> confusion_;
};

}  // namespace graft::train
