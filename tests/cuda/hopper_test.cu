// The Hopper product: the numbers that TMA and wgmma are told, and the kernel itself on the emulated device, whose
// model of both units is made from the PTX ISA alone (cuda/emulated/hopper.cpp).

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/core/generator.h"
#include "graft/core/tensor.h"

#include "cuda/whole_numbers.h"
#include "hopper/describe.h"
#include "hopper/instructions.h"
#include "runtime/launch.h"

namespace graft::emulated::hopper {
namespace {

TEST(HopperLayout, SwizzleExchangesPiecesOfEightRows) {
  EXPECT_EQ(swizzled(0), 0u);
  EXPECT_EQ(swizzled(16), 16u);         // row 0 stays
  EXPECT_EQ(swizzled(128), 128u + 16);  // row 1: piece 0 at place 1
  EXPECT_EQ(swizzled(128 + 16), 128u);  // and piece 1 at place 0
  EXPECT_EQ(swizzled(7 * 128), 7u * 128 + 112);
  EXPECT_EQ(swizzled(1024 + 5), 1024u + 5);  // the next eight rows begin anew
  std::set<unsigned> places;
  for (unsigned byte = 0; byte < 4096; ++byte) places.insert(swizzled(byte));
  EXPECT_EQ(places.size(), 4096u);
  for (unsigned piece = 0; piece < 8; ++piece) {  // the same piece of eight rows: eight groups of four banks
    std::set<unsigned> banks;
    for (unsigned row = 0; row < 8; ++row) banks.insert(swizzled(row * 128 + piece * 16) / 16 % 8);
    EXPECT_EQ(banks.size(), 8u);
  }
}

TEST(HopperLayout, DescriptorsHaveTheFieldsOfThePtxIsa) {
  EXPECT_EQ(matrix_descriptor(0, 0, 0), std::uint64_t{1} << 62);
  EXPECT_EQ(matrix_descriptor(0x400, 0, 0) & 0x3FFF, 0x40u);
  EXPECT_EQ(matrix_descriptor(0x3FFF0, 0, 0) & 0xFFFF, 0x3FFFu);
  EXPECT_EQ(matrix_descriptor(0, 8192, 0) >> 16 & 0x3FFF, 512u);
  EXPECT_EQ(matrix_descriptor(0, 0, 1024) >> 32 & 0x3FFF, 64u);
  EXPECT_EQ(matrix_descriptor(0x3FFF0, 0x3FFF0, 0x3FFF0) >> 46, std::uint64_t{1} << 16);  // nothing beside the fields
  EXPECT_EQ(tile_descriptor<true>(1024, 64), matrix_descriptor(1024 + 64 * 128, 16, 1024));
  EXPECT_EQ(tile_descriptor<false>(1024, 64), matrix_descriptor(1024 + 8192, 8192, 1024));
  EXPECT_EQ(kNextDepths<true>, 2u);
  EXPECT_EQ(kNextDepths<false>, 128u);
}

TEST(HopperLayout, EverySumHasAPlace) {
  for (const int columns : {64, 128, 256}) {
    std::set<std::pair<int, int>> places;
    for (int thread = 0; thread < 128; ++thread) {
      for (int i = 0; i < columns / 2; ++i) {
        const SumPlace at = place_of_sum(thread, i);
        EXPECT_TRUE(at.row / 16 == thread / 32 && at.row < 64 && at.column < columns);
        places.insert({at.row, at.column});
      }
    }
    EXPECT_EQ(places.size(), static_cast<std::size_t>(64 * columns));
  }
  EXPECT_EQ(place_of_sum(37, 6).row, 16 + 1 + 8);  // warp 1, lane 5: rows 1 and 9, columns 2 and 3 of each eight
  EXPECT_EQ(place_of_sum(37, 7).column, 8 + 2 + 1);
}

TEST(HopperLayout, SlabsTakePairsWithoutBankConflicts) {
  std::set<int> places;
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < kSpan; ++column) places.insert(slab_place(row, column));
  }
  EXPECT_EQ(places.size(), 16u * kSpan);
  EXPECT_LT(*places.rbegin(), static_cast<int>(Tile<64>::kSlab / sizeof(float)));
  for (int i = 0; i < kSpan / 2; i += 2) {
    for (int half = 0; half < 32; half += 16) {  // 8 bytes of 16 threads fill the 32 banks once
      std::set<int> banks;
      for (int lane = half; lane < half + 16; ++lane) {
        const SumPlace at = place_of_sum(lane, i);
        banks.insert(slab_place(at.row, at.column) / 2 % 16);
      }
      EXPECT_EQ(banks.size(), 16u);
    }
  }
}

