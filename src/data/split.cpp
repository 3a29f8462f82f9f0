#include "graft/data/split.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/format.h"
#include "data/shuffle.h"

namespace graft::data {
namespace {

// The positions of each class, shuffled with random numbers of the class's own, so that one class does not depend on
// another's size.
std::map<Index, std::vector<Index>> shuffled_classes(std::span<const Index> labels, std::uint64_t seed) {
  std::map<Index, std::vector<Index>> classes;
  for (std::size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(static_cast<Index>(i));
  for (auto& [label, members] : classes)
    shuffle(members, Generator{.seed = seed}.split(static_cast<std::uint64_t>(label)));
  return classes;
}

}  // namespace

Split stratified_split(std::span<const Index> labels, double fraction, std::uint64_t seed) {
  check(fraction > 0 && fraction < 1, "[split] expected a fraction between 0 and 1, got {}", fraction);
  Split split;
  for (const auto& [label, members] : shuffled_classes(labels, seed)) {
    const Index count = static_cast<Index>(members.size());
    const Index wanted = static_cast<Index>(std::lround(fraction * static_cast<double>(count)));
    const Index held_out = count < 2 ? 0 : std::clamp(wanted, Index{1}, count - 1);
    split.validation.insert(split.validation.end(), members.begin(), members.begin() + held_out);
    split.train.insert(split.train.end(), members.begin() + held_out, members.end());
  }
  std::sort(split.train.begin(), split.train.end());
  std::sort(split.validation.begin(), split.validation.end());
  return split;
}

std::vector<Split> stratified_folds(std::span<const Index> labels, int folds, std::uint64_t seed) {
  check(folds >= 2 && static_cast<std::size_t>(folds) <= labels.size(), "[split] expected 2 to {} folds, got {}",
        labels.size(), folds);
  std::vector<int> fold_of(labels.size());
  std::size_t dealt = 0;  // runs on from class to class, so that not every class's remainder falls to the first folds
  for (const auto& [label, members] : shuffled_classes(labels, seed)) {
    for (const Index i : members)
      fold_of[static_cast<std::size_t>(i)] = static_cast<int>(dealt++ % static_cast<std::size_t>(folds));
  }
  std::vector<Split> splits(static_cast<std::size_t>(folds));
  for (int f = 0; f < folds; ++f) {
    for (std::size_t i = 0; i < labels.size(); ++i) {
      Split& split = splits[static_cast<std::size_t>(f)];
      (fold_of[i] == f ? split.validation : split.train).push_back(static_cast<Index>(i));
    }
  }
  return splits;
}

}  // namespace graft::data
