#include "plan/memory.h"

#include <gtest/gtest.h>

#include "graft/core/generator.h"

namespace graft::plan {
namespace {

bool overlap(const Block& a, const Block& b) {
  const bool in_time = a.first <= b.last && b.first <= a.last;
  return in_time && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

void expect_apart(const std::vector<Block>& blocks, std::size_t total) {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_LE(blocks[i].offset + blocks[i].bytes, total);
    for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(overlap(blocks[i], blocks[j])) << i << " and " << j;
  }
}

TEST(Memory, ReusesWhatIsDone) {
  std::vector<Block> chain{{640, 0, 1}, {640, 1, 2}, {640, 2, 3}};
  EXPECT_EQ(place(chain), 1280u);
  EXPECT_EQ(least_memory(chain), 1280u);
  expect_apart(chain, 1280);
}

TEST(Memory, FillsGapsBetweenLargerBlocks) {
  std::vector<Block> blocks{{1024, 0, 9}, {512, 0, 3}, {256, 4, 5}, {256, 5, 9}, {512, 6, 6}};
  const std::size_t total = place(blocks);
  expect_apart(blocks, total);
  EXPECT_EQ(total, least_memory(blocks));
}

TEST(Memory, AnyLifetimes) {
  Generator generator{.seed = 5};
  for (int round = 0; round < 50; ++round) {
    std::vector<Block> blocks;
    for (int i = 0; i < 40; ++i) {
      const auto draw = [&](int n) { return static_cast<int>(generator.uniform() * n); };
      const int first = draw(30);
      blocks.push_back({.bytes = static_cast<std::size_t>(draw(5000)), .first = first, .last = first + draw(8)});
    }
    const std::size_t total = place(blocks);
    expect_apart(blocks, total);
    EXPECT_GE(total, least_memory(blocks));
    EXPECT_LE(total, 2 * least_memory(blocks));
  }
}

}  // namespace
}  // namespace graft::plan
