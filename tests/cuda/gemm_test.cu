// The parts that every product is made of, on the emulated device and against plain loops.

#include <algorithm>
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

using test::OnDevice;
using test::kEmulated;
using test::of;
using test::on_device;
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
  check_core<Cores<float16>::Small, true>();
  check_core<Cores<bfloat16>::Small, false>();
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
