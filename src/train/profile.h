#pragma once

#include <map>
#include <string>
#include <vector>

#include "graft/plan/plan.h"

namespace graft::train {

/// Where a run's time goes: steps of plans by op and by layer, the other parts as a whole.
class Profile {
 public:
  /// Adds seconds that a step of a plan took.
  void add(const plan::Step& step, double seconds);
  /// Adds seconds to a part: `data`, `optimizer`.
  void add(const std::string& part, double seconds) { parts_[part] += seconds; }

  /// Three tables: parts, ops, and the layers that take most; seconds, share, calls, GFLOP/s. What one step of a plan
  /// computes stands together: `conv1_pad .. conv1_relu`.
  std::string table() const;

 private:
  struct Row {
    double seconds = 0;
    double operations = 0;
    Index calls = 0;
  };
  static std::string rows(std::string_view title, const std::map<std::string, Row>& table, double total,
                          std::size_t most);

  std::map<std::string, double> parts_;
  std::map<std::string, Row> ops_, layers_;
};

}  // namespace graft::train
