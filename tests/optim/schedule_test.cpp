#include "graft/optim/schedule.h"

#include <gtest/gtest.h>

#include "support/expect.h"

namespace graft::optim {
namespace {

TEST(Schedule, FollowsItsFormula) {
  struct Row {
    std::string what;
    Schedule schedule;
    Index step;
    double expected;
  };
  const std::vector<Row> rows{
      {"constant", {}, 1000, 1},
      {"warm-up begins above zero", {.warmup = 4}, 0, 0.25},
      {"warm-up ends at one", {.warmup = 4}, 3, 1},
      {"warm-up of one step", {.warmup = 1}, 0, 1},
      {"before the first fall", {.kind = Schedule::Kind::step, .every = 10}, 9, 1},
      {"at the first fall", {.kind = Schedule::Kind::step, .every = 10}, 10, 0.1},
      {"third fall, after a warm-up",
       {.kind = Schedule::Kind::step, .warmup = 2, .every = 10, .decay = 0.5},
       32,
       0.125},
      {"cosine begins at one", {.kind = Schedule::Kind::cosine, .total = 100}, 0, 1},
      {"half-way", {.kind = Schedule::Kind::cosine, .total = 100}, 50, 0.5},
      {"a third of the way: cos(60) = 1/2", {.kind = Schedule::Kind::cosine, .total = 90}, 30, 0.75},
      {"cosine ends at its last", {.kind = Schedule::Kind::cosine, .total = 100, .last = 0.2}, 100, 0.2},
      {"and stays there", {.kind = Schedule::Kind::cosine, .total = 100, .last = 0.2}, 150, 0.2},
      {"half-way between warm-up and end", {.kind = Schedule::Kind::cosine, .warmup = 20, .total = 100}, 60, 0.5},
  };
  for (const Row& row : rows) EXPECT_NEAR(factor(row.schedule, row.step), row.expected, 1e-15) << row.what;
}

TEST(Schedule, SaysWhatIsMissing) {
  EXPECT_ERROR(factor({.kind = Schedule::Kind::step}, 0), "[schedule] 'step' needs the number of steps");
  EXPECT_ERROR(factor({.kind = Schedule::Kind::cosine, .warmup = 10, .total = 10}, 12), "leaves none after a warm-up");
  EXPECT_ERROR(schedule_from_name("linear"), "expected constant, step or cosine, got 'linear'");
  EXPECT_EQ(schedule_from_name("cosine"), Schedule::Kind::cosine);
}

}  // namespace
}  // namespace graft::optim