TEST(HopperLayout, RingGoesRoundWithAlternatingParity) {
  Ring<3> ring;
  std::vector<std::pair<int, unsigned>> seen;
  for (int i = 0; i < 7; ++i, ring.advance()) seen.emplace_back(ring.stage, ring.parity);
  EXPECT_THAT(seen, testing::ElementsAre(std::pair(0, 0u), std::pair(1, 0u), std::pair(2, 0u), std::pair(0, 1u),
                                         std::pair(1, 1u), std::pair(2, 1u), std::pair(0, 0u)));
}

TEST(HopperTensorMap, RulesOfTmaAreNamed) {
  alignas(16) static float16 data[16];
  const MapDescription good{.data = data,
                            .windows = true,
                            .extents = {8, 4, 4, 1},
                            .strides = {2, 16, 64, 256},
                            .box_rows = 64,
                            .lower = {-1, -1},
                            .upper = {-1, -1},
                            .stride = {1, 1},
                            .farthest = {2, 2}};
  const auto broken = [&](auto change) {
    MapDescription map = good;
    change(map);
    const char* rule = broken_rule(map);
    return std::string(rule != nullptr ? rule : "");
  };
  EXPECT_EQ(broken([](MapDescription&) {}), "");
  EXPECT_THAT(broken([](MapDescription& m) { m.data = data + 1; }), testing::HasSubstr("begins at a multiple of 16"));
  EXPECT_THAT(broken([](MapDescription& m) { m.extents[2] = 0; }), testing::HasSubstr("1 to 2^32"));
  EXPECT_THAT(broken([](MapDescription& m) { m.strides[1] = 24; }), testing::HasSubstr("multiples of 16 bytes"));
  EXPECT_THAT(broken([](MapDescription& m) { m.strides[3] = std::uint64_t{1} << 40; }), testing::HasSubstr("2^40"));
  EXPECT_THAT(broken([](MapDescription& m) { m.stride[0] = 9; }), testing::HasSubstr("1 to 8"));
  EXPECT_THAT(broken([](MapDescription& m) { m.lower[1] = -129; }), testing::HasSubstr("-128 to 127"));
  EXPECT_THAT(broken([](MapDescription& m) { m.upper[0] = -5; }), testing::HasSubstr("not empty"));
  EXPECT_THAT(broken([](MapDescription& m) { m.farthest[0] = 256; }), testing::HasSubstr("0 to 255"));
}

using test::kEmulated;
using test::of;
using test::on_device;
using test::OnDevice;
using test::whole_numbers;

