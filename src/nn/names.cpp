#include "nn/names.h"

#include <algorithm>
#include <numeric>

#include <fnmatch.h>

#include "core/format.h"

namespace graft::nn {
namespace {

// Levenshtein distance: insertions, deletions and replacements that turn one word into the other.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  return fnmatch(std::string(pattern).c_str(), std::string(name).c_str(), 0) == 0;
}

std::string closest(std::string_view wrong, const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const std::string& name : names) {
    const std::size_t edits = distance(wrong, name);
    if (edits <= std::max<std::size_t>(2, wrong.size() / 2)) ranked.emplace_back(edits, "'" + name + "'");
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> shown;
  for (std::size_t i = 0; i < std::min(kShown, ranked.size()); ++i) shown.push_back(ranked[i].second);
  return shown.empty() ? "" : fmt::format("; close to it: {}", fmt::join(shown, ", "));
}

}  // namespace graft::nn
