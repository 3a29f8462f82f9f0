// The parts that every product is made of, on the emulated device and against plain loops.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/core/generator.h"
#include "graft/core/tensor.h"

#include "cuda/whole_numbers.h"
#include "device/gemm_choice.h"

namespace graft::emulated {
namespace {

using test::kEmulated;
using test::of;
using test::on_device;
using test::OnDevice;
using test::whole_numbers;

template <class T>
std::vector<T> on_host(const Tensor& tensor) {
  const Tensor here = tensor.to(Device{});
  return {here.data<T>(), here.data<T>() + here.elements()};
}
// Elements side by side in a register: two halves, the first in the low bits, or one float as TF32.
template <class T, class Of>
__device__ std::uint32_t held(const Of& of) {
  if constexpr (std::is_same_v<T, float>)
    return round_to_tf32(std::bit_cast<std::uint32_t>(of(0)));
  else
    return std::uint32_t{of(0).bits} | std::uint32_t{of(1).bits} << 16;
}

// One warp multiplies A [16, depth] with B [depth, 8]; each lane fills its fragments by the table in device/mma.h.
template <class T>
__global__ void by_the_table_kernel(const T* a, const T* b, float* c) {
  constexpr int depth = kMmaDepth<T>, half = depth / 2;
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4 * 2, k = lane % 4 * half / 4;
  const auto of_a = [&](int row, int at) { return held<T>([&](int i) { return a[row * depth + at + i]; }); };
  const auto of_b = [&](int at, int column) { return held<T>([&](int i) { return b[(at + i) * 8 + column]; }); };
  const std::uint32_t left[4] = {of_a(g, k), of_a(g + 8, k), of_a(g, k + half), of_a(g + 8, k + half)};
  float sums[4] = {c[g * 8 + t], c[g * 8 + t + 1], c[(g + 8) * 8 + t], c[(g + 8) * 8 + t + 1]};
  multiply_add<T>(sums, left, of_b(k, g), of_b(k + half, g));
  c[g * 8 + t] = sums[0];
  c[g * 8 + t + 1] = sums[1];
  c[(g + 8) * 8 + t] = sums[2];
  c[(g + 8) * 8 + t + 1] = sums[3];
}

template <class T>
void check_multiply_add() {
  constexpr int depth = kMmaDepth<T>;
  const OnDevice scope;
  const auto a = whole_numbers<T>(16 * depth, 1), b = whole_numbers<T>(depth * 8, 2);
  const auto start = whole_numbers<float>(16 * 8, 3);
  const Tensor device_a = on_device(a), device_b = on_device(b), device_c = on_device(start);
  launch(Context::current(), "by_the_table", {.grid = dim3(1), .block = dim3(32)}, by_the_table_kernel<T>,
         of<T>(device_a), of<T>(device_b), of<float>(device_c));
  const std::vector<float> c = on_host<float>(device_c);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = start[static_cast<std::size_t>(i * 8 + j)];
      for (int k = 0; k < depth; ++k)
        sum += static_cast<float>(a[static_cast<std::size_t>(i * depth + k)]) *
               static_cast<float>(b[static_cast<std::size_t>(k * 8 + j)]);
      EXPECT_EQ(c[static_cast<std::size_t>(i * 8 + j)], sum) << i << ", " << j;
    }
  }
}

TEST(TensorCore, MultipliesFragments) {
  check_multiply_add<bfloat16>();
  check_multiply_add<float16>();
  check_multiply_add<float>();
}

