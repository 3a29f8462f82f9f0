#include <cmath>
#include <limits>

#include "attention_halves.h"
#include "device/attention_halves.h"
#include "runtime/launch.h"

// The algorithm of cuda/attention.cu with the products on tensor cores, arranged as in "FlashAttention-2" (Dao, 2023):
// a warp has rows of scores to itself, which are the left factor of the second product without leaving its registers.
// The next tiles are under way while a pair is computed with. Weights are rounded to halves, as their sums are not.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;
using namespace graft::GRAFT_TARGET::attention;
using namespace graft::GRAFT_TARGET::attention::halves;

constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;
constexpr int kStages = 2;

// How a block cuts a head's matrix of scores, by what a thread has registers for, and what it has in shared memory.
template <class T, int Depth>
struct Forward {
  static constexpr int kDown = Depth <= 64 ? 2 : 1, kColumns = 64;
  using Own = Tile<T, kWarps * 16 * kDown, Depth>;
  using Other = Tile<T, kColumns, Depth>;
  static constexpr std::size_t kBytes = sizeof(T) * (Own::kElements + 2 * kStages * Other::kElements);
};
template <class T, int Depth>
struct Backward {
  static constexpr int kColumns = Depth <= 64 ? 64 : 32;
  using Own = Tile<T, kWarps * 16, Depth>;
  using Other = Tile<T, kColumns, Depth>;
  static constexpr int kOfQueries = 2 * kStages * kColumns;  // log sums, and along, of a tile's columns
  static constexpr std::size_t kBytes =
      sizeof(T) * (2 * Own::kElements + 2 * kStages * Other::kElements) + sizeof(float) * kOfQueries;
};

// The first row of a block's `Rows` that is this warp's: each has as many.
template <int Rows>
__device__ int first_row_of_warp() {
  return static_cast<int>(threadIdx.x) / kLanes * (Rows / kWarps);
}

template <class Cut>
LaunchShape blocks_of(const Operand& own, Index heads) {
  return {.grid = dim3(blocks_of_heads(own, heads, Cut::Own::kRows)), .block = dim3(kThreads), .shared = Cut::kBytes};
}

template <class T, int Depth>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(float scale, Heads<T> q, Heads<T> k, Heads<T> v, Heads<T> y, float* log_sums) {
  using Cut = Forward<T, Depth>;
  using Own = typename Cut::Own;
  using Other = typename Cut::Other;
  constexpr int kDown = Cut::kDown, kColumns = Cut::kColumns;
  T *const own = dynamic_shared<T>(), *const others = own + Own::kElements;
  const Place place(q.length, Own::kRows);
  const int of_warp = first_row_of_warp<Own::kRows>();
  const Head<T> keys = k[place.head], values = v[place.head];
  const auto copy = [&](int column, int stage) {
    if (column < keys.length) {
      Other::copy(others + 2 * stage * Other::kElements, keys, column);
      Other::copy(others + (2 * stage + 1) * Other::kElements, values, column);
    }
    commit_copies();
  };
  Own::copy(own, q[place.head], place.row);
  copy(0, 0);

  const int lane = static_cast<int>(threadIdx.x) % kLanes, t = lane % 4 * 2;
  Sums<kDown, Depth> products = {};
  float largest[kDown][2], sum[kDown][2];
  GRAFT_UNROLL
  for (int i = 0; i < kDown; ++i) {
    for (int half = 0; half < 2; ++half) {
      largest[i][half] = -std::numeric_limits<float>::infinity();
      sum[i][half] = 0;
    }
  }
  for (int column = 0, stage = 0; column < keys.length; column += kColumns, stage ^= 1) {
    copy(column + kColumns, stage ^ 1);
    wait_for_copies<1>();
    __syncthreads();
    const T* const tile = others + 2 * stage * Other::kElements;
    Sums<kDown, kColumns> scores;
    multiply_rows<Own, Other, T, kDown>(own, of_warp, tile, scores);
    GRAFT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      GRAFT_UNROLL
      for (int half = 0; half < 2; ++half) {
        float most = largest[i][half];
        GRAFT_UNROLL
        for (int j = 0; j < kColumns / 8; ++j) {
          GRAFT_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[i][j][half * 2 + e];
            score = column + j * 8 + t + e < keys.length ? scale * score : -std::numeric_limits<float>::infinity();
            most = fmaxf(most, score);  // passes a NaN over, of which the weights become NaN
          }
        }
        most = row_reduce(most, [](float a, float b) { return fmaxf(a, b); });
        const float shrink = power_of_two(largest[i][half] - most);  // 0 the first time
        largest[i][half] = most;
        sum[i][half] *= shrink;
        GRAFT_UNROLL
        for (int j = 0; j < kColumns / 8; ++j) {
          GRAFT_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[i][j][half * 2 + e];
            score = power_of_two(score - most);
            sum[i][half] += score;
          }
        }
        GRAFT_UNROLL
        for (int c = 0; c < Depth / 8; ++c) {
          products[i][c][half * 2] *= shrink;
          products[i][c][half * 2 + 1] *= shrink;
        }
      }
    }
    add_weighted<Other, T, kDown>(scores, tile + Other::kElements, products);
    __syncthreads();  // the tile is copied over next
  }
  GRAFT_UNROLL
  for (int i = 0; i < kDown; ++i) {
    GRAFT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float total = row_reduce(sum[i][half], Plus{});
      GRAFT_UNROLL
      for (int c = 0; c < Depth / 8; ++c) {
        products[i][c][half * 2] /= total;
        products[i][c][half * 2 + 1] /= total;
      }
      const int query = place.row + of_warp + i * 16 + half * 8 + lane / 4;
      if (t == 0 && query < q.length)
        log_sums[place.head * q.length + query] = kLn2 * largest[i][half] + std::log(total);
    }
  }
  put_products<T, kDown, Depth>(products, y[place.head], place.row + of_warp, false);
}

