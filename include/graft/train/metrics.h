#pragma once

#include <vector>

#include "graft/core/tensor.h"

namespace graft::train {

/// Counts over the examples of an epoch: loss, top-1, top-5 and the confusion matrix. They are kept where the logits
/// are; whoever asks for one waits for the device. Copies share the counts.
class Metrics {
 public:
  /// Counts a batch. Among equal scores the lower class number comes first.
  ///
  /// logits  [N, C], a floating type
  /// labels  i64 [N], in 0 .. C-1, on any device
  /// loss    a scalar beside the logits, f32 or f64: the mean over the batch
  /// throws  Error if shapes do not fit those before, and on the CPU for a label that is no class
  void add(const Tensor& logits, const Tensor& labels, const Tensor& loss);
  /// Starts from nothing, in the same memory: calls of `add` that were recorded go on counting here.
  void reset();

  Index count() const;
  /// Mean over all examples; 0 if there are none, like the shares below.
  double loss() const;
  /// Share of examples whose label has the highest score, and one of the five highest.
  double top1() const;
  double top5() const;
  /// confusion()[label][prediction]: how many examples; empty before the first batch.
  std::vector<std::vector<Index>> confusion() const;

 private:
  Index counted(Index what) const;
  double share(double sum) const;

  Tensor counts_;    // see kernels/predictions.h
  Tensor loss_sum_;  // f64
  Index classes_ = 0;
};

}  // namespace graft::train