TEST(TensorCore, RoundsToTf32) {
  const auto rounded = [](float x) { return std::bit_cast<float>(round_to_tf32(std::bit_cast<std::uint32_t>(x))); };
  constexpr float kUlp = 0x1p-10f, kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(rounded(1 + kUlp), 1 + kUlp);
  EXPECT_EQ(rounded(1 + kUlp / 4), 1);
  EXPECT_EQ(rounded(1 + kUlp / 2), 1 + kUlp);  // ties go away from zero
  EXPECT_EQ(rounded(-1 - kUlp / 2), -1 - kUlp);
  EXPECT_EQ(rounded(1 + kUlp * 0.75f), 1 + kUlp);
  EXPECT_EQ(rounded(2 - kUlp / 2), 2);  // into the exponent
  EXPECT_EQ(rounded(0x1p-149f), 0);
  EXPECT_EQ(rounded(kInfinity), kInfinity);
  EXPECT_EQ(rounded(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_TRUE(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0xffffffffu))));
}

template <bool Transpose>
__global__ void load_kernel(const bfloat16* rows, std::int32_t* registers) {
  GRAFT_SHARED(bfloat16, shared, 32 * 8);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) shared[lane * 8 + i] = rows[lane * 8 + i];
  __syncwarp();
  std::uint32_t loaded[4];
  load_matrices<Transpose>(shared + lane * 8, loaded);
  for (int i = 0; i < 4; ++i) registers[lane * 4 + i] = static_cast<std::int32_t>(loaded[i]);
}

TEST(TensorCore, LoadsMatrices) {
  std::vector<bfloat16> bits(32 * 8);  // those of element (r, c) of matrix m are m * 64 + r * 8 + c
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i].bits = static_cast<std::uint16_t>(i);
  const OnDevice scope;
  const Tensor from = on_device(bits), straight = Tensor::zeros({32 * 4}, DType::i32, kEmulated),
               transposed = Tensor::zeros({32 * 4}, DType::i32, kEmulated);
  const LaunchShape warp{.grid = dim3(1), .block = dim3(32)};
  launch(Context::current(), "load", warp, load_kernel<false>, of<bfloat16>(from), of<std::int32_t>(straight));
  launch(Context::current(), "load", warp, load_kernel<true>, of<bfloat16>(from), of<std::int32_t>(transposed));
  const auto got = on_host<std::int32_t>(straight), got_transposed = on_host<std::int32_t>(transposed);
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    const std::uint32_t g = lane / 4, t = lane % 4 * 2;
    for (std::uint32_t m = 0; m < 4; ++m) {
      EXPECT_EQ(static_cast<std::uint32_t>(got[lane * 4 + m]), (m * 64 + g * 8 + t) | (m * 64 + g * 8 + t + 1) << 16);
      EXPECT_EQ(static_cast<std::uint32_t>(got_transposed[lane * 4 + m]),
                (m * 64 + t * 8 + g) | (m * 64 + (t + 1) * 8 + g) << 16);
    }
  }
}

__global__ void copy_kernel(const float* from, float* first, float* second) {
  GRAFT_SHARED(float, shared, 8);
  for (int i = 0; i < 8; ++i) shared[i] = -1;
  copy_async<16>(shared, from, true);
  commit_copies();
  copy_async<8>(shared + 4, from + 4, true);
  copy_async<4>(shared + 6, from + 6, false);  // outside: zero arrives
  commit_copies();
  wait_for_copies<1>();
  for (int i = 0; i < 8; ++i) first[i] = shared[i];
  wait_for_copies<0>();
  for (int i = 0; i < 8; ++i) second[i] = shared[i];
}

TEST(AsyncCopy, ArrivesWithItsGroupAndNotBefore) {
  const OnDevice scope;
  const Tensor from = on_device(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}),
               device_first = Tensor::zeros({8}, DType::f32, kEmulated),
               device_second = Tensor::zeros({8}, DType::f32, kEmulated);
  launch(Context::current(), "copy", {.grid = dim3(1), .block = dim3(1)}, copy_kernel, of<float>(from),
         of<float>(device_first), of<float>(device_second));
  const auto first = on_host<float>(device_first), second = on_host<float>(device_second);
  EXPECT_EQ(first, (std::vector<float>{1, 2, 3, 4, -1, -1, -1, -1}));
  EXPECT_EQ(second, (std::vector<float>{1, 2, 3, 4, 5, 6, 0, -1}));
}

