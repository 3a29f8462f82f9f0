#include "study/chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "study/html.h"

namespace graft::study {
namespace {

constexpr double kWidth = 480, kHeight = 250, kLeft = 48, kRight = 12, kTop = 10, kBottom = 38;

struct Axis {
  double from = 0, to = 1, step = 1;
};

// At most `ticks` steps of 1, 2 or 5 times a power of ten that cover the range.
Axis axis(double from, double to, int ticks) {
  if (!(to > from)) to = from + 1;
  const double rough = (to - from) / ticks, power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= rough) step = factor * power;
  }
  return {std::floor(from / step) * step, std::ceil(to / step) * step, step};
}

struct Frame {
  Axis x, y;

  double px(double value) const { return kLeft + (kWidth - kLeft - kRight) * (value - x.from) / (x.to - x.from); }
  double py(double value) const {
    return kHeight - kBottom - (kHeight - kTop - kBottom) * (value - y.from) / (y.to - y.from);
  }
};

Frame frame_of(const std::vector<Series>& series, bool share) {
  std::size_t epochs = 1;
  double top = 0;
  for (const Series& one : series) {
    epochs = std::max(epochs, one.values.size());
    for (const auto& value : one.values) top = std::max(top, value && std::isfinite(*value) ? *value : 0);
  }
  Axis x = axis(1, std::max<double>(2, static_cast<double>(epochs)), 8);
  x = {1, std::max<double>(2, static_cast<double>(epochs)), std::max(1.0, x.step)};
  return {x, share ? Axis{0, 1, 0.2} : axis(0, top, 5)};
}

std::string grid(const Frame& frame, const ChartOptions& options) {
  const bool share = options.share;
  std::string svg;
  for (double y = frame.y.from; y <= frame.y.to + frame.y.step / 2; y += frame.y.step) {
    svg += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft, kWidth - kRight,
                       frame.py(y), frame.py(y));
    svg += fmt::format(R"(<text x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 8, frame.py(y) + 4,
                       share ? fmt::format("{:.0f} %", 100 * y) : fmt::format("{:.4g}", y));
  }
  const double every = frame.x.step;
  for (double x = every > 1 ? every : 1; x <= frame.x.to + 1e-9; x += every) {
    svg += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{:.0f}</text>)", frame.px(x),
                       kHeight - kBottom + 18, x);
  }
  return svg + fmt::format(R"(<text x="{}" y="{}" text-anchor="middle">{}</text>)", (kLeft + kWidth - kRight) / 2,
                           kHeight - 4, escape(options.along));
}

std::string curve(const Frame& frame, const Series& series, const ChartOptions& options) {
  std::string path, points;
  bool pen_down = false;
  for (std::size_t i = 0; i < series.values.size(); ++i) {
    const auto& value = series.values[i];
    if (!value || !std::isfinite(*value)) {
      pen_down = false;
      continue;
    }
    const double x = frame.px(static_cast<double>(i + 1)), y = frame.py(*value);
    path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x, y);
    pen_down = true;
    points += fmt::format(
        R"svg(<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="var(--s{})"><title>{}, {} {}: {}</title></circle>)svg", x, y,
        series.color, escape(series.name), escape(options.along), i + 1,
        options.share ? fmt::format("{:.1f} %", 100 * *value) : fmt::format("{:.4g}", *value));
  }
  return fmt::format(R"svg(<path class="curve" stroke="var(--s{})"{} d="{}"/>)svg", series.color,
                     series.dashed ? R"( stroke-dasharray="5 4")" : "", path) +
         points;
}

}  // namespace

std::string line_chart(const std::vector<Series>& series, const ChartOptions& options) {
  const Frame frame = frame_of(series, options.share);
  std::string html = fmt::format("<h3>{}</h3>", escape(options.title));
  html +=
      fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth, kHeight, escape(options.title)) +
      grid(frame, options);
  for (const Series& one : series) html += curve(frame, one, options);
  html += R"(</svg><div class="legend">)";
  for (const Series& one : series) {
    html += fmt::format(
        R"svg(<span><svg viewBox="0 0 26 10"><path class="curve" stroke="var(--s{})"{} d="M1 5H25"/></svg>{}</span>)svg",
        one.color, one.dashed ? R"( stroke-dasharray="5 4")" : "", escape(one.name));
  }
  return html + "</div>";
}

}  // namespace graft::study
