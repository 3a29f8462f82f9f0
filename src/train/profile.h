#pragma once

#include <map>
#include <string>
#include <vector>

#include "graft/nn/network.h"

namespace graft::train {

/// Where a run's time goes: forward by op and by layer, the other parts of a step as a whole.
class Profile {
 public:
  /// For training steps whose activations are of `dtype`.
  Profile(const nn::Network& network, DType dtype);

  /// Begins a step; what it returns goes into RunOptions::observe.
  std::function<void(const nn::Program::Call&, std::span<const Tensor>, double)> step(Index batch);
  /// Adds seconds to a part: `data`, `backward`, `optimizer`.
  void add(const std::string& part, double seconds) { parts_[part] += seconds; }

  /// Three tables: parts, ops, and the layers that take most; seconds, share, calls, GFLOP/s.
  std::string table() const;

 private:
  struct Row {
    double seconds = 0;
    double operations = 0;
    Index calls = 0;
  };
  static std::string rows(std::string_view title, const std::map<std::string, Row>& table, double total,
                          std::size_t most);

  std::map<std::string, std::vector<double>> operations_;  // of one example, by node, call by call
  std::map<std::string, std::size_t> done_;                // calls of the step by node
  Index batch_ = 0;
  std::map<std::string, double> parts_;
  std::map<std::string, Row> ops_, layers_;
};

}  // namespace graft::train