__global__ void misaligned_copy_kernel(const float* from) {
  GRAFT_SHARED(float, shared, 8);
  copy_async<16>(shared + 1, from, true);
}

__global__ void early_read_kernel(const float* from, float* to) {
  GRAFT_SHARED(float, shared, 32);
  const int thread = static_cast<int>(threadIdx.x);
  copy_async<4>(shared + thread, from + thread, true);
  commit_copies();
  wait_for_copies<0>();  // for one's own copy alone
  to[thread] = shared[31 - thread];
}

template <class... Parameters>
std::string error_of(unsigned threads, void (*kernel)(Parameters...), Parameters... arguments) {
  try {
    launch(Context::current(), "planted", {.grid = dim3(1), .block = dim3(threads)}, kernel, arguments...);
    synchronize(kEmulated);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(AsyncCopy, MistakesAreReported) {
  if (!GRAFT_EMULATED_CHECKS) GTEST_SKIP() << "built with another sanitizer (GRAFT_SANITIZE)";
  const OnDevice scope;
  const Tensor from = Tensor::zeros({32}, DType::f32, kEmulated), to = Tensor::zeros({32}, DType::f32, kEmulated);
  EXPECT_THAT(error_of(1, misaligned_copy_kernel, static_cast<const float*>(of<float>(from))),
              testing::HasSubstr("no multiple of 16"));
  EXPECT_THAT(error_of(32, early_read_kernel, static_cast<const float*>(of<float>(from)), of<float>(to)),
              testing::HasSubstr("shared 'shared'"));
}

TEST(Divider, DividesLikeTheHost) {
  for (const int divisor : {1, 2, 3, 5, 7, 64, 100, 641, 12544, 65535, 65537, 1 << 30, 0x7fffffff}) {
    const Divider divider(divisor);
    for (const int n : {0, 1, 2, 3, 63, 64, 65, 99, 12543, 12544, 65536, 1 << 30, 0x7ffffffe, 0x7fffffff}) {
      EXPECT_EQ(divider.quotient(n), n / divisor) << n << " / " << divisor;
      EXPECT_EQ(divider.remainder(n, n / divisor), n % divisor) << n << " / " << divisor;
    }
  }
}

struct OneProduct {
  Bases operator()(int, int) const { return {}; }
};

// C [rows, columns] with one core, A and B each stored both ways, in rows wider than the matrix.
template <class Core, bool Wide, bool DepthInnerA, bool DepthInnerB>
void check_product(int rows, int columns, int depth) {
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  constexpr int n = kVector<T>;
  const Index pitch_a = (DepthInnerA ? depth : rows) + n, pitch_b = (DepthInnerB ? depth : columns) + n;
  const auto a = whole_numbers<T>((DepthInnerA ? rows : depth) * pitch_a, 1),
             b = whole_numbers<T>((DepthInnerB ? columns : depth) * pitch_b, 2);
  const OnDevice scope;
  const Tensor device_a = on_device(a), device_b = on_device(b),
               device_c = Tensor::full({rows * columns}, -1, dtype_of<Sum>, kEmulated);
  launch_gemm<Core, Wide>(
      Context::current(), "product",
      Product<Dense<T, DepthInnerA>, Dense<T, DepthInnerB>, OneProduct, Epilogue<Sum>>{
          .a = {of<T>(device_a), pitch_a, rows, depth},
          .b = {of<T>(device_b), pitch_b, columns, depth},
          .batch = {},
          .epilogue = {.y = of<Sum>(device_c), .pitch = columns, .vectors = columns % kVector<Sum> == 0},
          .rows = rows,
          .columns = columns,
          .depth = depth});
  const std::vector<Sum> c = on_host<Sum>(device_c);
  const auto at = [](const std::vector<T>& values, Index pitch, bool depth_inner, int row, int k) {
    return static_cast<Sum>(values[static_cast<std::size_t>(depth_inner ? row * pitch + k : k * pitch + row)]);
  };
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      Sum sum = 0;
      for (int k = 0; k < depth; ++k) sum += at(a, pitch_a, DepthInnerA, i, k) * at(b, pitch_b, DepthInnerB, j, k);
      ASSERT_EQ(c[static_cast<std::size_t>(i * columns + j)], sum)
          << "C(" << i << ", " << j << ") of [" << rows << ", " << depth << "] x [" << depth << ", " << columns
          << "], depth inner " << DepthInnerA << DepthInnerB << ", wide " << Wide;
    }
  }
}

