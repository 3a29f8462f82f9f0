#pragma once

#include "hopper/instructions.h"
#include "hopper/product.h"

// The product of halves on Hopper. A block has three warpgroups of 128 threads that do different things: one thread of
// the first is the producer and does nothing but start copies; the other two are consumers, multiply 64 rows of the
// tile each, and never compute an address of global memory before they write their sums.
//
//   producer                                   consumers
//   wait until stage s is empty                wait until stage s is full
//   announce its bytes, start two copies       start four products of 16 depths each
//   go on with stage s + 1                     wait for those of the stage before, and hand that stage back
//
// Both walk around the same ring of stages. A stage's two barriers say that its boxes have arrived (one arrival, the
// producer's, and the bytes) and that nobody reads it any more (an arrival of each of the eight warps). Nothing else is
// shared, so that the producer runs ahead as far as there are stages, into the next tile too.
//
// A block stays and computes every gridDim.x-th tile: while its consumers write a tile out, which takes as long as
// several steps of a product that is not deep, the copies for the next tile are under way.
namespace graft::GRAFT_TARGET::hopper {

constexpr int kWarpgroup = 128, kConsumers = 2, kThreads = (1 + kConsumers) * kWarpgroup;
// Of the 65536 registers of a multiprocessor, 168 for each of 384 threads, the producer's go to the consumers: 128
// (40 + 2 * 232) = 64512.
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

/// A factor as the kernel sees it.
struct Factor {
  TensorMap map;
  bool windows;
  int lines;    ///< those of windows in whole spans: line_blocks spans a tap
  int product;  ///< 1 if it has matrices of its own for each product, else 0
  int first_across, step_across, first_down, step_down;
  int stride_across, stride_down, corner_across, corner_down;
  Divider pixels, columns;
  Divider line_blocks, line_taps;
};

template <class To>
struct TmaProduct {
  using Epilogue = graft::GRAFT_TARGET::Epilogue<To>;
  using Sum = float;