// The gradients as cuda/attention.cu makes them. By query, a block owns rows of dq and goes over keys and values; else
// it owns rows of both dk and dv, whose weights are made of the same scores, and goes over queries and dy. So nobody
// else adds to them, and the sums have one order.
template <class T, int Depth, bool ByQuery>
__global__ void __launch_bounds__(kThreads)
    attention_backward_kernel(float scale, float scale_log2, Heads<T> own, Heads<T> own_slopes, Heads<T> other,
                              Heads<T> other_slopes, const float* log_sums, const float* along, Heads<T> to,
                              bool accumulate, Heads<T> to_v, bool accumulate_v) {
  using Cut = Backward<T, Depth>;
  using Own = typename Cut::Own;
  using Other = typename Cut::Other;
  constexpr int kColumns = Cut::kColumns;
  T *const mine = dynamic_shared<T>(), *const others = mine + 2 * Own::kElements;
  float* const of_queries = reinterpret_cast<float*>(others + 2 * kStages * Other::kElements);
  const Place place(own.length, Own::kRows);
  const int of_warp = first_row_of_warp<Own::kRows>();
  const Head<T> columns = other[place.head], column_slopes = other_slopes[place.head];
  const Index first_query = place.head * (ByQuery ? own.length : other.length);
  log_sums += first_query;
  along += first_query;
  const auto copy = [&](int column, int stage) {
    if (column < columns.length) {
      Other::copy(others + 2 * stage * Other::kElements, columns, column);
      Other::copy(others + (2 * stage + 1) * Other::kElements, column_slopes, column);
      if constexpr (!ByQuery) {
        for (int i = static_cast<int>(threadIdx.x); i < 2 * kColumns; i += kThreads) {
          const float* const from = i < kColumns ? log_sums : along;
          const int query = column + i % kColumns;
          const bool inside = query < columns.length;
          copy_async<4>(of_queries + 2 * stage * kColumns + i, inside ? from + query : from, inside);
        }
      }
    }
    commit_copies();
  };
  Own::copy(mine, own[place.head], place.row);
  Own::copy(mine + Own::kElements, own_slopes[place.head], place.row);
  copy(0, 0);

  const int lane = static_cast<int>(threadIdx.x) % kLanes, t = lane % 4 * 2;
  float of_row[2][2] = {};  // of my two queries
  if constexpr (ByQuery) {
    for (int half = 0; half < 2; ++half) {
      const int query = place.row + of_warp + half * 8 + lane / 4;
      if (query >= own.length) continue;
      of_row[half][0] = log_sums[query];
      of_row[half][1] = along[query];
    }
  }
  Sums<1, Depth> gradient = {};
  [[maybe_unused]] Sums<1, Depth> gradient_v = {};
  for (int column = 0, stage = 0; column < columns.length; column += kColumns, stage ^= 1) {
    copy(column + kColumns, stage ^ 1);
    wait_for_copies<1>();
    __syncthreads();
    const T *const tile = others + 2 * stage * Other::kElements, *const slopes_tile = tile + Other::kElements;
    const float* const sums = of_queries + 2 * stage * kColumns;
    Sums<1, kColumns> weights, slopes;
    multiply_rows<Own, Other, T, 1>(mine, of_warp, tile, weights);
    GRAFT_UNROLL
    for (int j = 0; j < kColumns / 8; ++j) {
      GRAFT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int c = j * 8 + t + e % 2;
        const float log_sum = ByQuery ? of_row[e / 2][0] : sums[c];
        weights[0][j][e] =
            column + c < columns.length ? power_of_two(scale_log2 * weights[0][j][e] - kLog2E * log_sum) : 0.f;
      }
    }
    if constexpr (!ByQuery) add_weighted<Other, T, 1>(weights, slopes_tile, gradient_v);
    multiply_rows<Own, Other, T, 1>(mine + Own::kElements, of_warp, slopes_tile, slopes);
    GRAFT_UNROLL
    for (int j = 0; j < kColumns / 8; ++j) {
      GRAFT_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float of_query = ByQuery ? of_row[e / 2][1] : sums[kColumns + j * 8 + t + e % 2];
        weights[0][j][e] *= scale * (slopes[0][j][e] - of_query);
      }
    }
    add_weighted<Other, T, 1>(weights, tile, gradient);
    __syncthreads();  // the tiles are copied over next
  }
  const int row = place.row + of_warp;
  if (to.data != nullptr) put_products<T, 1, Depth>(gradient, to[place.head], row, accumulate);
  if constexpr (!ByQuery) {
    if (to_v.data != nullptr) put_products<T, 1, Depth>(gradient_v, to_v[place.head], row, accumulate_v);
  }
}