// C of `products` and `terms` of matrices, A and B each stored as their majors say, in rows wider than the matrix.
template <class T, class To, bool DepthInnerA, bool DepthInnerB>
void check_product(int rows, int columns, int depth, int tile_columns, int products = 1, int terms = 1) {
  constexpr int n = kVector<T>;
  const auto pitch_of = [](int inner) { return static_cast<Index>((inner + n - 1) / n * n + n); };
  const Index pitch_a = pitch_of(DepthInnerA ? depth : rows), pitch_b = pitch_of(DepthInnerB ? depth : columns);
  const Index matrix_a = (DepthInnerA ? rows : depth) * pitch_a, matrix_b = (DepthInnerB ? columns : depth) * pitch_b;
  const auto a = whole_numbers<T>(products * terms * matrix_a, 1), b = whole_numbers<T>(terms * matrix_b, 2);
  const auto start = whole_numbers<To>(Index{products} * rows * columns, 3);
  const auto bias = whole_numbers<float>(columns, 4);
  const OnDevice scope;
  const Tensor device_a = on_device(a), device_b = on_device(b), device_c = on_device(start),
               device_bias = on_device(bias);
  const Dense<T, DepthInnerA> left{of<T>(device_a), pitch_a, rows, depth};
  const Dense<T, DepthInnerB> right{of<T>(device_b), pitch_b, columns, depth};
  const Depth taps{depth, terms, 1};
  const bool done =
      multiply<T, To>(Context::current(), "product",
                      {.a = describe(left, taps, false, products, terms * matrix_a, terms > 1 ? matrix_a : 0),
                       .b = describe(right, taps, false, products, 0, terms > 1 ? matrix_b : 0),
                       .depth_inner_a = DepthInnerA,
                       .depth_inner_b = DepthInnerB,
                       .depth = taps,
                       .batch = {Index{rows} * columns},
                       .epilogue = {.y = of<To>(device_c),
                                    .pitch = columns,
                                    .grid = {},
                                    .bias = products == 1 ? of<float>(device_bias) : nullptr,
                                    .activation = Activation::relu,
                                    .accumulate = true,
                                    .vectors = columns % kVector<To> == 0},
                       .rows = rows,
                       .columns = columns,
                       .products = products,
                       .tile_columns = tile_columns});
  ASSERT_TRUE(done);
  const Tensor host = device_c.to(Device{});
  const auto at = [](const std::vector<T>& values, Index base, Index pitch, bool depth_inner, int row, int k) {
    return static_cast<float>(
        values[static_cast<std::size_t>(base + (depth_inner ? row * pitch + k : k * pitch + row))]);
  };
  for (int p = 0; p < products; ++p) {
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        float sum = products == 1 ? bias[static_cast<std::size_t>(j)] : 0;
        for (int t = 0; t < terms; ++t) {
          for (int k = 0; k < depth; ++k)
            sum += at(a, (p * terms + t) * matrix_a, pitch_a, DepthInnerA, i, k) *
                   at(b, t * matrix_b, pitch_b, DepthInnerB, j, k);
        }
        const auto c = (static_cast<std::size_t>(p) * static_cast<std::size_t>(rows) + static_cast<std::size_t>(i)) *
                           static_cast<std::size_t>(columns) +
                       static_cast<std::size_t>(j);
        const auto expected = convert<To>(std::max(sum, 0.f) + static_cast<float>(start[c]));
        ASSERT_EQ(static_cast<float>(host.data<To>()[c]), static_cast<float>(expected))
            << "C" << p << "(" << i << ", " << j << ") of [" << rows << ", " << depth << "] x [" << depth << ", "
            << columns << "], depth inner " << DepthInnerA << DepthInnerB << ", tile " << tile_columns;
      }
    }
  }
}

template <class T>
void check_majors(int rows, int columns, int depth, int tile_columns) {
  check_product<T, T, true, true>(rows, columns, depth, tile_columns);
  check_product<T, T, true, false>(rows, columns, depth, tile_columns);
  check_product<T, T, false, false>(rows, columns, depth, tile_columns);
  check_product<T, float, false, false>(rows, columns, depth, tile_columns);
}

TEST(HopperProduct, MultipliesAtTheEdgesOfEveryTile) {
  for (const int tile : {64, 128, 256}) {
    check_majors<bfloat16>(128, tile, 64, tile);
    check_majors<float16>(1, 1, 1, tile);
    check_majors<bfloat16>(65, tile + 8, 72, tile);
    check_majors<float16>(129, tile - 8, 130, tile);
  }
}

TEST(HopperProduct, GoesRoundTheRingAndOnToTheNextTile) {  // three blocks: two of four tiles for one of them
  check_majors<bfloat16>(257, 72, 64 * 11, 64);
  check_majors<bfloat16>(130, 136, 64 * 9 + 8, 128);
}

TEST(HopperProduct, SplitsADeepProductOfASmallMatrix) { check_majors<bfloat16>(24, 40, 64 * 17 + 16, 64); }

TEST(HopperProduct, SumsTermsAndHasManyProducts) {
  check_product<bfloat16, bfloat16, true, true>(70, 40, 72, 64, 3, 1);
  check_product<bfloat16, bfloat16, true, false>(70, 40, 72, 64, 3, 2);
  check_product<float16, float16, false, false>(70, 40, 72, 64, 2, 3);
}

