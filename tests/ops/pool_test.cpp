#include "graft/ops/pool.h"

#include <limits>

#include <gtest/gtest.h>

#include "graft/ops/global_pool.h"

#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;

struct PoolCase {
  std::string what;
  Shape x;
  Window window;
};

const std::vector<PoolCase> kCases{
    // what                       x               window
    {"VGG's 2x2", {2, 6, 4, 5}, {.kernel = 2, .stride = 2}},
    {"whole image", {1, 4, 4, 1}, {.kernel = 4}},
    {"overlapping, odd size", {2, 7, 5, 3}, {.kernel = 3, .stride = 2}},
    {"border, Keras's same", {1, 5, 5, 8}, {.kernel = 3, .padding = kSame}},
    {"same, stride 2, even", {1, 6, 8, 2}, {.kernel = 3, .stride = 2, .padding = kSame}},
    {"ResNet's first", {1, 9, 9, 19}, {.kernel = 3, .stride = 2, .padding = pad(1)}},
    {"not square, one side padded",
     {1, 5, 7, 3},
     {.kernel = {3, 2}, .stride = {1, 2}, .padding = {.bottom = 1, .right = 1}}},
    {"dilated", {1, 9, 8, 3}, {.kernel = 3, .stride = {1, 2}, .dilation = {2, 3}, .padding = pad(1)}},
    {"one pixel", {3, 1, 1, 17}, {.kernel = 1}},
    {"gaps between windows", {1, 7, 7, 16}, {.kernel = 2, .stride = 3}},
    {"prime channels, more than a register", {1, 4, 4, 37}, {.kernel = 2}},
    {"more channels than a task", {1, 3, 3, 263}, {.kernel = 2}},
    {"more positions than a byte", {1, 14, 13, 2}, {.kernel = {16, 17}, .padding = pad(2)}},
    {"dilated, in vectors", {2, 7, 6, 24}, {.kernel = {2, 3}, .stride = {2, 1}, .dilation = 2, .padding = pad(1)}},
    {"more batch than blocks in flight", {40, 2, 2, 8}, {.kernel = 2}},
    {"empty batch", {0, 8, 8, 4}, {.kernel = 2, .stride = 2}},
};

