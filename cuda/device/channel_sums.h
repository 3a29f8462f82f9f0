#pragma once

#include "graft/core/tensor.h"

#include "device/numeric.h"
#include "device/reduce.h"
#include "device/unroll.h"
#include "kernels/kernel.h"
#include "runtime/launch.h"

// Work on rows of channels in which every channel is by itself: sums over all rows, and maps with numbers of each
// channel. A block has `across` vectors of neighbouring channels side by side and several rows of threads below each
// other, so that a warp reads whole neighbouring rows where they are short and 32 vectors of one where they are long.
namespace graft::GRAFT_TARGET {

constexpr int kChannelThreads = 256;  // 8 warps: enough loads in flight, and a tree of at most 8 steps

/// How rows of channels are divided among blocks: the grid's first axis over ranges of rows, its second over channels.
/// It depends on the shape alone, so that every sum is made in one order.
struct ChannelTiles {
  Index rows, rows_a_block;
  int channels, across, parts;

  /// `vector` channels are one thread's; a thread gets `rows_a_thread` rows or more where there are so many.
  ChannelTiles(Index all_rows, Index all_channels, int vector, Index rows_a_thread, Index most_parts)
      : rows(all_rows), channels(static_cast<int>(all_channels)), across(1) {
    while (across < kLanes && across * vector < channels) across *= 2;
    const Index least = rows_a_thread * (kChannelThreads / across);
    const Index wanted = (rows + least - 1) / least;
    const Index most = wanted < 1 ? 1 : wanted < most_parts ? wanted : most_parts;
    rows_a_block = rows > most ? (rows + most - 1) / most : 1;
    parts = rows == 0 ? 1 : static_cast<int>((rows + rows_a_block - 1) / rows_a_block);
  }

  LaunchShape grid(int vector) const {
    const int each = across * vector;
    return {.grid = dim3(static_cast<unsigned>(parts), static_cast<unsigned>((channels + each - 1) / each)),
            .block = dim3(kChannelThreads)};
  }

  /// The rows of a part.
  __host__ __device__ Index begin(int part) const { return part * rows_a_block; }
  __host__ __device__ Index end(int part) const {
    return begin(part) + rows_a_block < rows ? begin(part) + rows_a_block : rows;
  }
};

/// Where a thread stands in its block's tile of `vector` channels a thread.
struct ChannelPlace {
  int column, row, down, channel;  ///< of `across` and of `down` threads; its first channel, maybe past the last
  Index first, last;               ///< rows of the block; the thread's are first + row, first + row + down, ...

  __device__ ChannelPlace(const ChannelTiles& tiles, int vector)
      : column(static_cast<int>(threadIdx.x) % tiles.across),
        row(static_cast<int>(threadIdx.x) / tiles.across),
        down(kChannelThreads / tiles.across),
        channel((static_cast<int>(blockIdx.y) * tiles.across + column) * vector),
        first(tiles.begin(static_cast<int>(blockIdx.x))),
        last(tiles.end(static_cast<int>(blockIdx.x))) {}
};

/// Adds the numbers that the threads of a column hold, always in the same order, and gives the sums to all of them. Of
/// the block's `Threads`, each of which must call it, `across` are side by side; both are powers of two.
template <int Threads, int N, class Sum>
__device__ void sum_down(int across, Sum (&values)[N]) {
  using Row = Sum[Threads];
  GRAFT_SHARED(Row, held, N);
  const int thread = static_cast<int>(threadIdx.x), row = thread / across;
  __syncthreads();  // `held` may still be read from a call before
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) held[k][thread] = values[k];
  __syncthreads();
  for (int half = Threads / across / 2; half > 0; half /= 2) {
    if (row < half) {
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) held[k][thread] += held[k][thread + half * across];
    }
    __syncthreads();
  }
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) values[k] = held[k][thread % across];
}

/// What a thread adds terms with: the Term, or what it has made ready for the thread's N channels.
template <int N, class Term>
__device__ auto term_of(const Term& term, int channel) {
  if constexpr (requires { term.template of_channels<N>(channel); })
    return term.template of_channels<N>(channel);
  else
    return term;
}

