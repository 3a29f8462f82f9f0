#pragma once

#include "device/channel_sums.h"

namespace graft::GRAFT_TARGET {

/// Of `count` numbers of each of N channels: their mean, and the sum of their squared distances from it.
template <int N, class Sum>
struct Moments {
  Sum mean[N] = {}, squares[N] = {}, count = 0;

  /// Adds Rows numbers of each. Their own moments take two passes over registers, for the mean of squares less the
  /// square of the mean cancels. They are merged by Chan, Golub and LeVeque: with d the distance of two means, squares
  /// add up to a.squares + b.squares + d^2 n_a n_b / (n_a + n_b).
  template <int Rows, class T>
  __device__ void add(const Vector<T, N> (&here)[Rows]) {
    const Sum now = Rows, all = count + now, share = now / all, weight = count * share;
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) {
      Sum middle = 0, spread = 0;
      GRAFT_UNROLL
      for (int r = 0; r < Rows; ++r) middle += widen(here[r][k]);
      middle /= now;
      GRAFT_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const Sum distance = widen(here[r][k]) - middle;
        spread += distance * distance;
      }
      const Sum distance = middle - mean[k];
      mean[k] += distance * share;
      squares[k] += spread + distance * distance * weight;
    }
    count = all;
  }
  template <class T>
  __device__ void add(const Vector<T, N>& here) {
    const Vector<T, N> one[1] = {here};
    add(one);
  }
};

/// Makes of the moments that the threads of a column hold those of all `rows` numbers, for each thread. Threads are
/// divided as by `sum_down`; the first row of threads has numbers. There are no divisions: distances from one thread's
/// mean, which all share, are small and add up to the mean of all; then each thread's squares move to that one.
template <int Threads, int N, class Sum>
__device__ void merge_down(int across, Sum rows, Moments<N, Sum>& moments) {
  using Row = Sum[kLanes];
  GRAFT_SHARED(Row, shared, N);
  const int column = static_cast<int>(threadIdx.x) % across;
  if (static_cast<int>(threadIdx.x) < across) {
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) shared[k][column] = moments.mean[k];
  }
  __syncthreads();
  Sum mean[N];
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) mean[k] = moments.count * (moments.mean[k] - shared[k][column]);
  sum_down<Threads>(across, mean);
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) {
    mean[k] = shared[k][column] + mean[k] / rows;
    const Sum distance = moments.mean[k] - mean[k];
    moments.squares[k] += moments.count * distance * distance;
    moments.mean[k] = mean[k];
  }
  sum_down<Threads>(across, moments.squares);
  moments.count = rows;
}

}  // namespace graft::GRAFT_TARGET