// Extents around the edges of the tile; whole vectors for wide copies, odd numbers otherwise. The longest depth is
// split into parts.
template <class Core, bool Wide>
void check_core() {
  constexpr int n = Wide ? kVector<typename Core::Element> : 1, d = Core::kDepth;
  for (const auto& [rows, columns, depth] : {std::array{n, n, n},
                                             {Core::kRows, Core::kColumns, d},
                                             {Core::kRows - n, Core::kColumns + n, d * 2 + n},
                                             {Core::kRows + n, Core::kColumns - n, d * (Core::kStages + 1) - n},
                                             {n, Core::kColumns, d * 19 + n}}) {
    check_product<Core, Wide, true, true>(rows, columns, depth);
    check_product<Core, Wide, true, false>(rows, columns, depth);
    check_product<Core, Wide, false, true>(rows, columns, depth);
    check_product<Core, Wide, false, false>(rows, columns, depth);
  }
}

TEST(Gemm, EveryCoreMultipliesAtTheEdgesOfItsTile) {
  check_core<Cores<float>::Large, true>();
  check_core<Cores<float>::Tall, true>();
  check_core<Cores<float>::Small, true>();
  check_core<Cores<float>::Small, false>();
  check_core<Tf32Cores::Large, true>();
  check_core<Tf32Cores::Tall, true>();
  check_core<Tf32Cores::Small, true>();
  check_core<Tf32Cores::Small, false>();
  check_core<Cores<double>::Small, false>();
  check_core<Cores<bfloat16>::Large, true>();
  check_core<Cores<bfloat16>::Tall, true>();
  check_core<Cores<bfloat16>::Broad, true>();
  check_core<Cores<float16>::Large, true>();
  check_core<Cores<float16>::Tall, true>();
  check_core<Cores<float16>::Broad, true>();
  check_core<Cores<float16>::Small, true>();
  check_core<Cores<bfloat16>::Small, false>();
}

// Of images, one for every 64 rows of a tile, whose pixels are just fewer than those rows, as many, and just more; with
// as many channels beside the columns of the tile.
struct Edge {
  int height, width, columns;
};
template <class Core>
std::array<Edge, 3> edges(int fewer_columns) {
  constexpr int n = kVector<typename Core::Element>;
  return {{{7, 9, Core::kColumns - fewer_columns}, {8, 8, Core::kColumns}, {5, 13, Core::kColumns + n}}};
}
template <class Core>
constexpr int kImages = Core::kRows / 64;

template <class T>
double number(T value) {
  return static_cast<double>(widen(value));
}
// A number as T holds it.
template <class T>
double nearest(double value) {
  return number(narrow<T>(value));
}

