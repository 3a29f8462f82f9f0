// Ladder: Softmax
//
// y[r, c] = exp(x[r, c] - m[r]) / sum over c of exp(x[r, c] - m[r]), where m[r] is the largest of row r, taken off so
// that nothing overflows. A number is read and one is written, 8 bytes in f32, for a handful of operations: the
// roofline is the memory's. But a row's numbers must be seen for the largest and for the sum before the first can be
// written, and threads must meet to find them: the ladder is about how they meet.
//
//      a thread a row            a block a row               a warp a row
//      t0 > > > > > >            t0 t1 t2 ... t255           lane 0 ... lane 31
//      t1 > > > > > >              \ /   \ /                     \    X    /
//      t2 > > > > > >               +     +   8 barriers      5 shuffles, no barrier

#include <cmath>

#include "device/reduce.h"
#include "device/unroll.h"
#include "kernels/softmax.h"
#include "ladder/rung.h"

namespace graft::ladder::GRAFT_TARGET {
namespace {

struct Sizes {
  int rows, channels;
};

Sizes sizes(std::span<const Operand> in) {
  return {static_cast<int>(in[0].shape[0]), static_cast<int>(in[0].shape[1])};
}

}  // namespace

// # A thread a row: three loops
// Intensity: 32 sectors for each of four accesses of a warp: some 5 operations for 128 bytes, 0.04 operations a byte
// Expected: 5 % of memory: a line of the cache a lane and access, of which 4 of 128 bytes are used if it is gone before
// the loop returns
//
// The definition: the largest, the sum, the result, each a loop over the row. Lanes are rows apart, as in the first
// rung of the matrix ladder, and the row is read three times.
namespace {
__global__ void softmax_naive_kernel(Sizes s, const float* x, float* y) {
  const int row = block_x() * 128 + thread_x();
  if (row >= s.rows) return;
  const float* from = x + row * s.channels;
  float* to = y + row * s.channels;
  float largest = from[0], sum = 0;
  for (int c = 1; c < s.channels; ++c) largest = Larger{}(largest, from[c]);
  for (int c = 0; c < s.channels; ++c) sum += std::exp(from[c] - largest);
  for (int c = 0; c < s.channels; ++c) to[c] = std::exp(from[c] - largest) / sum;
}
}  // namespace

GRAFT_RUNG(softmax_naive) {
  const Sizes s = sizes(in);
  launch(context, "softmax_naive", {blocks(pieces(s.rows, 128)), dim3(128)}, softmax_naive_kernel, s, in[0].as<float>(),
         out.as<float>());
}

// # A block a row: a tree in shared memory
// Intensity: three reads and a write, all whole lines: 5 operations for 16 bytes of the caches, 8 of them from memory
// Expected: 40 % of memory: 18 barriers for a row of 1000 numbers, four a thread, during which little is under way
//
// 256 threads take neighbouring elements, so that whole lines are read. Each has a largest of its own; then the upper
// half gives its numbers to the lower half, which is halved again: eight rounds, each behind a barrier. The same for
// the sum. In the last five rounds a warp is alone, and the barrier keeps the other seven waiting.
namespace {
template <class Combine>
__device__ float tree(float value, float* of_thread, Combine combine) {
  const int thread = thread_x();
  of_thread[thread] = value;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (thread < half) of_thread[thread] = combine(of_thread[thread], of_thread[thread + half]);
    __syncthreads();
  }
  const float result = of_thread[0];
  __syncthreads();  // before the next tree grows here
  return result;
}

__global__ void __launch_bounds__(256) softmax_block_kernel(Sizes s, const float* x, float* y) {
  GRAFT_SHARED(float, of_thread, 256);
  const float* from = x + block_x() * s.channels;
  float* to = y + block_x() * s.channels;
  float largest = from[0], sum = 0;
  for (int c = thread_x(); c < s.channels; c += 256) largest = Larger{}(largest, from[c]);
  largest = tree(largest, of_thread, Larger{});
  for (int c = thread_x(); c < s.channels; c += 256) sum += std::exp(from[c] - largest);
  sum = tree(sum, of_thread, Plus{});
  for (int c = thread_x(); c < s.channels; c += 256) to[c] = std::exp(from[c] - largest) / sum;
}
}  // namespace

