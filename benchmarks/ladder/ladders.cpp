// The problems of the ladders: their sizes, their operands, and the right answers by graft's own kernels on the CPU.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "graft/core/generator.h"

#include "core/format.h"
#include "kernels/attention.h"
#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"
#include "kernels/depthwise_conv2d.h"
#include "kernels/matmul.h"
#include "kernels/softmax.h"
#include "ladder.h"

namespace graft::ladder {
namespace {

#if GRAFT_HAS_CUDA
#define GRAFT_ON_CUDA(name) cuda::name
#else
#define GRAFT_ON_CUDA(name) nullptr
#endif
#if GRAFT_HAS_EMULATED
#define GRAFT_ON_EMULATED(name) emulated::name
#else
#define GRAFT_ON_EMULATED(name) nullptr
#endif
#if GRAFT_HAS_CUDA && GRAFT_HAS_HOPPER
#define GRAFT_ON_HOPPER(name) cuda::name
#else
#define GRAFT_ON_HOPPER(name) nullptr
#endif
#define GRAFT_ROW(name, dtype) {#name, DType::dtype, GRAFT_ON_CUDA(name), GRAFT_ON_EMULATED(name), false},
#define GRAFT_HOPPER_ROW(name, dtype) {#name, DType::dtype, GRAFT_ON_HOPPER(name), GRAFT_ON_EMULATED(name), true},

Tensor normal(const Shape& shape, std::uint64_t seed, double shift = 0) {
  Tensor tensor = Tensor::empty(shape, DType::f64);
  Generator generator{.seed = seed};
  double* values = tensor.mutable_data<double>();
  for (Index i = 0; i < tensor.elements(); ++i) values[i] = generator.normal() + shift;
  return tensor;
}

template <class Function>
Tensor mapped(const Tensor& tensor, const Function& f) {
  Tensor result = tensor.clone();
  double* values = result.mutable_data<double>();
  std::transform(values, values + result.elements(), values, f);
  return result;
}
Tensor absolute(const Tensor& tensor) {
  return mapped(tensor, [](double v) { return std::fabs(v); });
}

// Of a sum of products: the same on absolute values is its magnitude.
template <class Compute>
Answer sum_of_products(const Tensors& in, const Shape& result, Index length, const Compute& compute) {
  Answer answer{Tensor::empty(result, DType::f64), Tensor::empty(result, DType::f64), static_cast<double>(length) + 8};
  compute(in[0], in[1], answer.y);
  compute(absolute(in[0]), absolute(in[1]), answer.magnitude);
  return answer;
}

double count(std::initializer_list<Shape> shapes) {
  double elements = 0;
  for (const Shape& shape : shapes) elements += static_cast<double>(shape.elements());
  return elements;
}

Problem gemm(const Ladder::Sizes& sizes) {
  const Shape a{sizes[0], sizes[2]}, b{sizes[2], sizes[1]}, c{sizes[0], sizes[1]};
  return {.text = fmt::format("{} x {}", a, b),
          .inputs = {normal(a, 1), normal(b, 2)},
          .result = c,
          .operations = 2 * count({c}) * static_cast<double>(sizes[2]),
          .elements = count({a, b, c}),
          .answer = [=](const Tensors& in) {
            return sum_of_products(in, c, a[1], [](const Tensor& left, const Tensor& right, const Tensor& y) {
              kernels::matmul(Context::current(), left, right, false, false, {y, false});
            });
          }};
}

Problem conv(const Ladder::Sizes& sizes) {
  const Shape x{sizes[0], sizes[1], sizes[2], sizes[3]}, w{sizes[4], 3, 3, sizes[3]},
      y{sizes[0], sizes[1], sizes[2], sizes[4]};
  const ConvGeometry g{lay("conv2d", {.kernel = 3, .padding = pad(1)}, x), sizes[4], 1};
  return {.text = fmt::format("x {}, w {}", x, w),
          .inputs = {normal(x, 1), normal(w, 2)},
          .result = y,
          .operations = 18 * count({y}) * static_cast<double>(sizes[3]),
          .elements = count({x, w, y}),
          .answer = [=](const Tensors& in) {
            return sum_of_products(in, y, 9 * x[3], [&](const Tensor& image, const Tensor& weights, const Tensor& to) {
              kernels::conv2d_forward(Context::current(), g, image, weights, {}, {}, Activation::linear, to);
            });
          }};
}

Problem depthwise(const Ladder::Sizes& sizes) {
  const Shape x{sizes[0], sizes[1], sizes[2], sizes[3]}, w{3, 3, sizes[3]};
  const DepthwiseGeometry g{lay("depthwise_conv2d", {.kernel = 3, .padding = pad(1)}, x)};
  return {.text = fmt::format("x {}", x),
          .inputs = {normal(x, 1), normal(w, 2)},
          .result = x,
          .operations = 18 * count({x}),
          .elements = count({x, w, x}),
          .answer = [=](const Tensors& in) {
            return sum_of_products(in, x, 9, [&](const Tensor& image, const Tensor& weights, const Tensor& to) {
              kernels::depthwise_conv2d_forward(Context::current(), g, image, weights, {}, Activation::linear, to);
            });
          }};
}

// y = gamma (x - mean) / deviation + beta. The mean is a sum over the rows; the variance, where it is the mean of the
// squares less the square of the mean, is off by roundings on the scale of the squares, which are `ratio` times as
// large.
Answer batch_norm_answer(const Tensors& in) {
  const Shape shape = in[0].shape();
  const Index rows = shape[0], channels = shape[1];
  const BatchNormAttributes attributes{.epsilon = double{1e-3f}, .activation = Activation::relu};
  Answer answer{Tensor::empty(shape, DType::f64), Tensor::empty(shape, DType::f64), 0};
  const Tensor mean = Tensor::empty({channels}, DType::f64), spread = mean.clone();
  const Tensor moving_mean = in[3].clone(), moving_variance = in[4].clone();  // they are updated
  kernels::batch_norm_batch(Context::current(), attributes, in[0], in[1], in[2], {}, {moving_mean, moving_variance},
                            answer.y, {mean, spread});
  const double *x = in[0].data<double>(), *inverse = spread.data<double>();
  double ratio = 1;
  for (Index c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (Index r = 0; r < rows; ++r) {
      sum += std::fabs(x[r * channels + c]);
      squares += x[r * channels + c] * x[r * channels + c];
    }
    const auto m = static_cast<double>(rows);
    ratio = std::max(ratio, 1 + squares / m * inverse[c] * inverse[c]);
    for (Index r = 0; r < rows; ++r)
      answer.magnitude.mutable_data<double>()[r * channels + c] =
          std::fabs(in[1].data<double>()[c]) * inverse[c] * (std::fabs(x[r * channels + c]) + sum / m) +
          std::fabs(in[2].data<double>()[c]);
  }
  answer.length = (static_cast<double>(rows) + 8) * ratio;
  return answer;
}

Problem batch_norm(const Ladder::Sizes& sizes) {
  const Shape x{sizes[0], sizes[1]}, channels{sizes[1]};
  return {.text = fmt::format("x {}", x),
          .inputs = {normal(x, 1, 0.5), normal(channels, 2), normal(channels, 3), normal(channels, 4),
                     absolute(normal(channels, 5))},
          .result = x,
          .operations = 8 * count({x}),
          .elements = count({x, x, x}),
          .answer = batch_norm_answer};
}

// exp(x - m) / sum: of each term the difference is rounded on its own scale, which exp makes a share of the term.
Answer softmax_answer(const Tensors& in) {
  const Tensor y = Tensor::empty(in[0].shape(), DType::f64);
  kernels::softmax_forward(Context::current(), false, in[0], y);
  const auto values = in[0].values<double>();
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return {y, y, static_cast<double>(in[0].shape().channels()) + 8 + 2 * (*most - *least)};
}

Problem softmax(const Ladder::Sizes& sizes) {
  const Shape x{sizes[0], sizes[1]};
  return {.text = fmt::format("x {}", x),
          .inputs = {normal(x, 1)},
          .result = x,
          .operations = 5 * count({x}),
          .elements = count({x, x}),
          .answer = softmax_answer};
}

constexpr Index kHeadDepth = 64;

// A score is a sum of 64 products, whose error exp makes a share of its weight, above and below the line.
Answer attention_answer(const Tensors& in) {
  const Shape shape = in[0].shape();
  const Index heads = shape[2] / kHeadDepth;
  Answer answer{Tensor::empty(shape, DType::f64), Tensor::empty(shape, DType::f64), 0};
  const Tensor log_sums = Tensor::empty({shape[0], heads, shape[1]}, DType::f64);
  const auto attend = [&](const Tensor& v, const Tensor& y) {
    kernels::attention_forward(Context::current(), heads, 0.125, in[0], in[1], v, y, log_sums);
  };
  attend(in[2], answer.y);
  attend(absolute(in[2]), answer.magnitude);
  const auto longest = [&](const Tensor& tensor) {  // the largest norm of a head's row
    const auto values = tensor.values<double>();
    double most = 0;
    for (auto row = values.begin(); row != values.end(); row += kHeadDepth)
      most = std::max(most, std::transform_reduce(row, row + kHeadDepth, row, 0.0));
    return std::sqrt(most);
  };
  const double score = 0.125 * longest(in[0]) * longest(in[1]);  // Cauchy and Schwarz, for the absolute products too
  answer.length = static_cast<double>(shape[1]) + 8 + 2 * (kHeadDepth + 8) * score;
  answer.factors = 1;  // a weight
  return answer;
}

Problem attention(const Ladder::Sizes& sizes) {
  const Shape q{sizes[0], sizes[1], sizes[2] * kHeadDepth};
  return {.text = fmt::format("q {}, {} heads", q, sizes[2]),
          .inputs = {normal(q, 1), normal(q, 2), normal(q, 3)},
          .result = q,
          .operations = 4 * count({q}) * static_cast<double>(sizes[1]),
          .elements = count({q, q, q, q}),
          .answer = attention_answer};
}

}  // namespace

const std::vector<Ladder>& ladders() {
  // The last product that is checked goes round every ring of stages more than twice, for Hopper's, and ends beside its
  // tiles on every side. Counted is a product of 128 x 128, one tile of the best rungs before Hopper; of the kernels in
  // use with 132 such tiles, for with less than one a multiprocessor they take smaller ones. Operands that are timed
  // are larger than the 50 MB of an H100's second-level cache, except those of products.
  static const std::vector<Ladder> all{
      {"gemm",
       {GRAFT_LADDER_GEMM(GRAFT_ROW) GRAFT_LADDER_GEMM_HOPPER(GRAFT_HOPPER_ROW)},
       {{1, 8, 8}, {37, 72, 40}, {130, 136, 24}, {70, 264, 584}},
       {128, 128, 64},
       {11 * 128, 12 * 128, 64},
       {4096, 4096, 4096},
       gemm},
      {"conv",
       {GRAFT_LADDER_CONV(GRAFT_ROW)},
       {{1, 1, 1, 8, 8}, {2, 5, 7, 24, 40}, {1, 12, 11, 8, 72}},
       {1, 8, 16, 8, 128},
       {1, 128, 132, 8, 128},
       {32, 56, 56, 128, 128},
       conv},
      {"depthwise",
       {GRAFT_LADDER_DEPTHWISE(GRAFT_ROW)},
       {{1, 1, 1, 4}, {2, 5, 7, 12}, {1, 9, 14, 40}},
       {1, 16, 16, 64},
       {1, 16, 16, 64},
       {64, 56, 56, 256},
       depthwise},
      {"batch_norm",
       {GRAFT_LADDER_BATCH_NORM(GRAFT_ROW)},
       {{2, 4}, {77, 12}, {530, 40}},
       {1024, 64},
       {1024, 64},
       {200704, 256},
       batch_norm},
      {"softmax",
       {GRAFT_LADDER_SOFTMAX(GRAFT_ROW)},
       {{1, 1}, {5, 37}, {130, 65}, {3, 1000}},
       {128, 512},
       {128, 512},
       {65536, 1000},
       softmax},
      {"attention",
       {GRAFT_LADDER_ATTENTION(GRAFT_ROW)},
       {{1, 1, 1}, {2, 37, 2}, {1, 130, 1}},
       {1, 128, 2},
       {1, 128, 2},
       {8, 1024, 12},
       attention},
  };
  return all;
}

}  // namespace graft::ladder