// y = 3x3 convolution of x with w + bias + residual, into the channels of wider rows, beside which nothing is written;
// with `WithMoments`, its relu and the moments of each tile of rows.
template <class Core, bool WithMoments>
void check_convolution(const Edge& edge) {
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  constexpr int n = kVector<T>, channels = n, side = 3, depth = side * side * channels;
  const int rows = kImages<Core> * edge.height * edge.width, columns = edge.columns;
  const Index pitch_x = channels + n, pitch = (columns + n - 1) / n * n + n;
  const auto x = whole_numbers<T>(rows * pitch_x, 1), w = whole_numbers<T>(Index{columns} * depth, 2),
             residual = whole_numbers<T>(rows * pitch, 3);
  const auto bias = whole_numbers<Sum>(columns, 4);
  const OnDevice scope;
  const Tensor device_x = on_device(x), device_w = on_device(w), device_residual = on_device(residual),
               device_bias = on_device(bias), device_y = Tensor::full({rows * pitch}, -1, dtype_of<T>, kEmulated),
               device_moments =
                   Tensor::full({tiles(rows, Core::kRows) * Index{2} * columns}, -1, dtype_of<Sum>, kEmulated);
  const Epilogue<T> plain{.y = of<T>(device_y),
                          .pitch = pitch,
                          .grid = {},
                          .bias = of<Sum>(device_bias),
                          .residual = of<T>(device_residual),
                          .residual_pitch = pitch,
                          .activation = WithMoments ? Activation::relu : Activation::linear,
                          .vectors = columns % n == 0};
  const auto launch_with = [&](const auto& epilogue) {
    using Chosen = std::remove_cvref_t<decltype(epilogue)>;
    return launch_gemm<Core, true>(Context::current(), "convolution",
                                   Product<Windows<T, true>, Dense<T, true>, OneProduct, Chosen>{
                                       .a = {.data = of<T>(device_x),
                                             .pitch = pitch_x,
                                             .grid = WindowGrid{.height = edge.height,
                                                                .width = edge.width,
                                                                .base_height = -1,
                                                                .base_width = -1,
                                                                .pixels = Divider(edge.height * edge.width),
                                                                .columns = Divider(edge.width),
                                                                .taps = Divider(side)},
                                             .channels = Divider(channels),
                                             .pixels = rows,
                                             .taps = depth},
                                       .b = {of<T>(device_w), depth, columns, depth},
                                       .batch = {},
                                       .epilogue = epilogue,
                                       .rows = rows,
                                       .columns = columns,
                                       .depth = depth});
  };
  int tile_rows = 0;
  if constexpr (WithMoments)
    tile_rows = launch_with(EpilogueWithMoments<T>{plain, of<Sum>(device_moments), columns});
  else
    tile_rows = launch_with(plain);
  EXPECT_EQ(tile_rows, Core::kRows);

  const std::vector<T> y = on_host<T>(device_y);
  std::vector<double> want(static_cast<std::size_t>(rows * pitch), -1);
  for (int row = 0; row < rows; ++row) {
    const int image = row / (edge.height * edge.width), at = row % (edge.height * edge.width);
    for (int column = 0; column < columns; ++column) {
      double sum = number(bias[static_cast<std::size_t>(column)]) +
                   number(residual[static_cast<std::size_t>(row * pitch + column)]);
      for (int tap = 0; tap < side * side; ++tap) {
        const int i = at / edge.width + tap / side - 1, j = at % edge.width + tap % side - 1;
        if (i < 0 || i >= edge.height || j < 0 || j >= edge.width) continue;
        const Index pixel = (Index{image} * edge.height + i) * edge.width + j;
        for (int c = 0; c < channels; ++c)
          sum += number(x[static_cast<std::size_t>(pixel * pitch_x + c)]) *
                 number(w[static_cast<std::size_t>((Index{column} * side * side + tap) * channels + c)]);
      }
      want[static_cast<std::size_t>(row * pitch + column)] = nearest<T>(WithMoments ? std::fmax(sum, 0) : sum);
    }
  }
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_EQ(number(y[i]), want[i]) << "row " << i / static_cast<std::size_t>(pitch) << " of " << rows << ", column "
                                     << i % static_cast<std::size_t>(pitch) << " of " << columns;
  if constexpr (!WithMoments) return;

  const std::vector<Sum> moments = on_host<Sum>(device_moments);
  for (int tile = 0; tile < tiles(rows, Core::kRows); ++tile) {
    const int first = tile * Core::kRows, end = std::min(rows, first + Core::kRows);
    for (int column = 0; column < columns; ++column) {
      double mean = 0, squares = 0;
      const auto value = [&](int row) { return want[static_cast<std::size_t>(row * pitch + column)]; };
      for (int row = first; row < end; ++row) mean += value(row) / (end - first);
      for (int row = first; row < end; ++row) squares += (value(row) - mean) * (value(row) - mean);
      const auto at = static_cast<std::size_t>(Index{2} * tile * columns + column);
      ASSERT_NEAR(moments[at], mean, 1e-5 * (1 + mean)) << "tile " << tile << ", column " << column;
      ASSERT_NEAR(moments[at + static_cast<std::size_t>(columns)], squares, 1e-5 * (1 + squares))
          << "tile " << tile << ", column " << column;
    }
  }
}