GRAFT_RUNG(softmax_block) {
  const Sizes s = sizes(in);
  launch(context, "softmax_block", {blocks(s.rows), dim3(256)}, softmax_block_kernel, s, in[0].as<float>(),
         out.as<float>());
}

// # A warp a row: shuffles instead of barriers
// Intensity: three reads and a write of whole lines, as before
// Expected: 70 % of memory: nothing waits for another warp; the second and third reading come from the first-level
// cache
//
// The lanes of a warp exchange registers: with distances 16, 8, 4, 2 and 1 each has combined with all after five
// instructions (`cuda/device/reduce.h`). No shared memory and no barrier, and the warps of a block go on independently.
namespace {
__global__ void softmax_warp_kernel(Sizes s, const float* x, float* y) {
  const int row = block_x() * 4 + thread_y(), lane = thread_x();
  if (row >= s.rows) return;  // a whole warp
  const float* from = x + row * s.channels;
  float* to = y + row * s.channels;
  float largest = from[0], sum = 0;
  for (int c = lane; c < s.channels; c += kWarp) largest = Larger{}(largest, from[c]);
  largest = warp_reduce(largest, Larger{});
  for (int c = lane; c < s.channels; c += kWarp) sum += std::exp(from[c] - largest);
  sum = warp_reduce(sum, Plus{});
  for (int c = lane; c < s.channels; c += kWarp) to[c] = std::exp(from[c] - largest) / sum;
}
}  // namespace

GRAFT_RUNG(softmax_warp) {
  const Sizes s = sizes(in);
  launch(context, "softmax_warp", {blocks(pieces(s.rows, 4)), dim3(32, 4)}, softmax_warp_kernel, s, in[0].as<float>(),
         out.as<float>());
}

// # The row in registers: read once
// Intensity: one read and one write: 5 operations for 8 bytes, also of the caches
// Expected: 85 % of memory: 32 loads of a thread are under way at once
//
// A row of at most 1024 numbers fits into the registers of a warp, 32 a lane. All loads are issued before the first is
// needed, exp is computed once an element instead of twice, and no cache is needed. Longer rows need another kernel.
namespace {
__global__ void __launch_bounds__(128) softmax_registers_kernel(Sizes s, const float* x, float* y) {
  constexpr int kMine = 32;
  const int row = block_x() * 4 + thread_y(), lane = thread_x();
  if (row >= s.rows) return;  // a whole warp
  const float* from = x + row * s.channels;
  float values[kMine], largest = from[0], sum = 0;
  GRAFT_UNROLL
  for (int i = 0; i < kMine; ++i) values[i] = lane + i * kWarp < s.channels ? from[lane + i * kWarp] : -INFINITY;
  GRAFT_UNROLL
  for (int i = 0; i < kMine; ++i) largest = Larger{}(largest, values[i]);
  largest = warp_reduce(largest, Larger{});
  GRAFT_UNROLL
  for (int i = 0; i < kMine; ++i) {
    values[i] = std::exp(values[i] - largest);  // 0 past the end
    sum += values[i];
  }
  sum = warp_reduce(sum, Plus{});
  GRAFT_UNROLL
  for (int i = 0; i < kMine; ++i) {
    if (lane + i * kWarp < s.channels) y[row * s.channels + lane + i * kWarp] = values[i] / sum;
  }
}
}  // namespace

GRAFT_RUNG(softmax_registers) {
  const Sizes s = sizes(in);
  launch(context, "softmax_registers", {blocks(pieces(s.rows, 4)), dim3(32, 4)}, softmax_registers_kernel, s,
         in[0].as<float>(), out.as<float>());
}

// # In use: in registers as far as they reach, then largest and sum in one pass
// Intensity: one read and one write: 5 operations for 8 bytes, also of the caches
// Expected: 85 % of memory, as the rung before
//
// The rung before for every type, with 8 registers a lane instead of 32 where a row has no more than 256 numbers. A row
// of more than 1024 is read twice, with no limit on its length, by the online softmax of Milakov and Gimelshein: a
// larger number shrinks the sum so far by exp(old - new), so that one pass finds both (`cuda/device/normalizer.h`). The
// same idea makes attention possible without its matrix of scores. `cuda/softmax.cu`.
GRAFT_RUNG(softmax_in_use) { kernels::softmax_forward(context, false, in[0], out); }

}  // namespace graft::ladder::GRAFT_TARGET