// The matrix of a window over an image, written out, and as TMA sees it.
struct Unfolded {
  static constexpr int kImages = 2, kHeight = 6, kWidth = 5, kChannels = 72, kPitch = 80, kTaps = 6;  // 2 x 3
  static constexpr int kRows = 3, kColumns = 5;                                                       // stride 2 x 1
  static constexpr int kPixels = kImages * kRows * kColumns, kDepth = kTaps * kChannels;

  std::vector<bfloat16> image = whole_numbers<bfloat16>(Index{kImages} * kHeight * kWidth * kPitch, 1);
  std::vector<float> matrix =
      std::vector<float>(static_cast<std::size_t>(kPixels * kDepth));  // [pixels, taps channels]

  Unfolded() {
    for (int m = 0; m < kPixels; ++m) {
      for (int k = 0; k < kDepth; ++k) {
        const int n = m / (kRows * kColumns), a = m / kColumns % kRows, b = m % kColumns;
        const int tap = k / kChannels, i = a * 2 - 1 + tap / 3, j = b - 1 + tap % 3;
        const bool inside = i >= 0 && i < kHeight && j >= 0 && j < kWidth;
        const Index at = ((Index{n} * kHeight + i) * kWidth + j) * kPitch + k % kChannels;
        matrix[static_cast<std::size_t>(m * kDepth + k)] =
            inside ? static_cast<float>(image[static_cast<std::size_t>(at)]) : 0.f;
      }
    }
  }
  float at(int pixel, int k) const { return matrix[static_cast<std::size_t>(pixel * kDepth + k)]; }

  template <bool DepthInner>
  static Windows<bfloat16, DepthInner> windows(const Tensor& tensor) {
    return {.data = of<bfloat16>(tensor),
            .pitch = kPitch,
            .grid = {.height = kHeight,
                     .width = kWidth,
                     .stride_height = 2,
                     .base_height = -1,
                     .base_width = -1,
                     .pixels = Divider(kRows * kColumns),
                     .columns = Divider(kColumns),
                     .taps = Divider(3)},
            .channels = Divider(kChannels),
            .pixels = kPixels,
            .taps = kDepth};
  }
};

TEST(HopperProduct, SeesAnImageThroughItsWindows) {
  const Unfolded x;
  constexpr int kOut = 136, kPixels = Unfolded::kPixels, kDepth = Unfolded::kDepth;
  const auto w = whole_numbers<bfloat16>(Index{kOut} * kDepth, 2),
             dz = whole_numbers<bfloat16>(Index{kPixels} * kOut, 3);
  const OnDevice scope;
  const Tensor image = on_device(x.image), weights = on_device(w), gradient = on_device(dz);
  const auto value = [](const std::vector<bfloat16>& v, int i) {
    return static_cast<float>(v[static_cast<std::size_t>(i)]);
  };
  for (const int tile : {64, 128, 256}) {
    const Tensor y = Tensor::zeros({kPixels, kOut}, DType::bf16, kEmulated),
                 dw = Tensor::zeros({kOut, kDepth}, DType::f32, kEmulated);
    const Depth taps{Unfolded::kChannels, 3, 2}, pixels{kPixels, 1, 1};
    ASSERT_TRUE((multiply<bfloat16, bfloat16>(
        Context::current(), "forward",
        {.a = describe(Unfolded::windows<true>(image), taps, false, 1, 0, 0),
         .b = describe(Dense<bfloat16, true>{of<bfloat16>(weights), kDepth, kOut, kDepth}, taps, true, 1, 0, 0),
         .depth = taps,
         .batch = {},
         .epilogue = {.y = of<bfloat16>(y), .pitch = kOut, .grid = {}, .vectors = true},
         .rows = kPixels,
         .columns = kOut,
         .tile_columns = tile})));
    ASSERT_TRUE((multiply<bfloat16, float>(
        Context::current(), "backward_weight",
        {.a = describe(Dense<bfloat16, false>{of<bfloat16>(gradient), kOut, kOut, kPixels}, pixels, false, 1, 0, 0),
         .b = describe(Unfolded::windows<false>(image), pixels, false, 1, 0, 0),
         .depth_inner_a = false,
         .depth_inner_b = false,
         .depth = pixels,
         .batch = {},
         .epilogue = {.y = of<float>(dw), .pitch = kDepth, .grid = {}, .vectors = true},
         .rows = kOut,
         .columns = kDepth,
         .tile_columns = tile})));
    const Tensor host_y = y.to(Device{}), host_dw = dw.to(Device{});
    for (int o = 0; o < kOut; ++o) {
      for (int m = 0; m < kPixels; ++m) {
        float sum = 0;
        for (int k = 0; k < kDepth; ++k) sum += x.at(m, k) * value(w, o * kDepth + k);
        ASSERT_EQ(static_cast<float>(host_y.data<bfloat16>()[m * kOut + o]), static_cast<float>(bfloat16(sum)))
            << "y(" << m << ", " << o << "), tile " << tile;
      }
      for (int k = 0; k < kDepth; ++k) {
        float sum = 0;
        for (int m = 0; m < kPixels; ++m) sum += x.at(m, k) * value(dz, m * kOut + o);
        ASSERT_EQ(host_dw.data<float>()[o * kDepth + k], sum) << "dw(" << o << ", " << k << "), tile " << tile;
      }
    }
  }
}