  Factor a, b;
  Epilogue epilogue;
  ProductBatch batch;
  int rows, columns, products;
  Divider depth_blocks, taps_across;  ///< spans of depth in a tap, taps in a row of them
  Divider column_blocks;              ///< spans of columns in a tap, of b.lines
  int column_channels;                ///< columns of a tap
  int row_tiles, column_tiles, all_steps;
  int parts, steps_a_part;
  float* partial;  ///< as in device/gemm.h
};

/// What a block computes at one time.
struct TileWork {
  int first_row, first_column, product, part, first_step, steps;
};

template <int Columns, class P>
__device__ TileWork work_of(const P& p, int tile) {
  TileWork work;
  work.first_column = tile % p.column_tiles * Columns;
  tile /= p.column_tiles;
  work.first_row = tile % p.row_tiles * Tile<Columns>::kRows;
  tile /= p.row_tiles;
  work.product = tile % p.products;
  work.part = tile / p.products;
  work.first_step = work.part * p.steps_a_part;
  work.steps = p.all_steps - work.first_step < p.steps_a_part ? p.all_steps - work.first_step : p.steps_a_part;
  return work;
}

/// A step along the depth: 64 channels of tap (across, down).
struct Step {
  int block, across, down;
};

/// How many boxes a tile of a factor takes: one if the depth lies inner, else one for each 64 lines that are there.
template <bool DepthInner, int Lines>
__device__ int boxes_of(const Factor& f, int first_line) {
  if (DepthInner) return 1;
  const int spans = (f.lines - first_line + kSpan - 1) / kSpan;
  return spans < Lines / kSpan ? spans : Lines / kSpan;
}

__device__ inline void copy_pixels(std::byte* to, const Factor& f, Barrier* full, int channel, int pixel, int across,
                                   int down) {
  const int image = f.pixels.quotient(pixel), in_image = f.pixels.remainder(pixel, image);
  const int row = f.columns.quotient(in_image), column = f.columns.remainder(in_image, row);
  copy_windows(to, f.map, full, channel, column * f.stride_across + f.corner_across,
               row * f.stride_down + f.corner_down, image, f.first_across + across * f.step_across,
               f.first_down + down * f.step_down);
}

/// Starts the copies of a tile of a factor: `boxes` of them.
template <bool DepthInner>
__device__ void copy_tile(std::byte* to, const Factor& f, Barrier* full, int first_line, int boxes, const Step& step,
                          int product) {
  const int tap = f.first_across + step.across * f.step_across + step.down * f.step_down;
  if constexpr (DepthInner) {
    if (f.windows)
      copy_pixels(to, f, full, step.block * kSpan, first_line, step.across, step.down);
    else
      copy_box(to, f.map, full, step.block * kSpan, tap, first_line, product * f.product);
  } else {
    for (int i = 0; i < boxes; ++i, to += kPanelBytes) {
      if (f.windows) {
        const int span = first_line / kSpan + i, of_span = f.line_blocks.quotient(span);
        const int down = f.line_taps.quotient(of_span);
        copy_pixels(to, f, full, f.line_blocks.remainder(span, of_span) * kSpan, step.block * kSpan,
                    f.line_taps.remainder(of_span, down), down);
      } else {
        copy_box(to, f.map, full, first_line + i * kSpan, tap, step.block * kSpan, product * f.product);
      }
    }
  }
}

/// What the one thread of the producer does.
template <bool DepthInnerA, bool DepthInnerB, int Columns, class P>
__device__ void produce(const P& p, std::byte* shared, Barrier* full, Barrier* empty, int all_tiles) {
  using Tile = hopper::Tile<Columns>;
  prefetch(p.a.map);
  prefetch(p.b.map);
  Ring<Tile::kStages> ring;
  for (int tile = static_cast<int>(blockIdx.x); tile < all_tiles; tile += static_cast<int>(gridDim.x)) {
    const TileWork work = work_of<Columns>(p, tile);
    const int boxes_a = boxes_of<DepthInnerA, Tile::kRows>(p.a, work.first_row),
              boxes_b = boxes_of<DepthInnerB, Columns>(p.b, work.first_column);
    const unsigned bytes = (DepthInnerA ? Tile::kBytesA : static_cast<unsigned>(boxes_a) * kPanelBytes) +
                           (DepthInnerB ? Tile::kBytesB : static_cast<unsigned>(boxes_b) * kPanelBytes);
    for (int i = work.first_step; i < work.first_step + work.steps; ++i, ring.advance()) {
      const int tap = p.depth_blocks.quotient(i), down = p.taps_across.quotient(tap);
      const Step step{p.depth_blocks.remainder(i, tap), p.taps_across.remainder(tap, down), down};
      std::byte* const stage = shared + static_cast<unsigned>(ring.stage) * Tile::kStage;
      wait(empty + ring.stage, ring.parity ^ 1u);
      arrive_expecting(full + ring.stage, bytes);
      copy_tile<DepthInnerA>(stage, p.a, full + ring.stage, work.first_row, boxes_a, step, work.product);
      copy_tile<DepthInnerB>(stage + Tile::kBytesA, p.b, full + ring.stage, work.first_column, boxes_b, step,
                             work.product);
    }
  }
}

/// A warp writes its sums, 16 rows, through its slab, 64 columns at a time, so that threads next to each other write,
/// and read bias and residual, next to each other.
template <int Columns, class P>
__device__ void write_sums(const P& p, const TileWork& work, const float (&sums)[Columns / 2], float* slab,
                           int warp_row) {
  constexpr int kWidth = P::Epilogue::kWidth, kAcross = kSpan / kWidth, kLanes = 32;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const Index base = p.batch(work.product, 0).c;
  GRAFT_ROLLED
  for (int chunk = 0; chunk < Columns / kSpan; ++chunk) {
    const int span = work.first_column / kSpan + chunk, tap = p.column_blocks.quotient(span);
    const int in_tap = p.column_blocks.remainder(span, tap) * kSpan, first = tap * p.column_channels + in_tap;
    if (first >= p.columns) break;
    const int there = p.column_channels - in_tap < kSpan ? p.column_channels - in_tap : kSpan;
    GRAFT_UNROLL
    for (int c = 0; c < Columns / kSpan; ++c) {  // the chunk's sums have fixed registers
      if (c != chunk) continue;
      GRAFT_UNROLL
      for (int i = 0; i < kSpan / 2; i += 2) {
        const SumPlace at = place_of_sum(lane, i);
        store(slab + slab_place(at.row, at.column),
              Vector<float, 2>{{sums[c * kSpan / 2 + i], sums[c * kSpan / 2 + i + 1]}});
      }
    }
    __syncwarp();
    GRAFT_ROLLED
    for (int v = lane; v < 16 * kAcross; v += kLanes) {
      const int in_slab = v / kAcross, column = v % kAcross * kWidth, row = warp_row + in_slab;
      if (row >= p.rows || column >= there) continue;
      const int count = there - column < kWidth ? there - column : kWidth;
      typename P::Epilogue::Values values;
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; i += 4) {
        const Vector<float, 4> four = load<4>(slab + slab_place(in_slab, column + i));
        GRAFT_UNROLL
        for (int k = 0; k < 4; ++k) values[i + k] = four[k];
      }
      if (p.partial == nullptr) {
        p.epilogue.put(base, row, first + column, count, values);
      } else {
        float* const to = p.partial +
                          ((static_cast<Index>(work.part) * p.products + work.product) * p.rows + row) * p.columns +
                          first + column;
        GRAFT_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          if (i < count) to[i] = values[i];
        }
      }
    }
    __syncwarp();
  }
}

