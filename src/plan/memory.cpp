#include "plan/memory.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace graft::plan {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector register

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool together(const Block& a, const Block& b) { return a.first <= b.last && b.first <= a.last; }

// The smallest gap between blocks, sorted by offset, that `block` fits into; behind them if there is none.
std::size_t gap_for(const Block& block, const std::vector<const Block*>& others) {
  std::size_t best = 0, best_gap = SIZE_MAX, end = 0;
  for (const Block* other : others) {
    if (other->offset >= end + aligned(block.bytes) && other->offset - end < best_gap) {
      best = end;
      best_gap = other->offset - end;
    }
    end = std::max(end, other->offset + aligned(other->bytes));
  }
  return best_gap == SIZE_MAX ? end : best;
}

}  // namespace

std::size_t place(std::vector<Block>& blocks) {
  std::vector<std::size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  std::vector<const Block*> placed;  // sorted by offset
  std::size_t total = 0;
  for (const std::size_t index : order) {
    Block& block = blocks[index];
    std::vector<const Block*> others;
    std::copy_if(placed.begin(), placed.end(), std::back_inserter(others),
                 [&](const Block* other) { return together(block, *other); });
    block.offset = gap_for(block, others);
    total = std::max(total, block.offset + aligned(block.bytes));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &block,
                                   [](const Block* a, const Block* b) { return a->offset < b->offset; }),
                  &block);
  }
  return total;
}

std::size_t least_memory(const std::vector<Block>& blocks) {
  std::size_t most = 0;
  for (const Block& start : blocks) {  // what is needed grows only where a block begins
    std::size_t bytes = 0;
    for (const Block& block : blocks) {
      if (block.first <= start.first && start.first <= block.last) bytes += aligned(block.bytes);
    }
    most = std::max(most, bytes);
  }
  return most;
}

}  // namespace graft::plan
