#pragma once

#include <chrono>
#include <string>

#include "graft/train/trainer.h"

namespace graft::train {

/// Shows a run on standard error: a bar that is drawn over itself on a terminal, lines elsewhere.
class ProgressDisplay {
 public:
  using Clock = std::chrono::steady_clock;

  /// `line_pause` stands between the lines of one piece of work in a log.
  ProgressDisplay(Progress mode, Index epochs, Index batches, Clock::duration line_pause = std::chrono::seconds(10));

  /// Begins to compute what is frozen, once for `photos` photos.
  void start_frozen(Index photos);
  /// So many more are done.
  void frozen(Index photos);
  /// The seconds since start_frozen; shows nothing if there were no photos.
  double end_frozen();

  /// Begins the clock from which the remaining time is told; `done` epochs were done by an earlier start.
  void start(Index done);
  void step(Index epoch, Index step, const Metrics& metrics, double images_per_second);
  void epoch(const EpochRecord& record, bool best);
  /// A line of its own.
  void say(const std::string& text);

 private:
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  std::string remaining(Index epoch, Index step) const;
  /// Whether it is time to show something again.
  bool is_due(Clock::duration pause);
  void draw(const std::string& bar);
  void clear_bar();

  bool quiet_;
  bool bar_;
  bool drawn_ = false;
  Index epochs_;
  Index batches_;
  Clock::duration line_pause_;
  Index done_ = 0;
  Index frozen_photos_ = 0;
  Index frozen_done_ = 0;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace graft::train
