#include "graft/nn/initializer.h"

#include <cmath>

#include <gtest/gtest.h>

#include "support/expect.h"

namespace graft::nn {
namespace {

struct Case {
  Initializer initializer;
  double deviation;  // of the distribution, from its formula
  double bound;      // no value lies beyond
};

TEST(Initializer, DrawsTheDistributionItIsNamedAfter) {
  constexpr double kIn = 50, kOut = 150;
  const std::vector<Case> cases{
      {kGlorotUniform, std::sqrt(2 / (kIn + kOut)), std::sqrt(6 / (kIn + kOut))},
      {kHeUniform, std::sqrt(2 / kIn), std::sqrt(6 / kIn)},
      {kHeNormal, std::sqrt(2 / kIn), 2 * std::sqrt(2 / kIn) / 0.8796},
      {kLecunNormal, std::sqrt(1 / kIn), 2 * std::sqrt(1 / kIn) / 0.8796},
      {truncated_normal(0.02), 0.02 * 0.8796, 0.04},
      {{Initializer::Kind::normal, 0.3}, 0.3, 10},
      {{Initializer::Kind::uniform, 0.3}, 0.3 / std::sqrt(3.0), 0.3},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(name(c.initializer.kind));
    const Tensor values = initial_values({200, 100}, c.initializer, {.in = 50, .out = 150}, Generator{.seed = 3});
    double sum = 0, squares = 0, largest = 0;
    for (const float v : values.values<float>()) {
      sum += v;
      squares += static_cast<double>(v) * v;
      largest = std::max(largest, std::fabs(static_cast<double>(v)));
    }
    const double count = 20000;
    EXPECT_NEAR(sum / count, 0, 0.03 * c.deviation);
    EXPECT_NEAR(std::sqrt(squares / count), c.deviation, 0.02 * c.deviation);
    EXPECT_LE(largest, c.bound * 1.0001);
  }
}

TEST(Initializer, NamesGoBothWays) {
  EXPECT_EQ(initializer_from_name(name(Initializer::Kind::he_normal)), Initializer::Kind::he_normal);
  EXPECT_ERROR(initializer_from_name("xavier"), "got 'xavier'");
}

}  // namespace
}  // namespace graft::nn
