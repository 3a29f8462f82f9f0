#pragma once

#include <map>
#include <memory>
#include <string>

#include "graft/core/tensor.h"

namespace graft::plan {

/// What plans have made of a network's weights, by them or by others before: norms folded into them, and copies in the
/// layouts of kernels. Plans on the CPU ask here first. Safe from many threads.
class WeightCache {
 public:
  struct Entry {
    Tensor value;                          ///< what was computed from weights; undefined where it is the weight itself
    std::map<std::string, Tensor> packed;  ///< u8, by the name of the layout
  };
  using Entries = std::map<std::string, Entry>;

  virtual ~WeightCache() = default;
  /// Whether the weights are still those that the entries were made from.
  virtual bool is_valid() const = 0;
  /// Null if there is none of that name.
  virtual std::shared_ptr<const Entry> find(const std::string& name) const = 0;
  /// What a plan uses and has not found, or only in part.
  virtual void keep(const Entries& entries) = 0;
};

}  // namespace graft::plan
