#include "train/progress.h"

#include <cmath>
#include <cstdio>

#include <unistd.h>

#include "core/format.h"

namespace graft::train {
namespace {

constexpr auto kBarPause = std::chrono::milliseconds(100);

void print(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

// [######......] 6/12
std::string bar_of(Index done, Index all) {
  constexpr Index kWidth = 24;
  const auto full = static_cast<std::size_t>(kWidth * done / all);
  return fmt::format("[{:#<{}}{:.<{}}] {}/{}", "", full, "", static_cast<std::size_t>(kWidth) - full, done, all);
}

// 1:02:03, or 2:03 below an hour.
std::string clock_of(double duration) {
  const auto seconds = std::lround(duration);
  return seconds >= 3600 ? fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
                         : fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

}  // namespace

ProgressDisplay::ProgressDisplay(Progress mode, Index epochs, Index batches, Clock::duration line_pause)
    : quiet_(mode == Progress::none),
      bar_(mode == Progress::bar || (mode == Progress::automatic && isatty(STDERR_FILENO) == 1)),
      epochs_(epochs),
      batches_(batches),
      line_pause_(line_pause) {}

void ProgressDisplay::start_frozen(Index photos) {
  frozen_photos_ = photos;
  frozen_done_ = 0;
  start_ = Clock::now();
  if (!bar_) last_ = start_;
}

void ProgressDisplay::frozen(Index photos) {
  frozen_done_ += photos;
  if (!is_due(bar_ ? kBarPause : line_pause_)) return;
  const double pace = static_cast<double>(frozen_done_) / elapsed();
  const std::string rate =
      fmt::format("{:.0f} img/s  {} left", pace, clock_of(static_cast<double>(frozen_photos_ - frozen_done_) / pace));
  if (bar_)
    draw(fmt::format("frozen part {}  {}", bar_of(frozen_done_, frozen_photos_), rate));
  else
    say(fmt::format("frozen part {}/{}  {}", frozen_done_, frozen_photos_, rate));
}

double ProgressDisplay::end_frozen() {
  if (frozen_photos_ == 0) return 0;
  const double seconds = elapsed();
  say(fmt::format("frozen part of {} photos in {:.1f} s  {:.0f} img/s", frozen_photos_, seconds,
                  static_cast<double>(frozen_photos_) / seconds));
  return seconds;
}

void ProgressDisplay::start(Index done) {
  done_ = done * batches_;
  start_ = Clock::now();
}

// By the mean pace since the start, validation included.
std::string ProgressDisplay::remaining(Index epoch, Index step) const {
  const Index steps = epoch * batches_ + step - done_, left = epochs_ * batches_ - epoch * batches_ - step;
  if (steps <= 0) return "?";
  return clock_of(elapsed() / static_cast<double>(steps) * static_cast<double>(left));
}

bool ProgressDisplay::is_due(Clock::duration pause) {
  const auto now = Clock::now();
  if (quiet_ || now - last_ < pause) return false;
  last_ = now;
  return true;
}

void ProgressDisplay::draw(const std::string& bar) {
  print("\r\x1b[K" + bar);
  drawn_ = true;
}

void ProgressDisplay::clear_bar() {
  if (drawn_) print("\r\x1b[K");
  drawn_ = false;
}

void ProgressDisplay::step(Index epoch, Index step, const Metrics& metrics, double images_per_second) {
  if (!bar_ || !is_due(kBarPause)) return;
  draw(fmt::format("epoch {}/{} {}  loss {:.4f}  top-1 {:.3f}  {:.0f} img/s  {} left", epoch + 1, epochs_,
                   bar_of(step, batches_), metrics.loss(), metrics.top1(), images_per_second, remaining(epoch, step)));
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
