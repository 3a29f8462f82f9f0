#include "kernels/attention.h"

#include <array>

#include "core/parallel.h"
#include "cpu/vector_ops.h"
#include "cpu/vectorized/amx_attention.h"
#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/share.h"
#include "cpu/vectorized/weights.h"

// A head's keys and values become panels of weights, and blocks of its queries go over them: scores of a block and a
// head's panels stay in the second-level cache, and memory grows with the length alone. Halves are computed in f32.
namespace graft::kernels::vectorized {
namespace {

constexpr Index kQueries = 4 * kTileRows;  // of a block

// Rows side by side, `width` apart, zeros from `columns` on.
class Rows {
 public:
  Rows(Index rows, Index columns)
      : rows_(rows), columns_(columns), width_(round_up(columns, kTileColumns)), memory_(rows * width_) {}

  float* row(Index r) const { return memory_.data() + r * width_; }
  float* data() const { return memory_.data(); }
  Index width() const { return width_; }
  void clear() const { std::fill_n(data(), rows_ * width_, 0.f); }

  // Brings rows first .. first + count - 1 of a head of [N, L, heads d], times `factor`.
  void read(const Operand& from, Index n, Index head, Index first, Index count, float factor = 1) const {
    for (Index r = 0; r < count; ++r) {
      const Index at = (n * from.shape[1] + first + r) * from.pitch + head * columns_;
      if (from.dtype == DType::f32)
        scale_row(from.as<float>() + at, factor, columns_, row(r));
      else
        scale_row(from.as<bfloat16>() + at, factor, columns_, row(r));
      std::fill(row(r) + columns_, row(r) + width_, 0.f);
    }
  }
  void write(const Operand& to, Index n, Index head, Index first, Index count, bool accumulate) const {
    for (Index r = 0; r < count; ++r) {
      const Index at = (n * to.shape[1] + first + r) * to.pitch + head * columns_;
      if (to.dtype == DType::f32)
        graft::cpu::put(to.as<float>() + at, row(r), columns_, accumulate);
      else
        graft::cpu::put(to.as<bfloat16>() + at, row(r), columns_, accumulate);
    }
  }

 private:
  template <class T>
  static void scale_row(const T* from, float factor, Index count, float* to) {
    for (Index c = 0; c < count; ++c) to[c] = factor * static_cast<float>(from[c]);
  }

  Index rows_, columns_, width_;
  Scratch<float> memory_;
};

// Rows [depth, columns] as panels of columns, and their transpose [columns, depth] as panels of rows.
void panels_of(const Rows& rows, Index depth, Index columns, float* to) {
  for (Index c = 0; c < columns; c += kTileColumns, to += depth * kTileColumns)
    for (Index k = 0; k < depth; ++k) std::copy_n(rows.row(k) + c, kTileColumns, to + k * kTileColumns);
}
void transposed_panels_of(const Rows& rows, Index count, Index depth, float* to) {
  for (Index c = 0; c < count; c += kTileColumns, to += depth * kTileColumns) {
    const Index columns = std::min(kTileColumns, count - c);
    // A narrow panel would have another width: rows beyond the last are there, and what they give is not read.
    transpose_panel(rows.row(c), rows.width(), std::max<Index>(columns, kVectorColumns + 1), depth, to);
  }
}

// y[r, c] = sum over k of x[r, k] panels[k, c], for whole panels of columns.
void multiply(const Rows& x, Index count, Index depth, const float* panels, Index columns, const Rows& y) {
  std::array<const float*, static_cast<std::size_t>(kQueries)> rows{};
  std::array<Index, static_cast<std::size_t>(kQueries)> positions{};
  for (Index r = 0; r < count; ++r) {
    rows[static_cast<std::size_t>(r)] = x.row(r);
    positions[static_cast<std::size_t>(r)] = r;
  }
  for (Index c = 0; c < columns; c += kTileColumns, panels += depth * kTileColumns) {
    for (Index r = 0; r < count; r += kTileRows)
      product_tile(ProductTile<float>{.rows = rows.data() + r,
                                      .row_stride = count,
                                      .depth = depth,
                                      .weights = panels,
                                      .y = y.data() + c,
                                      .y_pitch = y.width(),
                                      .positions = positions.data() + r,
                                      .count = std::min(kTileRows, count - r),
                                      .columns = kTileColumns});
  }
}

// y[j, c] += sum over r of x[r, j] slopes[r, c].
void add_correlation(const Rows& x, Index count, Index columns, const Rows& slopes, Index depth, const Rows& y) {
  std::array<const float*, static_cast<std::size_t>(kQueries + kRowsAhead)> rows{};
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = x.row(std::min<Index>(static_cast<Index>(r), count - 1));
  for (Index c = 0; c < depth; c += kTileColumns) {
    for (Index j = 0; j < columns; j += kTileRows)
      gradient_tile({.rows = rows.data(),
                     .first = j,
                     .slopes = slopes.data() + c,
                     .slope_pitch = slopes.width(),
                     .positions = count,
                     .sums = y.row(j) + c,
                     .sum_pitch = y.width(),
                     .count = std::min(kTileRows, columns - j),
                     .columns = kTileColumns,
                     .accumulate = true});
  }
}

bool usable(const Operand& q, const Operand& k) {
  return has_avx2() && (q.dtype == DType::f32 || q.dtype == DType::bf16) && k.shape[1] > 0;
}

}  // namespace

bool attention_forward_supports(const Context&, Index, double, const Operand& q, const Operand& k, const Operand&,
                                const Operand&, const Operand&) {
  return usable(q, k);
}
void attention_forward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                       const Operand& y, const Operand& log_sums) {
  if (q.dtype == DType::bf16 && has_amx_bf16())
    return attention_forward_by_amx(heads, static_cast<float>(scale), q, k, v, y, log_sums);
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  parallel_for(q.shape[0] * heads, [&](Index task) {
    const Index n = task / heads, head = task % heads;
    const Rows rows(keys + kTileColumns, depth), queries(kQueries, depth), scores(kQueries, keys),
        values(kQueries, depth);
    const Scratch<float> key_panels(round_up(keys, kTileColumns) * depth),
        value_panels(keys * round_up(depth, kTileColumns));
    rows.read(k, n, head, 0, keys);
    transposed_panels_of(rows, keys, depth, key_panels.data());
    rows.read(v, n, head, 0, keys);
    panels_of(rows, keys, depth, value_panels.data());
    for (Index first = 0; first < length; first += kQueries) {
      const Index count = std::min(kQueries, length - first);
      queries.read(q, n, head, first, count, static_cast<float>(scale));
      multiply(queries, count, depth, key_panels.data(), keys, scores);
      float* const log_sum = log_sums.as<float>() + task * length + first;
      for (Index r = 0; r < count; ++r) log_sum[r] = graft::cpu::softmax_row(scores.row(r), keys);
      multiply(scores, count, keys, value_panels.data(), depth, values);
      values.write(y, n, head, first, count, false);
    }
  });
}

