#pragma once

#include "device/heads.h"
#include "device/numeric.h"
#include "device/unroll.h"

namespace graft::GRAFT_TARGET::attention {

// A block of 16 x 16 threads makes the scores of kRows<S> rows (queries in forward) with 64 columns (keys). A thread
// has kMine<S> neighbouring rows and every 16th column: a row is shared by 16 lanes of one warp. For each vector along
// the depth it reads 8 vectors of shared memory and makes 16 products of each of their numbers, which is what keeps
// the multipliers of an SM as busy as its shared memory. Doubles take half the rows, for want of registers.
constexpr int kSide = 16, kThreads = kSide * kSide;
constexpr int kColumns = 64, kOfColumns = kColumns / kSide;
template <class S>
constexpr int kMine = sizeof(S) == 8 ? 2 : 4;
template <class S>
constexpr int kRows = kSide* kMine<S>;
// Channels that a tile in shared memory has, a vector for each of 16 lanes: deeper heads are taken in several chunks.
template <class S>
constexpr int kChunk = kSide* kVector<S>;
// A row of a tile is a vector longer than its channels, so that vectors of eight neighbouring rows lie in eight
// different groups of banks.
template <class S>
constexpr int kPitch = kChunk<S> + kVector<S>;
template <class S>
constexpr int kScorePitch = kColumns + kVector<S>;
// Blocks that an SM must have registers for: two hide each other's barriers. Doubles need the registers of both.
template <class S>
constexpr int kBlocks = sizeof(S) == 8 ? 1 : 2;
// Output channels of a block. The blocks of a deeper head share its channels out, and each makes the scores for itself.
constexpr int kDepth = 128;

// kRows<S> or 64 rows and a chunk of channels into shared memory, N neighbours at a time; zeros beyond the head's end.
template <int Rows, int N, class T>
__device__ void load_tile(Accumulator<T>* tile, const Head<T>& head, int first_row, int first_channel) {
  using S = Accumulator<T>;
  constexpr int kAcross = kChunk<S> / N;
  GRAFT_ROLLED
  for (int i = static_cast<int>(threadIdx.x); i < Rows * kAcross; i += kThreads) {
    const int row = first_row + i / kAcross, channel = first_channel + i % kAcross * N;
    Vector<S, N> wide = {};
    if (row < head.length && channel < head.depth) {
      const Vector<T, N> values = load<N>(head.row(row) + channel);
      for (int n = 0; n < N; ++n) wide[n] = widen(values[n]);
    }
    store(tile + i / kAcross * kPitch<S> + i % kAcross * N, wide);
  }
}

// What a block has in shared memory: `left` holds rows of the first factor of a product, a tile of queries, say, and
// later the weights; `right` rows of the second.
template <class S>
struct Tiles {
  S *left, *right;
};
template <class S>
constexpr int kLeft = (kPitch<S> > kScorePitch<S> ? kPitch<S> : kScorePitch<S>)*kRows<S>;

template <class S>
using Scores = S[kMine<S>][kOfColumns];

// A thread's part of a product of `left`, rows of scores, with rows of channels: its rows, and of each chunk a vector
// of neighbouring channels.
template <class S>
using Products = Vector<S, kVector<S>>[kDepth / kChunk<S>][kMine<S>];

// scores = own other^T for this block's tile of them.
template <int N, class T>
__device__ void multiply_rows(const Tiles<Accumulator<T>>& tiles, const Head<T>& own, int row, const Head<T>& other,
                              int column, Scores<Accumulator<T>>& scores) {
  using S = Accumulator<T>;
  constexpr int n = kVector<S>;
  const int lane = static_cast<int>(threadIdx.x) % kSide, first = static_cast<int>(threadIdx.x) / kSide * kMine<S>;
  for (auto& of_row : scores)
    for (S& score : of_row) score = 0;
  for (int channel = 0; channel < own.depth; channel += kChunk<S>) {
    __syncthreads();  // the tiles may still be read
    load_tile<kRows<S>, N>(tiles.left, own, row, channel);
    load_tile<kColumns, N>(tiles.right, other, column, channel);
    __syncthreads();
    const int rest = own.depth - channel, end = rest < kChunk<S> ? rest : kChunk<S>;
    for (int c = 0; c < end; c += n) {
      Vector<S, n> a[kMine<S>];
      for (int i = 0; i < kMine<S>; ++i) a[i] = load<n>(tiles.left + (first + i) * kPitch<S> + c);
      for (int j = 0; j < kOfColumns; ++j) {
        const Vector<S, n> b = load<n>(tiles.right + (lane + j * kSide) * kPitch<S> + c);
        for (int i = 0; i < kMine<S>; ++i)
          for (int k = 0; k < n; ++k) scores[i][j] += a[i][k] * b[k];
      }
    }
  }
}

// products += weights x, with a tile of weights and the rows of x that belong to its columns.
template <int N, class T>
__device__ void add_weighted(const Tiles<Accumulator<T>>& tiles, const Scores<Accumulator<T>>& weights,
                             const Head<T>& x, int column, int first_channel, Products<Accumulator<T>>& products) {
  using S = Accumulator<T>;
  constexpr int n = kVector<S>;
  const int lane = static_cast<int>(threadIdx.x) % kSide, first = static_cast<int>(threadIdx.x) / kSide * kMine<S>;
  __syncthreads();  // `left` may still be read
  for (int i = 0; i < kMine<S>; ++i)
    for (int j = 0; j < kOfColumns; ++j) tiles.left[(first + i) * kScorePitch<S> + lane + j * kSide] = weights[i][j];
  GRAFT_UNROLL
  for (int chunk = 0; chunk < kDepth / kChunk<S>; ++chunk) {
    const int channel = first_channel + chunk * kChunk<S>;
    if (channel >= x.depth) break;
    __syncthreads();
    load_tile<kColumns, N>(tiles.right, x, column, channel);
    __syncthreads();
    for (int c = 0; c < kColumns; c += n) {
      Vector<S, n> a[kMine<S>];
      for (int i = 0; i < kMine<S>; ++i) a[i] = load<n>(tiles.left + (first + i) * kScorePitch<S> + c);
      for (int j = 0; j < n; ++j) {
        const Vector<S, n> b = load<n>(tiles.right + (c + j) * kPitch<S> + lane * n);
        for (int i = 0; i < kMine<S>; ++i)
          for (int k = 0; k < n; ++k) products[chunk][i][k] += a[i][j] * b[k];
      }
    }
  }
}

template <class T>
__device__ void put_products(const Products<Accumulator<T>>& products, const Head<T>& to, int row, int first_channel,
                             bool accumulate) {
  using S = Accumulator<T>;
  constexpr int n = kVector<S>;
  const int lane = static_cast<int>(threadIdx.x) % kSide;
  row += static_cast<int>(threadIdx.x) / kSide * kMine<S>;
  GRAFT_UNROLL
  for (int chunk = 0; chunk < kDepth / kChunk<S>; ++chunk) {
    const int channel = first_channel + chunk * kChunk<S> + lane * n;
    for (int i = 0; i < kMine<S>; ++i) {
      for (int k = 0; k < n; ++k) {
        if (row + i >= to.length || channel + k >= to.depth) continue;
        T& element = to.row(row + i)[channel + k];
        const S value = products[chunk][i][k];
        element = narrow<T>(accumulate ? widen(element) + value : value);
      }
    }
  }
}

}  // namespace graft::GRAFT_TARGET::attention