// partial[part, slot, c] = sum over the rows of the part of what term.add(row, c, sums) adds up in sums[k], where slot
// is term.slot(k) of term.slots, negative for a sum that nobody wants. Term::kRowsAtOnce rows are read at once, as many
// as registers allow.
template <int K, int N, class Sum, class Term>
__global__ void __launch_bounds__(kChannelThreads) channel_sums_kernel(ChannelTiles tiles, Term term, Sum* partial) {
  const ChannelPlace at(tiles, N);
  Sum sums[K][N] = {};
  if (at.channel < tiles.channels) {
    const auto here = term_of<N>(term, at.channel);
    constexpr int kAtOnce = Term::kRowsAtOnce;
    Index row = at.first + at.row;
    for (; row + (kAtOnce - 1) * at.down < at.last; row += kAtOnce * at.down) {
      GRAFT_UNROLL
      for (int r = 0; r < kAtOnce; ++r) here.template add<N>(row + r * at.down, at.channel, sums);
    }
    for (; row < at.last; row += at.down) here.template add<N>(row, at.channel, sums);
  }
  GRAFT_UNROLL
  for (int k = 0; k < K; ++k) {
    const int slot = term.slot(k);
    if (slot < 0) continue;
    sum_down<kChannelThreads>(tiles.across, sums[k]);
    if (at.row != 0 || at.channel >= tiles.channels) continue;
    const Index to = (static_cast<Index>(blockIdx.x) * term.slots() + slot) * tiles.channels + at.channel;
    GRAFT_UNROLL
    for (int n = 0; n < N; ++n) partial[to + n] = sums[k][n];
  }
}

// A last pass over the parts of sums: 8 outputs a block, which lie in the 32 bytes that memory gives at once, and 32
// threads each, so that no thread waits for memory more than a few times.
constexpr int kFinishAcross = 8, kFinishDown = kChannelThreads / kFinishAcross;

// Adds the parts of each output.
template <class Sum, class Put>
__global__ void finish_channel_sums_kernel(const Sum* partial, int parts, Index outputs, Put put) {
  GRAFT_SHARED(Sum, sums, kChannelThreads);
  const int thread = static_cast<int>(threadIdx.x), row = thread / kFinishAcross;
  const Index output = static_cast<Index>(blockIdx.x) * kFinishAcross + thread % kFinishAcross;
  Sum sum = 0;
  if (output < outputs) {
    for (int part = row; part < parts; part += kFinishDown) sum += partial[part * outputs + output];
  }
  sums[thread] = sum;
  __syncthreads();
  if (row != 0 || output >= outputs) return;
  for (int other = 1; other < kFinishDown; ++other) sum += sums[thread + other * kFinishAcross];
  put(output, sum);
}

inline LaunchShape grid_of_finish(Index outputs) {
  return {.grid = dim3(static_cast<unsigned>((outputs + kFinishAcross - 1) / kFinishAcross)),
          .block = dim3(kChannelThreads)};
}

constexpr Index kRowsOfASum = 16;  // a thread's at least: the tree in shared memory costs about as much as a few
constexpr Index kMostSumParts =
    512;  // fill a GPU even with one block of channels; a last pass over them takes microseconds

/// put(slot C + c, sum over all rows of what `term` adds up) for every slot and each of C channels. K is how many
/// numbers a call of term.add makes; `tiles_of_slots` grids of K cover all slots.
template <int K, int N, class Sum, class Term, class Put>
void channel_sums(Context& context, const char* name, Index rows, Index channels, int slots, int tiles_of_slots,
                  const Term& term, const Put& put) {
  if (channels == 0) return;
  const ChannelTiles tiles(rows, channels, N, kRowsOfASum, kMostSumParts);
  const Tensor partial = Tensor::empty(Shape{tiles.parts, slots, channels}, dtype_of<Sum>, context.device);
  LaunchShape grid = tiles.grid(N);
  grid.grid.z = static_cast<unsigned>(tiles_of_slots);
  auto* sums = static_cast<Sum*>(partial.raw());
  launch(context, name, grid, channel_sums_kernel<K, N, Sum, Term>, tiles, term, sums);
  launch(context, name, grid_of_finish(slots * channels), finish_channel_sums_kernel<Sum, Put>, sums, tiles.parts,
         slots * channels, put);
}

/// A Put that writes or adds to rows of `channels` numbers, `pitch` apart.
template <class T>
struct PutRows {
  T* to;
  Index channels, pitch;
  bool accumulate;

  explicit PutRows(Gradient y)
      : to(y.to.as<T>()), channels(y.to.shape.channels()), pitch(y.to.pitch), accumulate(y.accumulate) {}
  template <class Sum>
  __device__ void operator()(Index output, Sum sum) const {
    T& there = to[output / channels * pitch + output % channels];
    there = narrow<T>(accumulate ? widen(there) + sum : sum);
  }
};

}  // namespace graft::GRAFT_TARGET
