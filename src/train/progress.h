#pragma once

#include <chrono>
#include <string>

#include "graft/train/trainer.h"

namespace graft::train {

/// Shows a run on standard error: a bar that is drawn over itself on a terminal, a line an epoch elsewhere.
class ProgressDisplay {
 public:
  ProgressDisplay(Progress mode, Index epochs, Index batches);

  /// Begins the clock from which the remaining time is told; `done` epochs were done by an earlier start.
  void start(Index done);
  void step(Index epoch, Index step, const Metrics& metrics, double images_per_second);
  void epoch(const EpochRecord& record, bool best);
  /// A line of its own.
  void say(const std::string& text);

 private:
  std::string remaining(Index epoch, Index step) const;
  void clear_bar();

  bool quiet_;
  bool bar_;
  bool drawn_ = false;
  Index epochs_;
  Index batches_;
  Index done_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace graft::train
