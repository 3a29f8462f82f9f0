#include <array>
#include <cmath>

#include <gtest/gtest.h>

#include "graft/core/context.h"

#include "kernels/registry.h"
#include "support/op_check.h"

#if GRAFT_HAS_VECTORIZED
#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/winograd.h"

namespace graft {
namespace {

using kernels::vectorized::Form;
using kernels::vectorized::Tiles;

// The transforms of F(4x4, 3x3) at the points 0, a, -a, b, -b and infinity, in absolute values.
struct AbsoluteTransforms {
  std::array<std::array<double, 6>, 6> input{};   // B^T
  std::array<std::array<double, 3>, 6> weight{};  // G
  std::array<std::array<double, 6>, 4> output{};  // A^T

  AbsoluteTransforms() {
    const std::array<double, 5> points{0, 0.625, -0.625, 1.5, -1.5};
    for (std::size_t i = 0; i < 6; ++i) {
      std::array<double, 6> polynomial{1};  // the product of (x - p) over the other points, by coefficient
      double distances = 1;
      for (std::size_t k = 0, degree = 0; k < 5; ++k) {
        if (k == i) continue;
        ++degree;
        for (std::size_t c = degree; c > 0; --c) polynomial[c] = polynomial[c - 1] - points[k] * polynomial[c];
        polynomial[0] *= -points[k];
        if (i < 5) distances *= points[i] - points[k];
      }
      for (std::size_t c = 0; c < 6; ++c) input[i][c] = std::fabs(polynomial[c]);
      for (std::size_t p = 0; p < 3; ++p)
        weight[i][p] = i < 5 ? std::fabs(std::pow(points[i], p) / distances) : static_cast<double>(p == 2);
      for (std::size_t j = 0; j < 4; ++j)
        output[j][i] = i < 5 ? std::fabs(std::pow(points[i], j)) : static_cast<double>(j == 3);
    }
  }
};

// A convolution with 3x3 weights [Co, 3, 3, Ci] as the algorithm does it, all numbers being positive: what bounds the
// rounding of each result.
std::vector<double> magnitudes(const Tiles& tiles, const Tensor& x, const Tensor& w) {
  static const AbsoluteTransforms t;
  const Index depth = x.shape()[3], out = w.shape()[0];
  std::vector<double> sums(static_cast<std::size_t>(tiles.images * tiles.out_height * tiles.out_width * out));
  std::vector<double> transformed(static_cast<std::size_t>(out * depth * 36));  // |G| |g| |G|^T
  for (Index oc = 0; oc < out * depth; ++oc) {
    for (std::size_t i = 0; i < 36; ++i) {
      for (std::size_t p = 0; p < 9; ++p) {
        const double g = std::fabs(w.data<float>()[(oc / depth * 9 + static_cast<Index>(p)) * depth + oc % depth]);
        transformed[static_cast<std::size_t>(oc) * 36 + i] += t.weight[i / 6][p / 3] * g * t.weight[i % 6][p % 3];
      }
    }
  }
  for (Index n = 0; n < tiles.images; ++n) {
    for (Index row = 0; row < tiles.out_height; row += 4) {
      for (Index column = 0; column < tiles.out_width; column += 4) {
        std::vector<std::array<double, 36>> products(static_cast<std::size_t>(out));
        for (Index c = 0; c < depth; ++c) {
          std::array<double, 36> d{};  // |B|^T |d| |B|
          for (std::size_t p = 0; p < 36; ++p) {
            const Index i = row - tiles.pad_top + static_cast<Index>(p / 6);
            const Index j = column - tiles.pad_left + static_cast<Index>(p % 6);
            if (i < 0 || i >= tiles.height || j < 0 || j >= tiles.width) continue;
            const double value = std::fabs(x.data<float>()[((n * tiles.height + i) * tiles.width + j) * depth + c]);
            for (std::size_t e = 0; e < 36; ++e) d[e] += t.input[e / 6][p / 6] * value * t.input[e % 6][p % 6];
          }
          for (Index o = 0; o < out; ++o) {
            for (std::size_t e = 0; e < 36; ++e)
              products[static_cast<std::size_t>(o)][e] +=
                  d[e] * transformed[static_cast<std::size_t>(o * depth + c) * 36 + e];
          }
        }
        for (Index i = row; i < std::min(row + 4, tiles.out_height); ++i) {
          for (Index j = column; j < std::min(column + 4, tiles.out_width); ++j) {
            for (Index o = 0; o < out; ++o) {
              double& sum =
                  sums[static_cast<std::size_t>(((n * tiles.out_height + i) * tiles.out_width + j) * out + o)];
              for (std::size_t e = 0; e < 36; ++e)
                sum += t.output[static_cast<std::size_t>(i - row)][e / 6] * products[static_cast<std::size_t>(o)][e] *
                       t.output[static_cast<std::size_t>(j - column)][e % 6];
            }
          }
        }
      }
    }
  }
  return sums;
}

// Each product is rounded at most `depth` times where it is summed, and at most 30 times in the transforms of its
// factors and of the result, bias and residual included.
void expect_close(const Tensor& got, const Tensor& want, const std::vector<double>& magnitude, Index depth,
                  const std::string& what) {
  for (Index i = 0; i < got.elements(); ++i) {
    const double reference = want.data<double>()[i];
    const double bound = (static_cast<double>(depth) + 30) * 0x1p-24 *
                         (magnitude[static_cast<std::size_t>(i)] + std::fabs(reference) + 8);
    ASSERT_NEAR(got.data<float>()[i], reference, bound) << what << ", element " << i;
  }
}

struct WinogradCase {
  std::string what;
  Shape image;
  Index out;
  Padding padding;
  Activation activation = Activation::linear;
};

TEST(Winograd, StaysWithinTheRoundingOfItsTransforms) {
  if (!kernels::vectorized::has_avx2()) GTEST_SKIP() << "this processor has no AVX2";
  const std::vector<WinogradCase> cases{
      {"whole tiles", {1, 8, 12, 16}, 32, kSame},
      {"parts of tiles", {2, 7, 5, 16}, 16, kSame, Activation::relu},
      {"no padding", {1, 10, 9, 32}, 48, kValid, Activation::relu6},
      {"more padding than the window", {1, 3, 4, 16}, 16, pad(3)},
      {"padding on two sides", {1, 6, 6, 16}, 33, {.bottom = 1, .right = 1}, Activation::tanh},
      {"prime channels", {1, 9, 6, 17}, 19, kSame},
      {"many tiles", {7, 14, 13, 16}, 16, kSame},
      {"one pixel", {1, 1, 1, 16}, 16, kSame},
  };
  for (const WinogradCase& c : cases) {
    const ConvGeometry g{lay("conv2d", {.kernel = 3, .padding = c.padding}, c.image), c.out};
    const Shape result{g.batch, g.out_height, g.out_width, c.out};
    const auto random = [](const Shape& shape, std::uint64_t seed) {
      return test::random_normal(shape, seed).to(DType::f32);
    };
    const Tensor x = random(c.image, 1), w = random({c.out, 3, 3, g.channels}, 2), bias = random({c.out}, 3),
                 residual = random(result, 4), dz = random(result, 5), base = random(c.image, 6);
    const auto wide = [](const Tensor& tensor) { return tensor.to(DType::f64); };
    ContextScope scope;
    scope->engine = Engine::reference;
    Context& context = Context::current();

    const Tensor want = Tensor::empty(result, DType::f64), y = Tensor::full(result, 7);
    kernels::conv2d_forward(context, g, wide(x), wide(w), wide(bias), wide(residual), c.activation, want);
    const Tiles tiles = kernels::vectorized::forward_tiles(g);
    const auto weights = kernels::vectorized::winograd_forward_weights(g, w, Form::f32);
    kernels::vectorized::winograd<float>(
        tiles, {x.data<float>(), g.channels, g.channels}, *weights,
        {bias.data<float>(), residual.data<float>(), c.out, Operand(y).as<float>(), c.out, c.out, c.activation});
    expect_close(y, want, magnitudes(tiles, x, w), g.channels, c.what);

    const Tensor slopes = wide(base).clone(), dx = base.clone();
    kernels::conv2d_backward_input(context, g, wide(dz), wide(w), {slopes, true});
    const Tiles back = kernels::vectorized::backward_input_tiles(g);
    const auto flipped = kernels::vectorized::winograd_backward_input_weights(g, w, Form::f32);
    float* to = Operand(dx).as<float>();
    kernels::vectorized::winograd<float>(back, {dz.data<float>(), c.out, c.out}, *flipped,
                                         {nullptr, to, g.channels, to, g.channels, g.channels, Activation::linear});
    Tensor w_flipped = Tensor::empty({g.channels, 3, 3, c.out}, DType::f32);
    for (Index i = 0; i < w.elements(); ++i) {
      const Index ci = i % g.channels, tap = i / g.channels % 9, co = i / g.channels / 9;
      w_flipped.mutable_data<float>()[(ci * 9 + 8 - tap) * c.out + co] = w.data<float>()[i];
    }
    expect_close(dx, slopes, magnitudes(back, dz, w_flipped), c.out, c.what + ", gradient of the input");
  }
}

}  // namespace
}  // namespace graft
#endif
