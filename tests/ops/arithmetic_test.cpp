#include "graft/ops/arithmetic.h"

#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::OpTable;
using test::random_normal;

const std::vector<Binary> kAll{Binary::add, Binary::subtract, Binary::multiply, Binary::divide};

std::vector<OpCase> table() {
  std::vector<OpCase> rows;
  struct Case {
    std::string what;
    Shape a, b;
  };
  const std::vector<Case> cases{
      {"scalars", {}, {}},
      {"equal shapes", {2, 3, 5, 7}, {2, 3, 5, 7}},
      {"channels", {2, 3, 3, 5}, {5}},
      {"channels first", {5}, {2, 3, 3, 5}},
      {"a scalar", {3, 4}, {}},
      {"one element", {3, 4}, {1, 1}},
      {"a column", {4, 3}, {4, 1}},
      {"both repeated", {4, 1, 3}, {1, 5, 1}},
      {"a middle axis", {2, 1, 3}, {2, 4, 3}},
      {"an image a sample", {3, 2, 2, 4}, {2, 2, 4}},
      {"squeeze and excite", {2, 3, 3, 5}, {2, 1, 1, 5}},
      {"more rows than a block", {300, 67}, {67}},
      {"more columns than a block", {1, 20011}, {1, 1}},
      {"empty batch", {0, 3}, {3}},
  };
  for (const Binary function : kAll) {
    for (const Case& c : cases) {
      if (c.a.elements() > 10'000 && function != Binary::multiply) continue;  // all functions share the loops
      OpCase row{.what = c.what, .op = std::make_shared<ops::Arithmetic>(function)};
      row.inputs = {random_normal(c.a, 1),
                    test::distinct(c.b, 2, 1 / static_cast<double>(std::max<Index>(2, c.b.elements())))};
      if (function == Binary::divide) {  // away from 0, where a difference says nothing
        double* b = row.inputs[1].mutable_data<double>();
        for (Index i = 0; i < row.inputs[1].elements(); ++i) b[i] += b[i] < 0 ? -0.5 : 0.5;
      }
      row.sum_of_products = function == Binary::add || function == Binary::multiply;
      row.sum_length = std::max(c.a.elements(), c.b.elements());
      rows.push_back(row);
    }
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Arithmetic, OpTable, testing::ValuesIn(table()));

TEST(Arithmetic, MatchesTheFormulas) {
  const Tensor a = Tensor::from<float>({2, 1}, {6, 8}), b = Tensor::from<float>({2}, {2, 4});
  EXPECT_THAT(ops::add(a, b).values<float>(), testing::ElementsAre(8, 10, 10, 12));
  EXPECT_THAT(ops::subtract(a, b).values<float>(), testing::ElementsAre(4, 2, 6, 4));
  EXPECT_THAT(ops::multiply(a, b).values<float>(), testing::ElementsAre(12, 24, 16, 32));
  EXPECT_THAT(ops::divide(a, b).values<float>(), testing::ElementsAre(3, 1.5f, 4, 2));
}

// Channels 1 and 2 of rows of 4 are added to one channel of rows of 3 and to two channels.
TEST(Arithmetic, ReadsAndWritesChannelRanges) {
  const Tensor wide = Tensor::from<float>({2, 4}, {0, 1, 2, 3, 4, 5, 6, 7});
  Tensor to = Tensor::zeros({2, 3});
  const auto range = [](const Tensor& t, Index first, Index channels) {
    Operand operand(static_cast<float*>(t.raw()) + first, t.shape().with(-1, channels), t.dtype());
    operand.pitch = t.shape().channels();
    return operand;
  };
  kernels::binary_forward(Context::current(), Binary::add, range(wide, 1, 2), range(wide, 3, 1), range(to, 1, 2));
  EXPECT_THAT(to.values<float>(), testing::ElementsAre(0, 4, 5, 0, 12, 13));
  kernels::binary_backward(Context::current(), Binary::add, {}, {}, range(wide, 1, 2), {}, {range(to, 0, 1), true});
  EXPECT_THAT(to.values<float>(), testing::ElementsAre(3, 4, 5, 11, 12, 13));
}

TEST(Arithmetic, DoesNotDependOnTheNumberOfThreads) {
  const Tensor a = random_normal({500, 37}, 1).to(DType::f32), b = random_normal({37}, 2).to(DType::f32);
  const int before = threads();
  std::vector<float> first;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    Tensor db = Tensor::zeros({37});
    kernels::binary_backward(Context::current(), Binary::multiply, a, b, a, {}, {db, false});
    if (first.empty()) first.assign(db.values<float>().begin(), db.values<float>().end());
    EXPECT_THAT(db.values<float>(), testing::ElementsAreArray(first));
  }
  set_threads(before);
}

TEST(Arithmetic, NamesWhatDoesNotFit) {
  EXPECT_ERROR(ops::add(Tensor::zeros({2, 3}), Tensor::zeros({2})),
               "[add] [2, 3] and [2] do not broadcast: axis 1 from the end has extents 3 and 2");
  EXPECT_ERROR(ops::divide(Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)),
               "[divide] expected two operands of one type, got f32 and f64");
}

}  // namespace
}  // namespace graft
