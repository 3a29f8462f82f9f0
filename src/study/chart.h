#pragma once

#include <optional>
#include <string>
#include <vector>

namespace graft::study {

/// A line of a chart: a value for each epoch (or what else ChartOptions says), from 1. Where there is none, the line
/// has a gap.
struct Series {
  std::string name;
  std::vector<std::optional<double>> values;
  int color = 0;  ///< 0 to 5, of the page's palette
  bool dashed = false;
};

struct ChartOptions {
  std::string title;
  bool share = false;           ///< values are shares, shown as per cent from 0 to 100
  std::string along = "epoch";  ///< what is counted from left to right
};

/// An SVG of lines from left to right, with axes and a legend. Every point tells its value when it is pointed at.
std::string line_chart(const std::vector<Series>& series, const ChartOptions& options);

}  // namespace graft::study
