// The parts that every product is made of, on the emulated device and against plain loops.

#include <vector>

#include <gtest/gtest.h>

#include "graft/core/generator.h"
#include "graft/core/error.h"

#include "device/gemm_choice.h"

namespace graft::emulated {
namespace {

// Small whole numbers: every sum below is exact in float and in the halves, so that a wrong place cannot hide.
template <class T>
std::vector<T> whole_numbers(Index count, std::uint64_t seed) {
  std::vector<T> values;
  Generator generator{.seed = seed};
  for (Index i = 0; i < count; ++i) values.push_back(convert<T>(static_cast<float>(generator.below(9) - 4)));
  return values;
}

Context emulated_context() {
  Context context;
  context.device = {Device::Kind::emulated, 0};
  return context;
}

void finish(const Context& context) { Stream(context.stream).synchronize(); }

// One warp multiplies A [16, 16] with B [16, 8]; each lane fills its fragments by the table in device/mma.h.
template <class T>
__global__ void by_the_table_kernel(const T* a, const T* b, float* c) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4 * 2;
  const auto pair = [](T low, T high) { return std::uint32_t{low.bits} | std::uint32_t{high.bits} << 16; };
  const auto of_a = [&](int row, int k) { return pair(a[row * 16 + k], a[row * 16 + k + 1]); };
  const auto of_b = [&](int k, int column) { return pair(b[k * 8 + column], b[(k + 1) * 8 + column]); };
  const std::uint32_t left[4] = {of_a(g, t), of_a(g + 8, t), of_a(g, t + 8), of_a(g + 8, t + 8)};
  float sums[4] = {c[g * 8 + t], c[g * 8 + t + 1], c[(g + 8) * 8 + t], c[(g + 8) * 8 + t + 1]};
  multiply_add<T>(sums, left, of_b(t, g), of_b(t + 8, g));
  c[g * 8 + t] = sums[0];
  c[g * 8 + t + 1] = sums[1];
  c[(g + 8) * 8 + t] = sums[2];
  c[(g + 8) * 8 + t + 1] = sums[3];
}

template <class T>
void check_multiply_add() {
  const auto a = whole_numbers<T>(16 * 16, 1), b = whole_numbers<T>(16 * 8, 2);
  const auto start = whole_numbers<float>(16 * 8, 3);
  std::vector<float> c = start;
  const Context context = emulated_context();
  launch(context, "by_the_table", {.grid = dim3(1), .block = dim3(32)}, by_the_table_kernel<T>, a.data(), b.data(),
         c.data());
  finish(context);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = start[static_cast<std::size_t>(i * 8 + j)];
      for (int k = 0; k < 16; ++k)
        sum += static_cast<float>(a[static_cast<std::size_t>(i * 16 + k)]) *
               static_cast<float>(b[static_cast<std::size_t>(k * 8 + j)]);
      EXPECT_EQ(c[static_cast<std::size_t>(i * 8 + j)], sum) << i << ", " << j;
    }
  }
}

TEST(TensorCore, MultipliesFragments) {
  check_multiply_add<bfloat16>();
  check_multiply_add<float16>();
}

template <bool Transpose>
__global__ void load_kernel(const std::uint16_t* rows, std::uint32_t* registers) {
  GRAFT_SHARED(std::uint16_t, shared, 32 * 8);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) shared[lane * 8 + i] = rows[lane * 8 + i];
  __syncwarp();
  std::uint32_t loaded[4];
  load_matrices<Transpose>(shared + lane * 8, loaded);
  for (int i = 0; i < 4; ++i) registers[lane * 4 + i] = loaded[i];
}

TEST(TensorCore, LoadsMatrices) {
  std::vector<std::uint16_t> rows(32 * 8);  // element (r, c) of matrix m is m * 64 + r * 8 + c
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::uint16_t>(i);
  std::vector<std::uint32_t> straight(32 * 4), transposed(32 * 4);
  const Context context = emulated_context();
  const Shape3 warp{.grid = dim3(1), .block = dim3(32)};
  launch(context, "load", warp, load_kernel<false>, rows.data(), straight.data());
  launch(context, "load", warp, load_kernel<true>, rows.data(), transposed.data());
  finish(context);
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    const std::uint32_t g = lane / 4, t = lane % 4 * 2;
    for (std::uint32_t m = 0; m < 4; ++m) {
      EXPECT_EQ(straight[lane * 4 + m], (m * 64 + g * 8 + t) | (m * 64 + g * 8 + t + 1) << 16);
      EXPECT_EQ(transposed[lane * 4 + m], (m * 64 + t * 8 + g) | (m * 64 + (t + 1) * 8 + g) << 16);
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
  alignas(16) const float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> first(8), second(8);
  const Context context = emulated_context();
  launch(context, "copy", {.grid = dim3(1), .block = dim3(1)}, copy_kernel, static_cast<const float*>(from),
         first.data(), second.data());
  finish(context);
  EXPECT_EQ(first, (std::vector<float>{1, 2, 3, 4, -1, -1, -1, -1}));
  EXPECT_EQ(second, (std::vector<float>{1, 2, 3, 4, 5, 6, 0, -1}));
}

__global__ void misaligned_copy_kernel(const float* from) {
  GRAFT_SHARED(float, shared, 8);
  copy_async<16>(shared + 1, from, true);
}

TEST(AsyncCopy, ReportsAMisalignedOne) {
  alignas(16) const float from[4] = {};
  const Context context = emulated_context();
  launch(context, "misaligned", {.grid = dim3(1), .block = dim3(1)}, misaligned_copy_kernel,
         static_cast<const float*>(from));
  EXPECT_THROW(finish(context), Error);
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
  std::vector<Sum> c(static_cast<std::size_t>(rows * columns), -1);
  const Context context = emulated_context();
  launch_gemm<Core, Wide>(
      context, "product",
      Product<Dense<T, DepthInnerA>, Dense<T, DepthInnerB>, OneProduct, Epilogue<Sum>>{
          .a = {a.data(), pitch_a, rows, depth},
          .b = {b.data(), pitch_b, columns, depth},
          .batch = {},
          .epilogue = {.y = c.data(), .pitch = columns, .vectors = columns % kVector<Sum> == 0},
          .rows = rows,
          .columns = columns,
          .depth = depth});
  finish(context);
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
  for (const auto& [rows, columns, depth] :
       {std::array{n, n, n}, {Core::kRows, Core::kColumns, d}, {Core::kRows - n, Core::kColumns + n, d * 2 + n},
        {Core::kRows + n, Core::kColumns - n, d * (Core::kStages + 1) - n}, {n, Core::kColumns, d * 19 + n}}) {
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
  check_core<Cores<double>::Small, false>();
  check_core<Cores<bfloat16>::Large, true>();
  check_core<Cores<bfloat16>::Tall, true>();
  check_core<Cores<float16>::Small, true>();
  check_core<Cores<bfloat16>::Small, false>();
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
