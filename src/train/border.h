#pragma once

#include <functional>
#include <span>

#include "graft/train/frozen.h"

namespace graft::train {

/// Told the values of a border for some examples, in the order of FrozenPart::border. They are there until it returns.
using BorderSink = std::function<void(std::span<const Index> examples, std::span<const Tensor> values)>;

/// Runs the network up to a border over an epoch of a data set, in inference. The source may give values of any nodes
/// before the border. On a device the sink is told of one batch while the next one is computed.
void for_each_border(nn::Network& network, const FrozenPart& part, Source& source, std::uint64_t epoch, DType dtype,
                     const BorderSink& sink);

/// A value averaged over the pixels or the tokens of each example: [N, H, W, C], [N, L, C] or [N, C] becomes [N, C].
Tensor averaged(const Tensor& value);

/// Rows of several values, put where they belong as they come.
class FeatureRows {
 public:
  FeatureRows(std::vector<std::string> nodes, Index rows) : nodes_(std::move(nodes)), rows_(rows) {}
  void put(std::span<const Index> rows, std::span<const Tensor> values);
  /// All of them, without labels.
  Features take() { return std::move(features_); }

 private:
  std::vector<std::string> nodes_;
  Index rows_;
  Features features_;
};

}  // namespace graft::train
