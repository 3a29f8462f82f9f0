#include "train/profile.h"

#include <algorithm>

#include "core/format.h"

namespace graft::train {

void Profile::add(const plan::Step& step, double seconds) {
  const std::string layers =
      step.layers.size() == 1 ? step.layers.front() : step.layers.front() + " .. " + step.layers.back();
  for (Row* row : {&ops_[step.op + (step.backward ? ", backward" : "")], &layers_[layers]}) {
    row->seconds += seconds;
    row->operations += step.operations;
    ++row->calls;
  }
  parts_[step.op == "update" ? "optimizer" : step.backward ? "backward" : "forward"] += seconds;
}

std::string Profile::rows(std::string_view title, const std::map<std::string, Row>& table, double total,
                          std::size_t most) {
  std::vector<std::pair<std::string, Row>> sorted(table.begin(), table.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  std::string text = fmt::format("\n{:<32} {:>10} {:>7} {:>8} {:>9}\n", title, "seconds", "share", "calls", "GFLOP/s");
  for (std::size_t i = 0; i < std::min(most, sorted.size()); ++i) {
    const auto& [name, row] = sorted[i];
    text += fmt::format("{:<32} {:>10.4f} {:>6.1f}% {:>8} {:>9.2f}\n", name, row.seconds, 100 * row.seconds / total,
                        row.calls, row.seconds > 0 ? row.operations / row.seconds * 1e-9 : 0);
  }
  if (sorted.size() > most) text += fmt::format("... and {} more\n", sorted.size() - most);
  return text;
}

std::string Profile::table() const {
  constexpr std::size_t kMostLayers = 40;
  double total = 0;
  for (const auto& [part, seconds] : parts_) total += seconds;
  if (total == 0) total = 1;
  std::string text = fmt::format("{:<32} {:>10} {:>7}\n", "part of a step", "seconds", "share");
  for (const auto& [part, seconds] : parts_)
    text += fmt::format("{:<32} {:>10.4f} {:>6.1f}%\n", part, seconds, 100 * seconds / total);
  return text + rows("op", ops_, total, ops_.size()) + rows("layer", layers_, total, kMostLayers);
}

}  // namespace graft::train
