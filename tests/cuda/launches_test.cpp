// How often which kernel is launched: what a fused op saves shows nowhere else.

#include "runtime/launches.h"

#include <gtest/gtest.h>

#include "graft/ops/conv2d_batch_norm.h"

#include "support/op_check.h"

namespace graft {
namespace {

std::map<std::string, std::int64_t> launches_of(bool fused, const Shape& input, const Shape& weight) {
  const Device device{Device::Kind::emulated, 0};
  const Shape channels{weight[0]};
  const Tensor x = test::random_normal(input, 1).to(DType::f32).to(device),
               w = test::random_normal(weight, 2).to(DType::f32).to(device),
               mean = Tensor::zeros(channels, DType::f32, device), variance = mean.clone();
  const ops::BatchNormOptions norm{.statistics = ops::Statistics::batch};
  reset_launch_counts();
  if (fused)
    ops::conv2d_batch_norm(x, w, {}, {}, {}, {}, mean, variance, norm);
  else
    ops::batch_norm(ops::conv2d(x, w), {}, {}, mean, variance, norm);
  return launch_counts();
}

// Of the two kernels that make statistics, moments and their merging, the tiles of the convolution stand for the first.
TEST(Launches, AConvolutionLeavesTheMomentsForItsNorm) {
  const auto fused = launches_of(true, {2, 8, 8, 4}, {8, 1, 1, 4}),
             two = launches_of(false, {2, 8, 8, 4}, {8, 1, 1, 4});
  EXPECT_EQ(two, (std::map<std::string, std::int64_t>{{"conv2d", 1}, {"batch_norm_moments", 2}, {"batch_norm", 1}}));
  EXPECT_EQ(fused, (std::map<std::string, std::int64_t>{{"conv2d", 1}, {"batch_norm_moments", 1}, {"batch_norm", 1}}));
}

// Sums in parts are whole only when the convolution is over.
TEST(Launches, ASplitConvolutionDoesNot) {
  EXPECT_EQ(launches_of(true, {1, 3, 3, 512}, {8, 1, 1, 512}),
            (std::map<std::string, std::int64_t>{{"conv2d", 2}, {"batch_norm_moments", 2}, {"batch_norm", 1}}));
}

}  // namespace
}  // namespace graft