/// What a warpgroup of consumers does: rows 64 `group` and on of each tile.
template <class T, bool DepthInnerA, bool DepthInnerB, int Columns, class P>
__device__ void consume(const P& p, std::byte* shared, Barrier* full, Barrier* empty, int all_tiles, int group) {
  using Tile = hopper::Tile<Columns>;
  const int in_group = static_cast<int>(threadIdx.x) % kWarpgroup, warp = in_group / 32;
  float* const slab = reinterpret_cast<float*>(shared + Tile::kSlabs) + (group * 4 + warp) * (Tile::kSlab / 4);
  const auto hand_back = [&](int stage) {
    __syncwarp();
    if (in_group % 32 == 0) arrive(empty + stage);
  };
  Ring<Tile::kStages> ring;
  for (int tile = static_cast<int>(blockIdx.x); tile < all_tiles; tile += static_cast<int>(gridDim.x)) {
    const TileWork work = work_of<Columns>(p, tile);
    float sums[Columns / 2];
    GRAFT_UNROLL
    for (int i = 0; i < Columns / 2; ++i) sums[i] = 0;
    int before = 0;
    for (int i = 0; i < work.steps; ++i, ring.advance()) {
      const unsigned stage = shared_address(shared) + static_cast<unsigned>(ring.stage) * Tile::kStage;
      const std::uint64_t a = tile_descriptor<DepthInnerA>(stage, group * 64),
                          b = tile_descriptor<DepthInnerB>(stage + Tile::kBytesA, 0);
      wait(full + ring.stage, ring.parity);
      begin_products();
      GRAFT_UNROLL
      for (unsigned k = 0; k < Tile::kDepth / 16; ++k)
        multiply_add<T, DepthInnerA, DepthInnerB>(sums, a + k * kNextDepths<DepthInnerA>,
                                                  b + k * kNextDepths<DepthInnerB>);
      commit_products();
      wait_for_products<1>(sums);
      if (i > 0) hand_back(before);
      before = ring.stage;
    }
    wait_for_products<0>(sums);
    if (work.steps > 0) hand_back(before);
    write_sums<Columns>(p, work, sums, slab, work.first_row + group * 64 + warp * 16);
  }
}

template <class T, bool DepthInnerA, bool DepthInnerB, int Columns, class P>
__global__ void __launch_bounds__(kThreads, 1) tma_product_kernel(const __grid_constant__ P p) {
  using Tile = hopper::Tile<Columns>;
  std::byte* const shared = shared_memory();
  auto* const full = reinterpret_cast<Barrier*>(shared + Tile::kBarriers);
  Barrier* const empty = full + Tile::kStages;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      init_barrier(full + stage, 1);
      init_barrier(empty + stage, kConsumers * 4);
    }
    publish_barriers();
  }
  __syncthreads();
  const int all_tiles = p.row_tiles * p.column_tiles * p.products * p.parts;
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (warpgroup == 0) {
    keep_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<DepthInnerA, DepthInnerB, Columns>(p, shared, full, empty, all_tiles);
  } else {
    take_registers<kConsumerRegisters>();
    consume<T, DepthInnerA, DepthInnerB, Columns>(p, shared, full, empty, all_tiles, warpgroup - 1);
  }
}

}  // namespace graft::GRAFT_TARGET::hopper
