#include "train/progress.h"

#include <cmath>
#include <cstdio>

#include <unistd.h>

#include "core/format.h"

namespace graft::train {
namespace {

using Clock = std::chrono::steady_clock;

void print(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

ProgressDisplay::ProgressDisplay(Progress mode, Index epochs, Index batches)
    : quiet_(mode == Progress::none),
      bar_(mode == Progress::bar || (mode == Progress::automatic && isatty(STDERR_FILENO) == 1)),
      epochs_(epochs),
      batches_(batches) {}

void ProgressDisplay::start(Index done) {
  done_ = done * batches_;
  start_ = Clock::now();
}

// By the mean pace since the start, validation included.
std::string ProgressDisplay::remaining(Index epoch, Index step) const {
  const Index steps = epoch * batches_ + step - done_, left = epochs_ * batches_ - epoch * batches_ - step;
  if (steps <= 0) return "?";
  const double pace = std::chrono::duration<double>(Clock::now() - start_).count() / static_cast<double>(steps);
  const auto seconds = std::lround(pace * static_cast<double>(left));
  return seconds >= 3600 ? fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
                         : fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

void ProgressDisplay::clear_bar() {
  if (drawn_) print("\r\x1b[K");
  drawn_ = false;
}

void ProgressDisplay::step(Index epoch, Index step, const Metrics& metrics, double images_per_second) {
  constexpr auto kPause = std::chrono::milliseconds(100);
  constexpr Index kWidth = 24;
  const auto now = Clock::now();
  if (quiet_ || !bar_ || now - last_ < kPause) return;
  last_ = now;
  const auto full = static_cast<std::size_t>(kWidth * step / batches_);
  print(fmt::format("\r\x1b[Kepoch {}/{} [{:#<{}}{:.<{}}] {}/{}  loss {:.4f}  top-1 {:.3f}  {:.0f} img/s  {} left",
                    epoch + 1, epochs_, "", full, "", static_cast<std::size_t>(kWidth) - full, step, batches_,
                    metrics.loss(), metrics.top1(), images_per_second, remaining(epoch, step)));
  drawn_ = true;
}

void ProgressDisplay::epoch(const EpochRecord& r, bool best) {
  std::string text =
      fmt::format("epoch {}/{}  loss {:.4f}  top-1 {:.3f}", r.epoch, epochs_, r.train.loss, r.train.top1);
  if (r.validation)
    text += fmt::format("  validation loss {:.4f}  top-1 {:.3f}  top-5 {:.3f}", r.validation->loss, r.validation->top1,
                        r.validation->top5);
  say(text + fmt::format("  rate {:.3g}  {:.1f} s  {:.0f} img/s  {} left{}", r.learning_rate, r.seconds,
                         r.images_per_second, remaining(r.epoch, 0), best ? "  (best)" : ""));
}

void ProgressDisplay::say(const std::string& text) {
  if (quiet_) return;
  clear_bar();
  print(text + "\n");
}

}  // namespace graft::train
