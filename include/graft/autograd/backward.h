#pragma once

#include "graft/autograd/tape.h"

namespace graft::autograd {

struct BackwardOptions {
  /// d(loss)/d(root); undefined means ones, which needs a root of one element.
  Tensor seed = {};
  /// Keeps the saved tensors, so that a second backward may follow.
  bool retain_graph = false;
};

/// Adds d(root)/d(leaf) to `grad()` of every leaf that requires a gradient.
///
/// Throws Error if root was not recorded, if a saved tensor was changed since, or if the graph was used up by an
/// earlier backward.
void backward(const Tensor& root, const BackwardOptions& options = {});

/// d(root)/d(tensor) for the given tensors, which may be results in the middle of the graph; nothing is added to any
/// `grad()`. A tensor that root does not depend on gets zeros.
std::vector<Tensor> gradients(const Tensor& root, std::span<const Tensor> of, const BackwardOptions& options = {});

}  // namespace graft::autograd