bool attention_backward_supports(const Context&, Index, double, const Operand& q, const Operand& k, const Operand&,
                                 const Operand&, const Operand&, const Operand&, Gradient, Gradient, Gradient) {
  return usable(q, k);
}
// As the native kernel derives it, for a block of queries at a time.
void attention_backward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                        const Operand& y, const Operand& log_sums, const Operand& dy, Gradient dq, Gradient dk,
                        Gradient dv) {
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  const bool scores_wanted = dq || dk;
  parallel_for(q.shape[0] * heads, [&](Index task) {
    const Index n = task / heads, head = task % heads;
    const Rows rows(keys + kTileColumns, depth), queries(kQueries, depth), slopes(kQueries, depth),
        results(kQueries, depth);
    const Rows weights(kQueries, keys), slopes_of_weights(kQueries, keys);
    const Rows dqs(kQueries, depth), dks(keys, depth), dvs(keys, depth);
    const Scratch<float> key_panels(round_up(keys, kTileColumns) * depth),
        value_panels(round_up(keys, kTileColumns) * depth), key_rows(keys * round_up(depth, kTileColumns));
    if (dk) dks.clear();
    if (dv) dvs.clear();
    rows.read(k, n, head, 0, keys);
    transposed_panels_of(rows, keys, depth, key_panels.data());
    if (dq) panels_of(rows, keys, depth, key_rows.data());
    if (scores_wanted) {
      rows.read(v, n, head, 0, keys);
      transposed_panels_of(rows, keys, depth, value_panels.data());
    }
    for (Index first = 0; first < length; first += kQueries) {
      const Index count = std::min(kQueries, length - first);
      const float* const log_sum = log_sums.as<float>() + task * length + first;
      queries.read(q, n, head, first, count, static_cast<float>(scale));
      slopes.read(dy, n, head, first, count);
      multiply(queries, count, depth, key_panels.data(), keys, weights);
      for (Index r = 0; r < count; ++r) graft::cpu::softmax_again(weights.row(r), log_sum[r], keys);
      if (dv) add_correlation(weights, count, keys, slopes, depth, dvs);
      if (!scores_wanted) continue;
      results.read(y, n, head, first, count);
      multiply(slopes, count, depth, value_panels.data(), keys, slopes_of_weights);
      for (Index r = 0; r < count; ++r)
        graft::cpu::softmax_slopes(weights.row(r), graft::cpu::dot(slopes.row(r), results.row(r), depth),
                                   slopes_of_weights.row(r), keys);
      if (dk) add_correlation(slopes_of_weights, count, keys, queries, depth, dks);
      if (!dq) continue;
      multiply(slopes_of_weights, count, keys, key_rows.data(), depth, dqs);
      for (Index r = 0; r < count; ++r)
        std::transform(dqs.row(r), dqs.row(r) + depth, dqs.row(r),
                       [&](float g) { return static_cast<float>(scale) * g; });
      dqs.write(dq.to, n, head, first, count, dq.accumulate);
    }
    if (dk) dks.write(dk.to, n, head, 0, keys, dk.accumulate);
    if (dv) dvs.write(dv.to, n, head, 0, keys, dv.accumulate);
  });
}

}  // namespace graft::kernels::vectorized
