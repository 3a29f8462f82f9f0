#include <gtest/gtest.h>

#include "graft/core/tensor.h"

#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"
#include "kernels/linear.h"

#if GRAFT_HAS_VECTORIZED
#include "cpu/vectorized/machine.h"

namespace graft {
namespace {

// A kernel that silently left a network's layers to another would pass every other test, slowly.
TEST(Vectorized, TakesTheLayersOfNetworks) {
  if (!kernels::vectorized::has_avx2()) GTEST_SKIP() << "this processor has no AVX2";
  struct Case {
    std::string what;
    Shape image;
    Index out;
    Window window;
  };
  const std::vector<Case> cases{
      {"first layer", {1, 14, 14, 3}, 16, {.kernel = 7, .stride = 2, .padding = pad(3)}},
      {"3x3", {2, 14, 14, 32}, 64, {.kernel = 3, .padding = kSame}},
      {"1x1, stride 2", {2, 7, 7, 64}, 32, {.stride = 2}},
      {"1x7", {1, 14, 14, 16}, 16, {.kernel = {1, 7}, .padding = kSame}},
  };
  ContextScope scope;
  scope->engine = Engine::native;
  Context& context = Context::current();
  for (const Case& c : cases) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const ConvGeometry g{lay("conv2d", c.window, c.image), c.out};
      const Tensor x = Tensor::zeros(c.image, dtype),
                   y = Tensor::zeros({g.batch, g.out_height, g.out_width, c.out}, dtype),
                   w = Tensor::zeros({c.out, g.kernel_height, g.kernel_width, g.channels}, DType::f32);
      const Operand none;
      EXPECT_EQ(kernels::conv2d_forward.choose(context, g, x, w, none, none, Activation::relu, y).run,
                &kernels::vectorized::conv2d_forward)
          << c.what;
      EXPECT_EQ(kernels::conv2d_backward_input.choose(context, g, y, w, Gradient{x, false}).run,
                &kernels::vectorized::conv2d_backward_input)
          << c.what;
      if (dtype == DType::f32) {
        EXPECT_EQ(kernels::conv2d_backward_weight.choose(context, g, x, y, Gradient{w, false}).run,
                  &kernels::vectorized::conv2d_backward_weight)
            << c.what;
      }
    }
  }
  const Tensor x = Tensor::zeros({4, 64}), w = Tensor::zeros({10, 64}), y = Tensor::zeros({4, 10});
  EXPECT_EQ(kernels::linear_forward.choose(context, x, w, Operand(), Activation::linear, y).run,
            &kernels::vectorized::linear_forward);
  EXPECT_EQ(kernels::linear_backward_input.choose(context, y, w, Gradient{x, false}).run,
            &kernels::vectorized::linear_backward_input);
  EXPECT_EQ(kernels::linear_backward_weight.choose(context, x, y, Gradient{w, false}).run,
            &kernels::vectorized::linear_backward_weight);
}

TEST(Vectorized, TakesTheNormsOfNetworks) {
  if (!kernels::vectorized::has_avx2()) GTEST_SKIP() << "this processor has no AVX2";
  ContextScope scope;
  const Tensor x = Tensor::zeros({2, 7, 7, 20}), y = Tensor::zeros(x.shape()), channel = Tensor::zeros({20});
  const ChannelStatistics statistics{channel, channel};
  const BatchNormGradients gradients{{y, false}, {channel, false}, {channel, false}};
  const Operand none;
  for (const Engine engine : {Engine::native, Engine::automatic}) {
    scope->engine = engine;
    const Context& context = Context::current();
    for (const Activation activation : {Activation::linear, Activation::relu, Activation::relu6}) {
      const BatchNormAttributes a{.activation = activation};
      EXPECT_EQ(kernels::batch_norm_batch.choose(context, a, x, channel, none, y, statistics, y, statistics).run,
                &kernels::vectorized::batch_norm_batch);
      EXPECT_EQ(kernels::batch_norm_moving.choose(context, a, x, none, channel, none, statistics, y).run,
                &kernels::vectorized::batch_norm_moving);
      EXPECT_EQ(kernels::batch_norm_batch_backward.choose(context, a, x, channel, none, statistics, y, gradients).run,
                &kernels::vectorized::batch_norm_batch_backward);
    }
    EXPECT_EQ(kernels::batch_norm_moving_backward.choose(context, {}, x, channel, statistics, y, gradients).run,
              &kernels::vectorized::batch_norm_moving_backward);
  }
}

TEST(Vectorized, IsNotTheReference) {
  ContextScope scope;
  scope->engine = Engine::reference;
  const Tensor x = Tensor::zeros({4, 64}), w = Tensor::zeros({10, 64}), y = Tensor::zeros({4, 10});
  EXPECT_EQ(kernels::linear_forward.choose(Context::current(), x, w, Operand(), Activation::linear, y).run,
            &kernels::cpu::linear_forward);
}

}  // namespace
}  // namespace graft
#endif
