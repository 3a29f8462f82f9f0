// Ladder: Matrix product
//
// C [m, n] = A [m, k] B [k, n], all in rows: 2 m n k operations on m k + k n + m n numbers. With m = n = k = 4096 in
// f32 that is 683 operations for each byte of the operands, thirty times what the memory needs to keep up (22). Yet
// each element of A is used n times and each of B m times, and the ladder is about where it is kept between two uses:
// in the caches, in shared memory, in registers.
//
//              n                       a block of threads makes one tile of C; it walks along k,
//         +----:--+--+                 and a tile of A and one of B meet in each step
//       k |    :B |  |
//         +----:--+--+                 of the tile, a warp has a part, of that a thread a part:
//     k   |    :  |  |  n              the larger a part, the more often each number that was
//   +---+ +----+--+--+                 read is used before it is dropped
//   |...A.|....|C |  |
// m +---+ +----+--+--+
//   |   | |    |  |  |
//   +---+ +----+--+--+

#include "device/async_copy.h"
#include "device/gemm_choice.h"
#include "device/mma.h"
#include "device/numeric.h"
#include "device/unroll.h"
#include "kernels/matmul.h"
#include "ladder/rung.h"

namespace graft::ladder::GRAFT_TARGET {
namespace {

struct Sizes {
  int rows, columns, depth;
};

Sizes sizes(std::span<const Operand> in) {
  return {static_cast<int>(in[0].shape[0]), static_cast<int>(in[1].shape[1]), static_cast<int>(in[0].shape[1])};
}

}  // namespace

// # One thread an element: the definition, written down
// Intensity: 2 operations for 33 sectors of 32 bytes a warp and step: 2 / 33 = 0.06 operations a byte
// Expected: 1 % of f32, for the first-level cache serves one line a clock, 33 a warp and step, and could feed 132 steps
//
// Lane i of a warp takes row i, so that the lanes read a column of A: 32 numbers that lie k apart, in 32 lines of the
// cache. Of each line one number is used now, and the neighbours only if the line is still there when the loop comes to
// them.
namespace {
__global__ void gemm_naive_kernel(Sizes s, const float* a, const float* b, float* c) {
  const int row = block_x() * 32 + thread_x(), column = block_y() * 8 + thread_y();
  if (row >= s.rows || column >= s.columns) return;
  float sum = 0;
  for (int k = 0; k < s.depth; ++k) sum += a[row * s.depth + k] * b[k * s.columns + column];
  c[row * s.columns + column] = sum;
}
}  // namespace

GRAFT_RUNG(gemm_naive) {
  const Sizes s = sizes(in);
  launch(context, "gemm_naive", {blocks(pieces(s.rows, 32), pieces(s.columns, 8)), dim3(32, 8)}, gemm_naive_kernel, s,
         in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Coalesced: neighbours in the warp are neighbours in memory
// Intensity: 2 operations a lane for 1 + 4 sectors a warp: 64 / 160 = 0.4 operations a byte
// Expected: 8 % of f32: two requests a warp and step, one of a line each, against four steps that a multiprocessor
// could do in a clock; at most 1 / 8, and nothing hides the way to memory but other warps
//
// The same loop with rows and columns exchanged. Now lane i takes column i: the 32 numbers of B lie in one line, and
// the number of A is the same for all lanes and is read once. Nothing else is different, and six times less is moved.
namespace {
__global__ void gemm_coalesced_kernel(Sizes s, const float* a, const float* b, float* c) {
  const int column = block_x() * 32 + thread_x(), row = block_y() * 8 + thread_y();
  if (row >= s.rows || column >= s.columns) return;
  float sum = 0;
  for (int k = 0; k < s.depth; ++k) sum += a[row * s.depth + k] * b[k * s.columns + column];
  c[row * s.columns + column] = sum;
}
}  // namespace

GRAFT_RUNG(gemm_coalesced) {
  const Sizes s = sizes(in);
  launch(context, "gemm_coalesced", {blocks(pieces(s.columns, 32), pieces(s.rows, 8)), dim3(32, 8)},
         gemm_coalesced_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Tiles in shared memory: a block reads what it shares once
// Intensity: a tile T wide does 2 T^3 operations on 2 T^2 numbers: T / 4 = 8 operations a byte from global memory
// Expected: 12 % of f32: still two wavefronts a warp and step, now of shared memory, which has the same 128 bytes a
// clock
//
// A block makes 32 x 32 elements and brings the 32 x 32 of A and of B that they all need into shared memory. Global
// memory is read T times less and is no longer the limit. But a multiply-add still takes two numbers from shared
// memory, and 128 threads that could multiply each clock wait for the 32 numbers that arrive.
namespace {
__global__ void gemm_tiles_kernel(Sizes s, const float* a, const float* b, float* c) {
  constexpr int kTile = 32;
  GRAFT_SHARED(float, tile_a, (kTile * kTile));
  GRAFT_SHARED(float, tile_b, (kTile * kTile));
  const int x = thread_x(), y = thread_y();
  const int column = block_x() * kTile + x, row = block_y() * kTile + y;
  float sum = 0;
  for (int first = 0; first < s.depth; first += kTile) {
    const bool in_a = row < s.rows && first + x < s.depth, in_b = first + y < s.depth && column < s.columns;
    tile_a[y * kTile + x] = in_a ? a[row * s.depth + first + x] : 0.f;
    tile_b[y * kTile + x] = in_b ? b[(first + y) * s.columns + column] : 0.f;
    __syncthreads();
    for (int k = 0; k < kTile; ++k) sum += tile_a[y * kTile + k] * tile_b[k * kTile + x];
    __syncthreads();
  }
  if (row < s.rows && column < s.columns) c[row * s.columns + column] = sum;
}
}  // namespace

GRAFT_RUNG(gemm_tiles) {
  const Sizes s = sizes(in);
  launch(context, "gemm_tiles", {blocks(pieces(s.columns, 32), pieces(s.rows, 32)), dim3(32, 32)}, gemm_tiles_kernel, s,
         in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Tiles in registers: a thread makes 8 x 8 elements
// Intensity: a tile 128 wide: 32 operations a byte from global memory; 64 multiply-adds for 16 numbers of shared memory
// Expected: 33 % of f32: 8 x 2 wavefronts for A and 8 x 4 for B, 48 clocks, for 64 multiply-adds that take 16
//
// What a thread has read from shared memory it multiplies with eight others: an outer product of a column of A and a
// row of B for each k, whose 64 sums stay in registers. That makes 4 multiply-adds for a number instead of 1/2. What is
// left is how the lanes read: those of B eight numbers apart, of which four share a bank and are served one after the
// other. C is written in the same way, a sector for each number: a thread's columns should not all be neighbours.
namespace {
__global__ void __launch_bounds__(256) gemm_register_tiles_kernel(Sizes s, const float* a, const float* b, float* c) {
  constexpr int kTile = 128, kDepth = 8, kMine = 8;
  GRAFT_SHARED(float, tile_a, (kTile * kDepth));  // [row, depth]
  GRAFT_SHARED(float, tile_b, (kDepth * kTile));  // [depth, column]
  const int thread = thread_x(), my_row = thread / 16 * kMine, my_column = thread % 16 * kMine;
  const int first_row = block_y() * kTile, first_column = block_x() * kTile;
  float sums[kMine][kMine] = {};
  for (int first = 0; first < s.depth; first += kDepth) {
    GRAFT_UNROLL
    for (int i = thread; i < kTile * kDepth; i += 256) {
      const int row = first_row + i / kDepth, k = first + i % kDepth;
      tile_a[i] = row < s.rows && k < s.depth ? a[row * s.depth + k] : 0.f;
      const int column = first_column + i % kTile, depth = first + i / kTile;
      tile_b[i] = depth < s.depth && column < s.columns ? b[depth * s.columns + column] : 0.f;
    }
    __syncthreads();
    GRAFT_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      float left[kMine], right[kMine];
      GRAFT_UNROLL
      for (int i = 0; i < kMine; ++i) {
        left[i] = tile_a[(my_row + i) * kDepth + k];
        right[i] = tile_b[k * kTile + my_column + i];
      }
      GRAFT_UNROLL
      for (int i = 0; i < kMine; ++i) {
        GRAFT_UNROLL
        for (int j = 0; j < kMine; ++j) sums[i][j] += left[i] * right[j];
      }
    }
    __syncthreads();
  }
  GRAFT_UNROLL
  for (int i = 0; i < kMine; ++i) {
    GRAFT_UNROLL
    for (int j = 0; j < kMine; ++j) {
      const int row = first_row + my_row + i, column = first_column + my_column + j;
      if (row < s.rows && column < s.columns) c[row * s.columns + column] = sums[i][j];
    }
  }
}
}  // namespace

GRAFT_RUNG(gemm_register_tiles) {
  const Sizes s = sizes(in);
  launch(context, "gemm_register_tiles", {blocks(pieces(s.columns, 128), pieces(s.rows, 128)), dim3(256)},
         gemm_register_tiles_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Vectors, and two tiles under way: one buffer is filled while the other is multiplied
// Intensity: as before 32 operations a byte; 64 multiply-adds for 4 vectors of 16 bytes
// Expected: 75 % of f32: 16 wavefronts for the 16 clocks of 64 multiply-adds, and the barrier once a step costs the
// rest
//
// Three things at once. A lies in shared memory by depth, so that a thread reads four rows as one vector; a thread's
// rows and columns are two groups of four neighbours, so that the lanes of a quarter warp read 128 bytes in a row,
// without a conflict; and the next tiles travel past the registers by cp.async while these are multiplied, so that one
// barrier a step is enough. Depth and columns are multiples of 4.
namespace {
__global__ void __launch_bounds__(256, 2) gemm_vectors_kernel(Sizes s, const float* a, const float* b, float* c) {
  constexpr int kTile = 128, kDepth = 8, kPitch = kTile + 4, kHalf = kTile / 2;
  GRAFT_SHARED(float, tiles_a, (2 * kDepth * kPitch));  // [buffer, depth, row]
  GRAFT_SHARED(float, tiles_b, (2 * kDepth * kPitch));  // [buffer, depth, column]
  const int thread = thread_x(), my_row = thread / 16 * 4, my_column = thread % 16 * 4;
  const int first_row = block_y() * kTile, first_column = block_x() * kTile;
  const auto fetch = [&](int first, int buffer) {
    const int k = thread % kDepth, depth = thread / 32, column = thread % 32 * 4;
    GRAFT_UNROLL
    for (int row = thread / kDepth; row < kTile; row += 256 / kDepth) {  // four bytes each, for they are transposed
      const bool inside = first_row + row < s.rows && first + k < s.depth;
      copy_async<4>(tiles_a + (buffer * kDepth + k) * kPitch + row,
                    a + (inside ? (first_row + row) * s.depth + first + k : 0), inside);
    }
    const bool inside = first + depth < s.depth && first_column + column < s.columns;
    copy_async<16>(tiles_b + (buffer * kDepth + depth) * kPitch + column,
                   b + (inside ? (first + depth) * s.columns + first_column + column : 0), inside);
    commit_copies();
  };
  float sums[8][8] = {};
  fetch(0, 0);
  for (int first = 0, buffer = 0; first < s.depth; first += kDepth, buffer ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is there for all, and nobody reads the other buffer any more
    if (first + kDepth < s.depth) fetch(first + kDepth, buffer ^ 1);
    GRAFT_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      const float* line_a = tiles_a + (buffer * kDepth + k) * kPitch + my_row;
      const float* line_b = tiles_b + (buffer * kDepth + k) * kPitch + my_column;
      const Vector<float, 4> left[2] = {load<4>(line_a), load<4>(line_a + kHalf)};
      const Vector<float, 4> right[2] = {load<4>(line_b), load<4>(line_b + kHalf)};
      GRAFT_UNROLL
      for (int i = 0; i < 8; ++i) {
        GRAFT_UNROLL
        for (int j = 0; j < 8; ++j) sums[i][j] += left[i / 4][i % 4] * right[j / 4][j % 4];
      }
    }
  }
  GRAFT_UNROLL
  for (int i = 0; i < 8; ++i) {
    GRAFT_UNROLL
    for (int j = 0; j < 8; j += 4) {
      const int row = first_row + my_row + i / 4 * kHalf + i % 4, column = first_column + my_column + j / 4 * kHalf;
      if (row >= s.rows || column >= s.columns) continue;
      store(c + row * s.columns + column,
            Vector<float, 4>{{sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]}});
    }
  }
}
}  // namespace

GRAFT_RUNG(gemm_vectors) {
  const Sizes s = sizes(in);
  launch(context, "gemm_vectors", {blocks(pieces(s.columns, 128), pieces(s.rows, 128)), dim3(256)}, gemm_vectors_kernel,
         s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # In use for f32: three tiles under way, any layout, any epilogue
// Intensity: as before 32 operations a byte with tiles 128 wide; smaller tiles where C is small
// Expected: 80 % of f32: the arithmetic of the rung before, with the way to memory hidden behind two steps instead of
// one
//
// The same idea as a template (`cuda/device/simt_core.h` in `cuda/device/gemm.h`): what a factor is, a matrix, its
// transpose or the window of a convolution, how many stages are under way, and what becomes of the sums are parameters.
// A warp is four threads high and eight wide, so that it reads four vectors of A and eight of B. All that it can be
// costs a tenth: with one layout and no epilogue the rung before is so much faster on an H100.
GRAFT_RUNG(gemm_in_use_f32) { kernels::matmul(context, in[0], in[1], false, false, {out, false}); }

// # Tensor cores: a warp multiplies 16 x 16 by 16 x 8 in one instruction
// Intensity: tiles 64 wide of halves: 2 T^3 / (2 T^2 2) = T / 2 = 32 operations a byte from global memory
// Expected: 15 % of bf16: 32 operations a byte of the second-level cache are 176 TFLOP/s, and every step waits for it
//
// From here on A and B are bf16, and the sums f32. One mma.sync does 2048 multiply-adds, which would take a warp 64
// instructions; ldmatrix brings its fragments out of shared memory, four matrices of 8 x 8 at once, and transposes
// those of B. The ceiling is twelve times higher, so that all that was near the limit before is far below it now. Depth
// and columns are multiples of 8.
namespace {
__global__ void __launch_bounds__(128)
    gemm_tensor_cores_kernel(Sizes s, const bfloat16* a, const bfloat16* b, bfloat16* c) {
  constexpr int kTile = 64, kDepth = 32, kPitchA = kDepth + 8, kPitchB = kTile + 8;  // 8 more: other banks a line
  GRAFT_SHARED(bfloat16, tile_a, (kTile * kPitchA));                                 // [row, depth]
  GRAFT_SHARED(bfloat16, tile_b, (kDepth * kPitchB));                                // [depth, column]
  using Eight = Vector<bfloat16, 8>;
  const int thread = thread_x(), lane = thread % kWarp, warp = thread / kWarp;
  const int first_row = block_y() * kTile, first_column = block_x() * kTile;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;  // of the 32 x 32 that the warp makes
  const int line = lane % 8, odd = lane / 8 % 2 * 8,
            upper = lane / 16 * 8;  // whose address this lane gives to ldmatrix
  float sums[2][4][4] = {};
  for (int first = 0; first < s.depth; first += kDepth) {
    GRAFT_UNROLL
    for (int i = thread; i < kTile * kDepth / 8; i += 128) {
      const int row = i / 4, k = i % 4 * 8, depth = i / 8, column = i % 8 * 8;
      const bool in_a = first_row + row < s.rows && first + k < s.depth;
      const bool in_b = first + depth < s.depth && first_column + column < s.columns;
      store(tile_a + row * kPitchA + k, in_a ? load<8>(a + (first_row + row) * s.depth + first + k) : Eight{});
      store(tile_b + depth * kPitchB + column,
            in_b ? load<8>(b + (first + depth) * s.columns + first_column + column) : Eight{});
    }
    __syncthreads();
    GRAFT_UNROLL
    for (int k = 0; k < kDepth; k += 16) {
      std::uint32_t left[2][4], right[2][4];
      GRAFT_UNROLL
      for (int i = 0; i < 2; ++i) {
        load_matrices<false>(tile_a + (warp_row + i * 16 + odd + line) * kPitchA + k + upper, left[i]);
        load_matrices<true>(tile_b + (k + odd + line) * kPitchB + warp_column + i * 16 + upper, right[i]);
      }
      GRAFT_UNROLL
      for (int i = 0; i < 2; ++i) {
        GRAFT_UNROLL
        for (int j = 0; j < 4; ++j)
          multiply_add<bfloat16>(sums[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
      }
    }
    __syncthreads();
  }
  GRAFT_UNROLL
  for (int i = 0; i < 16; ++i) {  // two neighbours each: which lane has which is told in device/mma.h
    const int down = i / 8, across = i / 2 % 4, half = i % 2;
    const int row = first_row + warp_row + down * 16 + half * 8 + lane / 4;
    const int column = first_column + warp_column + across * 8 + lane % 4 * 2;
    if (row >= s.rows || column >= s.columns) continue;
    const float* pair = sums[down][across] + half * 2;
    store(c + row * s.columns + column, Vector<bfloat16, 2>{{narrow<bfloat16>(pair[0]), narrow<bfloat16>(pair[1])}});
  }
}
}  // namespace

GRAFT_RUNG(gemm_tensor_cores) {
  const Sizes s = sizes(in);
  launch(context, "gemm_tensor_cores", {blocks(pieces(s.columns, 64), pieces(s.rows, 64)), dim3(128)},
         gemm_tensor_cores_kernel, s, in[0].as<bfloat16>(), in[1].as<bfloat16>(), out.as<bfloat16>());
}

// # In use without Hopper: four tiles under way
// Intensity: tiles 128 wide of halves: 64 operations a byte from global memory; a warp of 64 x 32 does 21 for each byte
// of shared memory
// Expected: 40 % of bf16: 64 operations a byte of the second-level cache are 352 TFLOP/s; mma.sync itself would reach
// some 60 % of what Hopper's wgmma does
//
// While a tile is multiplied the next three travel (cp.async), so that the way to memory, about a thousand clocks, is
// hidden behind three steps of work. Warp tiles of 64 x 32 read 96 lines for 2048 sums; the sums leave through shared
// memory, so that whole lines are written (which is where most of the conflicts come from that are counted at so small
// a depth). This is `cuda/device/tensor_core.h` in `cuda/device/gemm.h`, the kernel under every linear layer and
// convolution of halves on a GPU without Hopper's units, and on one with them where the product does not suit those.
// Here it is asked for by name, for graft's product of matrices takes them where it may.
namespace {
struct OneProduct {
  __device__ Bases operator()(int, int) const { return {}; }
};
}  // namespace

GRAFT_RUNG(gemm_in_use_mma) {
  if (context.engine == Engine::library)  // whose kernel is timed beside this one
    return kernels::matmul(context, in[0], in[1], false, false, {out, false});
  const Sizes s = sizes(in);
  gemm_with<Cores<bfloat16>>(context, "gemm_in_use_mma",
                             Product<Dense<bfloat16, true>, Dense<bfloat16, false>, OneProduct, Epilogue<bfloat16>>{
                                 .a = {in[0].as<bfloat16>(), s.depth, s.rows, s.depth},
                                 .b = {in[1].as<bfloat16>(), s.columns, s.columns, s.depth},
                                 .batch = {},
                                 .epilogue = {.y = out.as<bfloat16>(), .pitch = s.columns, .grid = {}, .vectors = true},
                                 .rows = s.rows,
                                 .columns = s.columns,
                                 .depth = s.depth},
                             true);
}

}  // namespace graft::ladder::GRAFT_TARGET
