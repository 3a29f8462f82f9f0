#include <cmath>
#include <limits>

#include "attention_halves.h"
#include "device/attention_tiles.h"
#include "device/reduce.h"
#include "device/warp_rows.h"
#include "kernels/attention.h"
#include "runtime/launch.h"

// Tiles of the matrix of scores live in registers and shared memory only, and memory grows with the length alone:
// online softmax (Milakov and Gimelshein, 2018), arranged as in "FlashAttention" (Dao et al., 2022). Products and sums
// are in the accumulator of the operands' type. Halves that do not suit the tensor cores, for which there is
// attention_halves.cu, are widened when a tile is loaded.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;
using namespace graft::GRAFT_TARGET::attention;

template <class T>
LaunchShape blocks_of(const Operand& own, Index heads) {
  const Index depth = own.shape[2] / heads;
  return {.grid = dim3(blocks_of_heads(own, heads, kRows<Accumulator<T>>),
                       static_cast<unsigned>((depth + kDepth - 1) / kDepth)),
          .block = dim3(kThreads)};
}

// The first of a block's kDepth output channels.
__device__ int channel_of_block() { return static_cast<int>(blockIdx.y) * kDepth; }

// Combines a value of each of the 16 lanes that share a row.
template <class S, class Combine>
__device__ S row_reduce(S value, Combine combine) {
  for (int distance = kSide / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// Each block goes over the keys. Of a row's softmax it knows the largest score so far, the sum of exp(score - largest)
// and the values weighted likewise; a larger score shrinks both. Each lane has a part of the sum, added up at the end.
template <int N, class T>
__global__ void __launch_bounds__(kThreads, kBlocks<Accumulator<T>>)
    attention_kernel(Accumulator<T> scale, Heads<T> q, Heads<T> k, Heads<T> v, Heads<T> y, Accumulator<T>* log_sums) {
  using S = Accumulator<T>;
  GRAFT_SHARED(S, left, kLeft<S>);
  GRAFT_SHARED(S, right, kColumns * kPitch<S>);
  const Tiles<S> tiles{left, right};
  const Place place(q.length, kRows<S>);
  const Head<T> queries = q[place.head], keys = k[place.head], contents = v[place.head];
  const int lane = static_cast<int>(threadIdx.x) % kSide, first = static_cast<int>(threadIdx.x) / kSide * kMine<S>;

  Scores<S> scores;
  Products<S> values = {};
  S largest[kMine<S>], sum[kMine<S>];
  for (int i = 0; i < kMine<S>; ++i) {
    largest[i] = -std::numeric_limits<S>::infinity();
    sum[i] = 0;
  }
  for (int column = 0; column < keys.length; column += kColumns) {
    multiply_rows<N>(tiles, queries, place.row, keys, column, scores);
    for (int i = 0; i < kMine<S>; ++i) {
      S most = largest[i];
      for (int j = 0; j < kOfColumns; ++j) {
        const bool inside = column + lane + j * kSide < keys.length;
        scores[i][j] = inside ? scale * scores[i][j] : -std::numeric_limits<S>::infinity();
        most = Larger{}(most, scores[i][j]);
      }
      most = row_reduce(most, Larger{});
      const S shrink = std::exp(largest[i] - most);  // 0 the first time
      largest[i] = most;
      sum[i] *= shrink;
      for (int j = 0; j < kOfColumns; ++j) {
        scores[i][j] = std::exp(scores[i][j] - most);
        sum[i] += scores[i][j];
      }
      GRAFT_UNROLL
      for (int chunk = 0; chunk < kDepth / kChunk<S>; ++chunk)
        for (int n = 0; n < kVector<S>; ++n) values[chunk][i][n] *= shrink;
    }
    add_weighted<N>(tiles, scores, contents, column, channel_of_block(), values);
  }
  for (int i = 0; i < kMine<S>; ++i) {
    const S total = row_reduce(sum[i], Plus{});
    GRAFT_UNROLL
    for (int chunk = 0; chunk < kDepth / kChunk<S>; ++chunk)
      for (int n = 0; n < kVector<S>; ++n) values[chunk][i][n] /= total;
    const int query = place.row + first + i;
    if (lane == 0 && channel_of_block() == 0 && query < q.length)
      log_sums[place.head * q.length + query] = largest[i] + std::log(total);
  }
  put_products(values, y[place.head], place.row, channel_of_block(), false);
}

// along = dy . y of each query and head: a warp each.
template <class T>
__global__ void attention_along_kernel(Index count, Heads<T> y, Heads<T> dy, Accumulator<T>* along) {
  const int lane = lane_of_thread();
  const Index at = row_of_warp();
  if (at >= count) return;  // a whole warp
  const int query = static_cast<int>(at % y.length);
  const T *value = y[at / y.length].row(query), *slope = dy[at / y.length].row(query);
  Accumulator<T> sum = 0;
  for (int c = lane; c < y.depth; c += kLanes) sum += widen(value[c]) * widen(slope[c]);
  sum = warp_reduce(sum, Plus{});
  if (lane == 0) along[at] = sum;
}

enum class Wanted { dq, dk, dv };

// With s = scale q k^T, p = softmax(s) = exp(s - log_sum) and y = p v: dv = p^T dy, dp = dy v^T, ds = scale p (dp -
// along), where along = sum over keys of dp p = dy . y, because sum over j of p_j (dy . v_j) = dy . y. Then dq = ds k
// and dk = ds^T q. All three are a product of a matrix made of tiles of scores with rows: one kernel, in which a block
// owns rows of the gradient and goes over the others', so that nobody else adds to them. `own` and `own_slopes` are q
// and dy for dq, k and v for dk and dv; the other two are `other` and `other_slopes`. Making dk and dv apart costs one
// more product of eight, and saves the registers of the second gradient.
template <Wanted wanted, int N, class T>
__global__ void __launch_bounds__(kThreads, kBlocks<Accumulator<T>>)
    attention_backward_kernel(Accumulator<T> scale, Heads<T> own, Heads<T> own_slopes, Heads<T> other,
                              Heads<T> other_slopes, const Accumulator<T>* log_sums, const Accumulator<T>* along,
                              Heads<T> to, bool accumulate) {
  using S = Accumulator<T>;
  constexpr bool by_query = wanted == Wanted::dq;
  GRAFT_SHARED(S, left, kLeft<S>);
  GRAFT_SHARED(S, right, kColumns * kPitch<S>);
  const Tiles<S> tiles{left, right};
  const Place place(own.length, kRows<S>);
  const Head<T> rows = own[place.head], columns = other[place.head];
  const Head<T> row_slopes = own_slopes[place.head], column_slopes = other_slopes[place.head];
  const int lane = static_cast<int>(threadIdx.x) % kSide, first = static_cast<int>(threadIdx.x) / kSide * kMine<S>;
  const Index first_query = place.head * (by_query ? own.length : other.length);
  log_sums += first_query;
  if constexpr (wanted != Wanted::dv) along += first_query;

  Products<S> gradient = {};
  for (int column = 0; column < columns.length; column += kColumns) {
    Scores<S> weights, slopes;
    multiply_rows<N>(tiles, rows, place.row, columns, column, weights);
    if constexpr (wanted != Wanted::dv) multiply_rows<N>(tiles, row_slopes, place.row, column_slopes, column, slopes);
    for (int i = 0; i < kMine<S>; ++i) {
      for (int j = 0; j < kOfColumns; ++j) {
        const int r = place.row + first + i, c = column + lane + j * kSide;
        const bool inside = r < rows.length && c < columns.length;
        const int query = by_query ? r : c;
        S weight = inside ? std::exp(scale * weights[i][j] - log_sums[query]) : S(0);
        if constexpr (wanted != Wanted::dv) weight = inside ? scale * weight * (slopes[i][j] - along[query]) : S(0);
        weights[i][j] = weight;
      }
    }
    add_weighted<N>(tiles, weights, wanted == Wanted::dv ? column_slopes : columns, column, channel_of_block(),
                    gradient);
  }
  put_products(gradient, to[place.head], place.row, channel_of_block(), accumulate);
}

}  // namespace

void attention_forward(Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                       const Operand& v, const Operand& y, const Operand& log_sums) {
  dispatch_floating("attention", q.dtype, [&]<class T>(Type<T>) {
    using S = Accumulator<T>;
    if constexpr (sizeof(T) == 2) {
      if (attention_halves<T>(context, heads, scale, q, k, v, y, log_sums)) return;
    }
    constexpr int n = kVector<S>;
    const bool vectors = in_vectors<T>(n, q.shape[2] / heads, {q, k, v});
    launch(context, "attention", blocks_of<T>(q, heads), vectors ? attention_kernel<n, T> : attention_kernel<1, T>,
           scale, Heads<T>(q, heads), Heads<T>(k, heads), Heads<T>(v, heads), Heads<T>(y, heads), log_sums.as<S>());
  });
}

void attention_backward(Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                        const Operand& v, const Operand& y, const Operand& log_sums, const Operand& dy, Gradient dq,
                        Gradient dk, Gradient dv) {
  dispatch_floating("attention", q.dtype, [&]<class T>(Type<T>) {
    using S = Accumulator<T>;
    constexpr int n = kVector<S>;
    const bool vectors = in_vectors<T>(n, q.shape[2] / heads, {q, k, v, dy});
    const auto of = [&](const Operand& operand) { return Heads<T>(operand, heads); };
    const bool slopes = dq || dk;
    const Tensor along = slopes ? Tensor::empty(log_sums.shape, log_sums.dtype, context.device) : Tensor();
    const auto* along_data = slopes ? static_cast<S*>(along.raw()) : nullptr;
    if (slopes) {
      const Index count = log_sums.elements();
      launch(context, "attention_along", a_warp_each(count), attention_along_kernel<T>, count, of(y), of(dy),
             static_cast<S*>(along.raw()));
    }
    if constexpr (sizeof(T) == 2) {
      if (attention_halves_backward<T>(context, heads, scale, q, k, v, log_sums, along, dy, dq, dk, dv)) return;
    }
    const auto pass = [&](const char* name, auto* kernel, const Operand& own, const Operand& own_slopes,
                          const Operand& other, const Operand& other_slopes, Gradient to) {
      if (to)
        launch(context, name, blocks_of<T>(own, heads), kernel, scale, of(own), of(own_slopes), of(other),
               of(other_slopes), log_sums.as<S>(), along_data, of(to.to), to.accumulate);
    };
    pass("attention_dq",
         vectors ? attention_backward_kernel<Wanted::dq, n, T> : attention_backward_kernel<Wanted::dq, 1, T>, q, dy, k,
         v, dq);
    pass("attention_dk",
         vectors ? attention_backward_kernel<Wanted::dk, n, T> : attention_backward_kernel<Wanted::dk, 1, T>, k, v, q,
         dy, dk);
    pass("attention_dv",
         vectors ? attention_backward_kernel<Wanted::dv, n, T> : attention_backward_kernel<Wanted::dv, 1, T>, k,
         Operand(), q, dy, dv);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