// The gradient that a 3x3 convolution of stride 2 and padding 1 gives those pixels of its input whose row and column
// are odd. Of the other pixels and of the space beside the channels nothing is written.
template <class Core>
void check_scattered(const Edge& edge, bool accumulate) {
  using T = typename Core::Element;
  constexpr int n = kVector<T>, side = 3, out_channels = 2 * n, depth = 4 * out_channels;
  const int columns = edge.columns, pixels = edge.height * edge.width, rows = kImages<Core> * pixels;
  const int height = 2 * edge.height, width = 2 * edge.width;
  const Index pitch = columns + n;
  const auto dz = whole_numbers<T>(Index{rows} * out_channels, 1),
             w = whole_numbers<T>(Index{out_channels} * side * side * columns, 2),
             before = whole_numbers<T>(4 * rows * pitch, 3);
  const OnDevice scope;
  const Tensor device_dz = on_device(dz), device_w = on_device(w), device_dx = on_device(before);
  const int tile_rows = launch_gemm<Core, true>(Context::current(), "scattered",
                                                Product<Windows<T, true>, TapWeights<T>, OneProduct, Epilogue<T>>{
                                                    .a = {.data = of<T>(device_dz),
                                                          .pitch = out_channels,
                                                          .grid = WindowGrid{.height = edge.height,
                                                                             .width = edge.width,
                                                                             .base_height = 1,
                                                                             .base_width = 1,
                                                                             .step_height = -1,
                                                                             .step_width = -1,
                                                                             .pixels = Divider(pixels),
                                                                             .columns = Divider(edge.width),
                                                                             .taps = Divider(2)},
                                                          .channels = Divider(out_channels),
                                                          .pixels = rows,
                                                          .taps = depth},
                                                    .b = {.data = of<T>(device_w),
                                                          .channels = Divider(out_channels),
                                                          .taps = Divider(2),
                                                          .rows = columns,
                                                          .depth = depth,
                                                          .out_channel_pitch = side * side * columns,
                                                          .step_height = 2 * side * columns,
                                                          .step_width = 2 * columns},
                                                    .batch = {},
                                                    .epilogue = {.y = of<T>(device_dx),
                                                                 .pitch = pitch,
                                                                 .grid = PixelGrid{.scattered = true,
                                                                                   .height = height,
                                                                                   .width = width,
                                                                                   .stride_height = 2,
                                                                                   .stride_width = 2,
                                                                                   .first_row = 1,
                                                                                   .first_column = 1,
                                                                                   .pixels = Divider(pixels),
                                                                                   .columns = Divider(edge.width)},
                                                                 .accumulate = accumulate,
                                                                 .vectors = true},
                                                    .rows = rows,
                                                    .columns = columns,
                                                    .depth = depth});
  EXPECT_EQ(tile_rows, Core::kRows);

  const std::vector<T> dx = on_host<T>(device_dx);
  for (int pixel = 0; pixel < 4 * rows; ++pixel) {
    const int image = pixel / (height * width), i = pixel / width % height, j = pixel % width;
    for (int column = 0; column < pitch; ++column) {
      const auto at = static_cast<std::size_t>(pixel * pitch + column);
      double want = number(before[at]);
      if (i % 2 == 1 && j % 2 == 1 && column < columns) {
        double sum = accumulate ? want : 0;
        for (int tap = 0; tap < side * side; ++tap) {  // pixel i is tap p of output o where 2 o - 1 + p = i
          const int down = i + 1 - tap / side, across = j + 1 - tap % side;
          if (down % 2 != 0 || across % 2 != 0 || down / 2 >= edge.height || across / 2 >= edge.width) continue;
          const Index from = (Index{image} * edge.height + down / 2) * edge.width + across / 2;
          for (int c = 0; c < out_channels; ++c)
            sum += number(dz[static_cast<std::size_t>(from * out_channels + c)]) *
                   number(w[static_cast<std::size_t>((Index{c} * side * side + tap) * columns + column)]);
        }
        want = nearest<T>(sum);
      }
      ASSERT_EQ(number(dx[at]), want) << "image " << image << ", pixel (" << i << ", " << j << "), channel " << column
                                      << " of " << columns;
    }
  }
}