std::vector<OpCase> max_table() {
  std::vector<OpCase> rows;
  rows.reserve(kCases.size());
  for (const PoolCase& c : kCases) {
    rows.push_back(
        {.what = c.what, .op = std::make_shared<ops::MaxPool>(c.window), .inputs = {test::distinct(c.x, 1)}});
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(MaxPool, OpTable, testing::ValuesIn(max_table()));

std::vector<OpCase> average_table() {
  std::vector<OpCase> rows;
  rows.reserve(kCases.size());
  for (const PoolCase& c : kCases) {
    rows.push_back(
        {.what = c.what, .op = std::make_shared<ops::AveragePool>(c.window), .inputs = {test::random_normal(c.x, 1)}});
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(AveragePool, OpTable, testing::ValuesIn(average_table()));

std::vector<OpCase> global_table() {
  std::vector<OpCase> rows;
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{1, 7, 7, 67}, Shape{3, 1, 1, 1}, Shape{1, 14, 13, 3},
                             Shape{0, 2, 2, 3}, Shape{1, 2, 2, 263}}) {
    rows.push_back(
        {.what = "mean", .op = std::make_shared<ops::GlobalAveragePool>(), .inputs = {test::random_normal(shape, 1)}});
    rows.push_back(
        {.what = "largest", .op = std::make_shared<ops::GlobalMaxPool>(), .inputs = {test::distinct(shape, 1)}});
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(GlobalPool, OpTable, testing::ValuesIn(global_table()));

TEST(AveragePool, BorderMeanCountsRealPixelsOnly) {
  const Tensor y = ops::average_pool(Tensor::full({1, 2, 2, 1}, 1), {.kernel = 3, .padding = kSame});
  EXPECT_THAT(y.values<float>(), testing::Each(1.f));
}

TEST(MaxPool, PaddingNeverWins) {
  const Tensor y = ops::max_pool(Tensor::full({1, 2, 2, 3}, -5), {.kernel = 3, .padding = kSame});
  EXPECT_THAT(y.values<float>(), testing::Each(-5.f));
}

// Both engines number positions alike, padding included, so that one can run the backward of the other's forward.
TEST(MaxPool, PositionsCountFromTheWindowsCorner) {
  const Tensor x = Tensor::from<float>({1, 2, 2, 1}, {1, 9, 3, 2});
  const ops::MaxPool op({.kernel = 3, .padding = kSame});
  for (const Engine engine : {Engine::native, Engine::automatic}) {
    ContextScope scope;
    scope->engine = engine;
    const Tensor y = Tensor::empty({1, 2, 2, 1}), positions = Tensor::empty({1, 2, 2, 1}, DType::u8);
    op.forward(Context::current(), std::vector<Operand>{x}, std::vector<Operand>{y, positions});
    EXPECT_THAT(y.values<float>(), testing::Each(9.f));
    EXPECT_THAT(positions.values<std::uint8_t>(), testing::ElementsAre(5, 4, 2, 1));
  }
}

TEST(MaxPool, OfEqualValuesTheFirstGetsTheGradient) {
  const ops::MaxPool op({.kernel = 2});
  for (const Engine engine : {Engine::native, Engine::automatic}) {
    ContextScope scope;
    scope->engine = engine;
    const Tensor y = Tensor::empty({1, 1, 1, 1}), positions = Tensor::empty({1, 1, 1, 1}, DType::u8);
    op.forward(Context::current(), std::vector<Operand>{Tensor::full({1, 2, 2, 1}, 4)},
               std::vector<Operand>{y, positions});
    EXPECT_EQ(positions.item(), 0);
  }
}

TEST(MaxPool, ANaNIsNotLost) {
  std::vector<Device> devices = test::devices();
  devices.push_back({});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& values : {std::vector<float>{nan, 1, 2, 3}, {1, 2, nan, 3}, {1, 2, 3, nan}}) {
    for (const Device device : devices) {
      ContextScope scope;
      scope->engine = Engine::native;
      scope->device = device;
      const Tensor x = Tensor::from<float>({1, 2, 2, 1}, values).to(device);
      EXPECT_TRUE(std::isnan(ops::global_max_pool(x).to(Device{}).item())) << device.to_string();
    }
  }
}

TEST(MaxPool, OfEqualValuesTheFirstWinsOnEveryDevice) {
  for (const Device device : test::devices()) {
    ContextScope scope;
    scope->device = device;
    const Tensor x = Tensor::full({1, 3, 3, 8}, 4, DType::f32, device),
                 y = Tensor::empty({1, 2, 2, 8}, DType::f32, device);
    const Tensor positions = Tensor::empty({1, 2, 2, 8}, DType::u8, device);
    ops::MaxPool({.kernel = 2})
        .forward(Context::current(), std::vector<Operand>{x}, std::vector<Operand>{y, positions});
    EXPECT_THAT(positions.to(Device{}).values<std::uint8_t>(), testing::Each(0)) << device.to_string();
  }
}

TEST(Pool, NamesWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({1, 2, 2, 1});
  EXPECT_ERROR(ops::average_pool(x, {.kernel = 2, .padding = {.top = 2}}),
               "[average_pool] window 0 of 3 along the height lies wholly in the padding");
  EXPECT_ERROR(ops::max_pool(Tensor::zeros({1, 1, 4, 1}), {.kernel = {2, 1}, .dilation = 2, .padding = pad(1)}),
               "[max_pool] window 0 of 1 along the height lies wholly in the padding");
  EXPECT_ERROR(ops::max_pool(Tensor::zeros({2, 2, 1}), {.kernel = 2}),
               "[max_pool] expected an image [N, H, W, C], got [2, 2, 1]");
  EXPECT_ERROR(ops::max_pool(Tensor::zeros({1, 2, 2, 1}, DType::u8), {.kernel = 2}),
               "[max_pool] needs a floating type, got u8");
  EXPECT_ERROR(ops::global_max_pool(Tensor::zeros({1, 0, 2, 1})), "[global_max_pool] an image without pixels");
}

}  // namespace
}  // namespace graft
