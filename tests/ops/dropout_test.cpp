#include "graft/ops/dropout.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/reduce.h"

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  for (const double rate : {0.0, 0.5, 0.9}) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{7}, Shape{3, 5, 7}, Shape{0, 3}}) {
      rows.push_back({.what = shape.to_string(),
                      .op = std::make_shared<ops::Dropout>(rate),
                      .inputs = {test::random_normal(shape, 1)}});
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Dropout, OpTable, testing::ValuesIn(table()));

TEST(Dropout, DropsAboutTheRateAndScalesTheRest) {
  const ContextScope scope;
  const Tensor y = ops::dropout(Tensor::full({100'000}, 3), 0.25);
  const auto values = y.values<float>();
  const auto dropped = static_cast<double>(std::count(values.begin(), values.end(), 0.0f));
  EXPECT_EQ(std::count(values.begin(), values.end(), 4.0f) + static_cast<std::ptrdiff_t>(dropped), 100'000);
  EXPECT_NEAR(dropped / 100'000, 0.25, 5 * 0.00137);  // five standard deviations, sqrt(0.25 * 0.75 / 100000)
}

TEST(Dropout, BackwardUsesTheMaskOfForward) {
  const ContextScope scope;
  Tensor x = Tensor::full({1001}, 1);
  x.set_requires_grad(true);
  const Tensor y = ops::dropout(x, 0.5);
  ops::dropout(x, 0.5);  // claims further numbers, which must not matter
  autograd::backward(ops::sum(y));
  EXPECT_THAT(x.grad().values<float>(), testing::ElementsAreArray(y.values<float>()));
}

TEST(Dropout, FollowsTheGenerator) {
  ContextScope scope;
  const Tensor x = Tensor::full({1001}, 1);
  const auto draw = [&] {
    const auto values = ops::dropout(x, 0.5).values<float>();
    return std::vector<float>(values.begin(), values.end());
  };
  scope->generator = {.seed = 3};
  const auto first = draw(), second = draw();
  EXPECT_NE(first, second);
  EXPECT_EQ(scope->generator.offset, 2u * 251);  // four numbers a counter
  scope->generator = {.seed = 3};
  const int before = threads();
  set_threads(3);
  EXPECT_EQ(draw(), first);
  set_threads(before);
}

// The rate, the counters and the scale are the same numbers everywhere, so the results are the same bits. Elements that
// begin in the middle of 16 bytes are drawn no differently.
TEST(Dropout, DrawsTheSameMaskOnADevice) {
  for (const Device device : test::devices()) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      for (const Index count : {1, 3, 4, 1003}) {
        ContextScope scope;
        const std::uint64_t far = (std::uint64_t{1} << 32) - 100;  // the counters pass 32 bits
        Tensor x = test::random_normal({count + 1}, 1).to(dtype).rows(1, count), moved = x.to(device);
        Tensor shifted = test::random_normal({count + 1}, 1).to(dtype).to(device).rows(1, count);
        const auto draw = [&](Tensor& from) {
          from.set_requires_grad(true);
          scope->generator = {.seed = std::uint64_t{5} << 40, .offset = far};
          const Tensor y = ops::dropout(from, 0.3);
          ops::dropout(from, 0.3);  // must not touch what backward reads
          autograd::backward(ops::sum(y));
          EXPECT_EQ(scope->generator.offset, far + 2 * static_cast<std::uint64_t>((count + 3) / 4));
          return std::pair(y.to(Device{}).to(DType::f64), from.grad().to(Device{}).to(DType::f64));
        };
        const auto want = draw(x);
        for (Tensor* from : {&moved, &shifted}) {
          const auto got = draw(*from);
          EXPECT_THAT(got.first.values<double>(), testing::ElementsAreArray(want.first.values<double>()));
          EXPECT_THAT(got.second.values<double>(), testing::ElementsAreArray(want.second.values<double>()));
        }
      }
    }
  }
}

TEST(Dropout, OfRateZeroIsTheInput) {
  const Tensor x = Tensor::full({2}, 1);
  EXPECT_EQ(ops::dropout(x, 0).id(), x.id());
  EXPECT_ERROR(ops::dropout(x, 1), "[dropout] the rate lies in [0, 1), got 1");
}

}  // namespace
}  // namespace graft