template <class Core>
void check_as_convolutions() {
  for (const Edge& edge : edges<Core>(1)) {
    check_convolution<Core, false>(edge);
    check_convolution<Core, true>(edge);
  }
  for (const Edge& edge : edges<Core>(kVector<typename Core::Element>)) check_scattered<Core>(edge, edge.height == 8);
}

// Large tiles are chosen where many blocks fill a GPU, which takes products that are too long to emulate: here they are
// asked for by name.
TEST(Gemm, LargeCoresConvolveAtTheEdgesOfTheirTiles) {
  check_as_convolutions<Cores<bfloat16>::Large>();
  check_as_convolutions<Cores<bfloat16>::Tall>();
  check_as_convolutions<Cores<bfloat16>::Broad>();
  check_as_convolutions<Cores<float>::Large>();
}

// Factors just below the next number that TF32 has: cut off, each loses nearly 2^-10 and the sum nearly 2^-9; rounded,
// each is off by 2^-22.
TEST(Gemm, RoundsItsFactorsToTf32) {
  constexpr int depth = 64;
  const float factor = 1 + 0x1p-10f - 0x1p-22f;
  const OnDevice scope;
  const Tensor a = on_device(std::vector<float>(depth, factor)), c = Tensor::zeros({1}, DType::f32, kEmulated);
  launch_gemm<Tf32Cores::Small, true>(Context::current(), "product",
                                      Product<Dense<float, true>, Dense<float, true>, OneProduct, Epilogue<float>>{
                                          .a = {of<float>(a), depth, 1, depth},
                                          .b = {of<float>(a), depth, 1, depth},
                                          .batch = {},
                                          .epilogue = {.y = of<float>(c), .pitch = 1},
                                          .rows = 1,
                                          .columns = 1,
                                          .depth = depth});
  const double want = depth * static_cast<double>(factor) * static_cast<double>(factor);
  EXPECT_NEAR(static_cast<double>(on_host<float>(c)[0]), want, want * 0x1p-20);
}

TEST(Gemm, SplitsTheDepthByTheShapeAlone) {
  EXPECT_EQ(parts_of(1, 0), 1);
  EXPECT_EQ(parts_of(1, 15), 1);
  EXPECT_EQ(parts_of(1, 16), 2);
  EXPECT_EQ(parts_of(1, 1 << 20), 64);
  EXPECT_EQ(parts_of(100, 1 << 20), 2);
  EXPECT_EQ(parts_of(132, 1 << 20), 2);
  EXPECT_EQ(parts_of(133, 1 << 20), 1);
}

}  // namespace
}  // namespace graft::emulated