TEST(HopperProduct, DoesNotDependOnTheOrderOfThreads) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    set_shuffle_seed(seed);
    check_product<bfloat16, bfloat16, true, false>(129, 72, 64 * 6, 64);
  }
  set_shuffle_seed(std::nullopt);
}

// A stage that is given back too early, or read before it is full, is found by the emulated units.
__global__ void early_product_kernel(const __grid_constant__ TensorMap map, bool wait_for_copy, float* result) {
  std::byte* const shared = shared_memory();
  auto* const full = reinterpret_cast<Barrier*>(shared + 2 * 8192);
  if (threadIdx.x == 0) {
    init_barrier(full, 1);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive_expecting(full, 2 * 8192);
    copy_box(shared, map, full, 0, 0, 0, 0);
    copy_box(shared + 8192, map, full, 0, 0, 0, 0);
  }
  float sums[32] = {};
  if (wait_for_copy) wait(full, 0);
  begin_products();
  multiply_add<bfloat16, true, true>(sums, tile_descriptor<true>(shared_address(shared), 0),
                                     tile_descriptor<true>(shared_address(shared + 8192), 0));
  commit_products();
  wait_for_products<0>(sums);
  __syncthreads();
  wait(full, 0);
  result[threadIdx.x] = sums[0];
}

TEST(HopperProduct, ReadsGarbageBeforeTheBarrier) {
  const OnDevice scope;
  const Tensor ones = Tensor::full({64 * 64}, 1, DType::bf16, kEmulated),
               result = Tensor::zeros({128}, DType::f32, kEmulated);
  MapDescription map = describe(Dense<bfloat16, true>{of<bfloat16>(ones), 64, 64, 64}, {64, 1, 1}, false, 1, 0, 0).map;
  map.box_rows = 64;
  for (const bool wait_for_copy : {true, false}) {
    launch(Context::current(), "early", {.grid = dim3(1), .block = dim3(128), .shared = 2 * 8192 + 64},
           early_product_kernel, encode(map), wait_for_copy, of<float>(result));
    const Tensor host = result.to(Device{});
    for (int i = 0; i < 128; ++i) {
      if (wait_for_copy)
        EXPECT_EQ(host.data<float>()[i], 16);
      else
        EXPECT_TRUE(std::isnan(host.data<float>()[i]));
    }
  }
}

__global__ void nobody_arrives_kernel() {
  auto* const barrier = reinterpret_cast<Barrier*>(shared_memory());
  if (threadIdx.x == 0) init_barrier(barrier, 2);
  __syncthreads();
  if (threadIdx.x == 0) arrive(barrier);
  wait(barrier, 0);
}

TEST(HopperProduct, AWaitInVainIsReported) {
  const OnDevice scope;
  try {
    launch(Context::current(), "vain", {.grid = dim3(1), .block = dim3(32), .shared = 64}, nobody_arrives_kernel);
    synchronize(kEmulated);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("waits in mbarrier.try_wait"));
  }
}

}  // namespace
}  // namespace graft::emulated::hopper
