#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graft/core/dtype.h"

namespace graft::data {

/// Positions in a data set, each part ascending.
struct Split {
  std::vector<Index> train;
  std::vector<Index> validation;
};

/// Puts round(fraction * n) of each class's n examples into `validation`, drawn by `seed`; at least one into each part
/// if n >= 2, and a single one into `train`. Throws Error unless 0 < fraction < 1.
Split stratified_split(std::span<const Index> labels, double fraction, std::uint64_t seed);

/// k parts, each of them `validation` once. Every class is dealt out over the parts evenly, and so are the classes'
/// remainders, so that parts differ by at most one in size. Throws Error unless 2 <= folds <= labels.size().
std::vector<Split> stratified_folds(std::span<const Index> labels, int folds, std::uint64_t seed);

}  // namespace graft::data
