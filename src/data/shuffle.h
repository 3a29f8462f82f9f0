#pragma once

#include <span>
#include <utility>

#include "graft/core/generator.h"

namespace graft::data {

/// Fisher and Yates: every order is equally likely.
inline void shuffle(std::span<Index> items, Generator generator) {
  for (std::size_t left = items.size(); left > 1; --left) {
    std::swap(items[left - 1], items[static_cast<std::size_t>(generator.below(static_cast<Index>(left)))]);
  }
}

}  // namespace graft::data
