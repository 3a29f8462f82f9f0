#pragma once

#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "graft/core/generator.h"

namespace graft::data {

/// Fisher and Yates: every order is equally likely.
inline void shuffle(std::span<Index> items, Generator generator) {
  for (std::size_t left = items.size(); left > 1; --left) {
    std::swap(items[left - 1], items[static_cast<std::size_t>(generator.below(static_cast<Index>(left)))]);
  }
}

/// The positions 0 .. count-1 in the order in which an epoch goes through them.
inline std::vector<Index> epoch_order(Index count, std::uint64_t seed, std::uint64_t epoch) {
  constexpr std::uint64_t kPurpose = 1;  // of a split of the seed; augmentation has another
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index{0});
  shuffle(order, Generator{.seed = seed}.split(kPurpose).split(epoch));
  return order;
}

}  // namespace graft::data
