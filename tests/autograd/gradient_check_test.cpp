#include "graft/autograd/gradient_check.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "graft/ops/ops.h"

#include "support/expect.h"

namespace graft {
namespace {

using Tensors = std::span<const Tensor>;

// A user's own op, x^2 element by element, whose gradient is `slope` times x.
struct Square final : Op {
  double slope;

  explicit Square(double s) : slope(s) {}
  std::string_view name() const override { return "square"; }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override { return {inputs[0]}; }
  void forward(Context&, std::span<const Operand> in, std::span<const Operand> out) const override {
    for (Index i = 0; i < in[0].elements(); ++i) out[0].as<double>()[i] = in[0].as<double>()[i] * in[0].as<double>()[i];
  }
  Saves saves(Slots) const override { return {.inputs = {0}, .outputs = {}}; }
  void backward(Context&, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override {
    for (Index i = 0; i < dy[0].elements(); ++i) {
      const double gradient = slope * saved.inputs[0].as<double>()[i] * dy[0].as<double>()[i];
      dx[0].to.as<double>()[i] = (dx[0].accumulate ? dx[0].to.as<double>()[i] : 0) + gradient;
    }
  }
};

autograd::GradientReport check_square(double slope) {
  const std::vector<Tensor> x{Tensor::from<float>({3}, {1, -2, 0.5f})};
  return autograd::check_gradients([slope](Tensors in) { return autograd::apply(Square(slope), {in[0]}); }, x);
}

TEST(GradientCheck, PassesARightGradient) {
  const auto report = check_square(2);
  EXPECT_TRUE(report.passed);
  EXPECT_LT(report.error, 1e-9);
  EXPECT_EQ(report.compared, 3);
}

TEST(GradientCheck, FindsAWrongOneAndWhereItIsWorst) {
  const auto report = check_square(2.01);
  EXPECT_FALSE(report.passed);
  EXPECT_NEAR(report.analytic, report.numeric * 1.005, 1e-6);
  EXPECT_THAT(report.to_string(), testing::StartsWith("failed, 3 elements, worst error "));
  EXPECT_FALSE(check_square(std::numeric_limits<double>::quiet_NaN()).passed);
}

TEST(GradientCheck, AFunctionOfSeveralOpsAndTypes) {
  const std::vector<Tensor> in{Tensor::from<float>({2, 3}, {1, 2, 3, -1, 0.5f, 2}),
                               Tensor::from<float>({4, 3}, {1, 0, 2, -1, 1, 1, 2, 2, 0, 1, -2, 1}),
                               Tensor::from<std::int32_t>({2}, {3, 1})};
  const auto report = autograd::check_gradients(
      [](Tensors t) {
        return ops::softmax_cross_entropy(ops::dropout(ops::gelu(ops::linear(t[0], t[1])), 0.5), t[2],
                                          {.label_smoothing = 0.1});
      },
      in);
  EXPECT_TRUE(report.passed) << report.to_string();
  EXPECT_EQ(report.compared, 6 + 12);
}

TEST(GradientCheck, ProbesSomeElementsOfALargeInput) {
  const std::vector<Tensor> x{Tensor::full({50, 50}, 0.3)};
  const auto report =
      autograd::check_gradients([](Tensors in) { return ops::mean(ops::tanh(in[0])); }, x, {.probes = 20});
  EXPECT_TRUE(report.passed) << report.to_string();
  EXPECT_EQ(report.compared, 20);
}

TEST(GradientCheck, NamesWhatItCannotCheck) {
  const std::vector<Tensor> x{Tensor::full({2}, 1)};
  EXPECT_ERROR(autograd::check_gradients([](Tensors in) { return ops::cast(in[0], DType::f32); }, x),
               "must be f64 like its inputs, got f32");
  EXPECT_ERROR(autograd::check_gradients([](Tensors) { return Tensor::zeros({1}, DType::f64); }, x),
               "[backward] the tensor was not recorded");
}

}  // namespace
}  // namespace graft