template <class T>
bool suits(Index depth, std::initializer_list<Operand> read, std::initializer_list<Operand> written) {
  return depth <= 128 && in_vectors<T>(kVector<T>, depth, read) && in_vectors<T>(2, depth, written);
}

// Calls body(std::integral_constant) with the depth that tiles have.
template <class Body>
void with_depth(Index depth, const Body& body) {
  if (depth <= 64)
    body(std::integral_constant<int, 64>{});
  else
    body(std::integral_constant<int, 128>{});
}

}  // namespace

template <class T>
bool attention_halves(const Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                      const Operand& v, const Operand& y, const Operand& log_sums) {
  const Index depth = q.shape[2] / heads;
  if (!suits<T>(depth, {q, k, v}, {y})) return false;
  with_depth(depth, [&]<int Depth>(std::integral_constant<int, Depth>) {
    using Cut = Forward<T, Depth>;
    launch(context, "attention_halves", blocks_of<Cut>(q, heads), attention_kernel<T, Depth>, scale * double{kLog2E},
           Heads<T>(q, heads), Heads<T>(k, heads), Heads<T>(v, heads), Heads<T>(y, heads), log_sums.as<float>());
  });
  return true;
}

template <class T>
bool attention_halves_backward(const Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                               const Operand& v, const Operand& log_sums, const Operand& along, const Operand& dy,
                               Gradient dq, Gradient dk, Gradient dv) {
  const Index depth = q.shape[2] / heads;
  if ((!dq && !dk) || !suits<T>(depth, {q, k, v, dy}, {dq.to, dk.to, dv.to})) return false;
  const auto of = [&](const Operand& operand) { return Heads<T>(operand, heads); };
  with_depth(depth, [&]<int Depth>(std::integral_constant<int, Depth>) {
    using Cut = Backward<T, Depth>;
    if (dq)
      launch(context, "attention_halves_dq", blocks_of<Cut>(q, heads), attention_backward_kernel<T, Depth, true>, scale,
             scale * double{kLog2E}, of(q), of(dy), of(k), of(v), log_sums.as<float>(), along.as<float>(), of(dq.to),
             dq.accumulate, Heads<T>({}, heads), false);
    if (dk || dv)
      launch(context, "attention_halves_dk_dv", blocks_of<Cut>(k, heads), attention_backward_kernel<T, Depth, false>,
             scale, scale * double{kLog2E}, of(k), of(v), of(q), of(dy), log_sums.as<float>(), along.as<float>(),
             of(dk.to), dk.accumulate, of(dv.to), dv.accumulate);
  });
  return true;
}

template bool attention_halves<bfloat16>(const Context&, Index, double, const Operand&, const Operand&, const Operand&,
                                         const Operand&, const Operand&);
template bool attention_halves<float16>(const Context&, Index, double, const Operand&, const Operand&, const Operand&,
                                        const Operand&, const Operand&);
template bool attention_halves_backward<bfloat16>(const Context&, Index, double, const Operand&, const Operand&,
                                                  const Operand&, const Operand&, const Operand&, const Operand&,
                                                  Gradient, Gradient, Gradient);
template bool attention_halves_backward<float16>(const Context&, Index, double, const Operand&, const Operand&,
                                                 const Operand&, const Operand&, const Operand&, const Operand&,
                                                 Gradient, Gradient, Gradient);

}  // namespace graft::kernels::GRAFT_TARGET
