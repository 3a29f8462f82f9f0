#include "kernels/attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "cpu/vector_ops.h"

// Queries and keys are taken in blocks, so that a block of scores and the rows it is made of stay in the cache and
// memory grows with the length alone: online softmax (Milakov and Gimelshein, 2018), arranged as in "FlashAttention"
// (Dao et al., 2022).
namespace graft::kernels::cpu {
namespace {

using graft::cpu::add_scaled;
using graft::cpu::dot;
using graft::cpu::put;

constexpr Index kQueries = 32;  // rows of a block of scores
constexpr Index kKeys = 64;     // columns

// One head of [N, L, heads d].
struct Head {
  Index n, head, depth;

  template <class T>
  T* row(const Operand& operand, Index position) const {
    return operand.as<T>() + (n * operand.shape[1] + position) * operand.pitch + head * depth;
  }
  // Rows `first` to `first + count` side by side, in the type of the sums.
  template <class T>
  void read(const Operand& operand, Index first, Index count, std::vector<Accumulator<T>>& to) const {
    to.resize(static_cast<std::size_t>(count * depth));
    for (Index r = 0; r < count; ++r) {
      const T* from = row<T>(operand, first + r);
      for (Index c = 0; c < depth; ++c)
        to[static_cast<std::size_t>(r * depth + c)] = static_cast<Accumulator<T>>(from[c]);
    }
  }
  template <class T>
  void write(const Gradient& to, Index first, const std::vector<Accumulator<T>>& rows) const {
    for (Index r = 0; r * depth < static_cast<Index>(rows.size()); ++r)
      put(row<T>(to.to, first + r), rows.data() + r * depth, depth, to.accumulate);
  }
};

// A block of queries and what is known of their softmax so far: the largest score, the sum of exp(score - largest), and
// the values weighted likewise.
template <class Sum>
struct OnlineSoftmax {
  std::vector<Sum> largest, sum, values;

  OnlineSoftmax(Index queries, Index depth)
      : largest(static_cast<std::size_t>(queries), -std::numeric_limits<Sum>::infinity()),
        sum(static_cast<std::size_t>(queries)),
        values(static_cast<std::size_t>(queries * depth)) {}

  // Takes in the scores of one query with a block of keys, whose values v has; the scores are overwritten.
  void add(Index query, Index depth, std::span<Sum> scores, const Sum* v) {
    const auto q = static_cast<std::size_t>(query);
    Sum* total = values.data() + query * depth;
    Sum most = largest[q];
    for (const Sum score : scores) most = std::max(most, score);
    const Sum shrink = std::exp(largest[q] - most);  // 0 the first time
    largest[q] = most;
    sum[q] *= shrink;
    for (Index c = 0; c < depth; ++c) total[c] *= shrink;
    for (std::size_t j = 0; j < scores.size(); ++j) {
      const Sum weight = std::exp(scores[j] - most);
      sum[q] += weight;
      add_scaled(total, weight, v + static_cast<Index>(j) * depth, depth);
    }
  }
};

}  // namespace

void attention_forward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                       const Operand& y, const Operand& log_sums) {
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  const Index blocks = (length + kQueries - 1) / kQueries;
  dispatch_floating("attention", q.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    parallel_for(q.shape[0] * heads * blocks, [&](Index task) {
      const Head head{task / blocks / heads, task / blocks % heads, depth};
      const Index first = task % blocks * kQueries, queries = std::min(kQueries, length - first);
      std::vector<Sum> qs, ks, vs, scores(kKeys);
      head.read<T>(q, first, queries, qs);
      OnlineSoftmax<Sum> softmax(queries, depth);
      for (Index key = 0; key < keys; key += kKeys) {
        const Index count = std::min(kKeys, keys - key);
        head.read<T>(k, key, count, ks);
        head.read<T>(v, key, count, vs);
        for (Index i = 0; i < queries; ++i) {
          for (Index j = 0; j < count; ++j)
            scores[static_cast<std::size_t>(j)] =
                static_cast<Sum>(scale) *
                dot(&qs[static_cast<std::size_t>(i * depth)], &ks[static_cast<std::size_t>(j * depth)], depth);
          softmax.add(i, depth, {scores.data(), static_cast<std::size_t>(count)}, vs.data());
        }
      }
      for (Index i = 0; i < queries; ++i) {
        const auto at = static_cast<std::size_t>(i);
        for (Index c = 0; c < depth; ++c)
          head.row<T>(y, first + i)[c] =
              convert<T>(softmax.values[static_cast<std::size_t>(i * depth + c)] / softmax.sum[at]);
        log_sums.as<Sum>()[(head.n * heads + head.head) * length + first + i] =
            softmax.largest[at] + std::log(softmax.sum[at]);
      }
    });
  });
}

// With s = scale q k^T, p = softmax(s) = exp(s - log_sum) and y = p v: dv = p^T dy, dp = dy v^T, ds = p (dp - sum over
// keys of dp p), and that sum is dy . y, because sum over j of p_j (dy . v_j) = dy . y. Then dq = scale ds k and dk =
// scale ds^T q. p is made again block by block.
void attention_backward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                        const Operand& y, const Operand& log_sums, const Operand& dy, Gradient dq, Gradient dk,
                        Gradient dv) {
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  const bool scores_wanted = dq || dk;
  dispatch_floating("attention", q.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    parallel_for(q.shape[0] * heads, [&](Index task) {  // a head has gradients of its own
      const Head head{task / heads, task % heads, depth};
      std::vector<Sum> qs, dys, ks, vs, ys, along(static_cast<std::size_t>(length));
      head.read<T>(q, 0, length, qs);
      head.read<T>(dy, 0, length, dys);
      if (scores_wanted) {
        head.read<T>(y, 0, length, ys);
        for (Index i = 0; i < length; ++i)
          along[static_cast<std::size_t>(i)] = dot(dys.data() + i * depth, ys.data() + i * depth, depth);
      }
      std::vector<Sum> dqs(static_cast<std::size_t>(dq ? length * depth : 0)), dks, dvs;
      for (Index key = 0; key < keys; key += kKeys) {
        const Index count = std::min(kKeys, keys - key);
        head.read<T>(k, key, count, ks);
        if (scores_wanted) head.read<T>(v, key, count, vs);
        dks.assign(static_cast<std::size_t>(count * depth), 0);
        dvs.assign(static_cast<std::size_t>(count * depth), 0);
        for (Index i = 0; i < length; ++i) {
          const Sum *query = qs.data() + i * depth, *slope = dys.data() + i * depth;
          const Sum log_sum = log_sums.as<Sum>()[task * length + i];
          for (Index j = 0; j < count; ++j) {
            const Sum p = std::exp(static_cast<Sum>(scale) * dot(query, ks.data() + j * depth, depth) - log_sum);
            if (dv) add_scaled(dvs.data() + j * depth, p, slope, depth);
            if (!scores_wanted) continue;
            const Sum ds = static_cast<Sum>(scale) * p *
                           (dot(slope, vs.data() + j * depth, depth) - along[static_cast<std::size_t>(i)]);
            if (dq) add_scaled(dqs.data() + i * depth, ds, ks.data() + j * depth, depth);
            if (dk) add_scaled(dks.data() + j * depth, ds, query, depth);
          }
        }
        if (dk) head.write<T>(dk, key, dks);
        if (dv) head.write<T>(dv, key, dvs);
      }
      if (dq) head.write<T>(dq, 0, dqs);
    });
  });
}

}  // namespace graft::kernels::cpu
