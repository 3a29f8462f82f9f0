#include "kernels/attention.h"

#include <array>

#include "core/parallel.h"
#include "cpu/vector_ops.h"
#include "cpu/vectorized/amx_attention.h"
#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/share.h"
#include "cpu/vectorized/weights.h"

// A head's keys and values become panels of weights, and blocks of its queries go over them: scores of a block and a
// head's panels stay in the second-level cache, and memory grows with the length alone. Products are of the operands'
// type, but f32 for the gradients of keys and values; sums, scores and their softmax are f32.
namespace graft::kernels::vectorized {
namespace {

constexpr Index kQueries = 4 * kTileRows;  // of a block

// Asks for `count` numbers: rows of a head lie too far apart for the processor to foresee.
template <class T>
void prefetch(const T* from, Index count) {
  constexpr Index kLine = 64 / sizeof(T);
  for (Index i = 0; i < count; i += kLine) __builtin_prefetch(from + i);
}

// Rows side by side, `width` apart, zeros from `columns` on.
class Rows {
 public:
  Rows(Index rows, Index columns)
      : rows_(rows), columns_(columns), width_(round_up(columns, kTileColumns)), memory_(rows * width_) {}

  float* row(Index r) const { return memory_.data() + r * width_; }
  float* data() const { return memory_.data(); }
  Index width() const { return width_; }
  void clear() const { std::fill_n(data(), rows_ * width_, 0.f); }

  // Brings rows first .. first + count - 1 of a head of [N, L, heads d].
  void read(const Operand& from, Index n, Index head, Index first, Index count) const {
    const Index at = (n * from.shape[1] + first) * from.pitch + head * columns_;
    from.dtype == DType::f32 ? read(from.as<float>() + at, from.pitch, count)
                             : read(from.as<bfloat16>() + at, from.pitch, count);
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
  void read(const T* from, Index pitch, Index count) const {
    constexpr Index kAhead = 16;
    for (Index r = 0; r < count; ++r, from += pitch) {
      prefetch(from + std::min(kAhead, count - 1 - r) * pitch, columns_);
      std::transform(from, from + columns_, row(r), [](T v) { return static_cast<float>(v); });
      std::fill(row(r) + columns_, row(r) + width_, 0.f);
    }
  }

  Index rows_, columns_, width_;
  Scratch<float> memory_;
};

// One panel of weights: `fill` writes it as f32.
template <class T, class Fill>
void write_panel(Index depth, Index width, T* to, const Fill& fill) {
  if constexpr (std::is_same_v<T, float>) {
    fill(to);
  } else {
    const Scratch<float> panel(depth * width);
    fill(panel.data());
    pair_panel(panel.data(), depth, width, to);
  }
}

// Rows [depth, columns] as panels of columns, and their transpose [columns, depth] as panels of rows.
template <class T>
void panels_of(const Rows& rows, Index depth, Index columns, T* to) {
  for (Index c = 0; c < columns; c += kTileColumns, to += stored_depth<T>(depth) * kTileColumns) {
    const Index width = panel_width(columns - c);
    write_panel(depth, width, to, [&](float* panel) {
      for (Index k = 0; k < depth; ++k) std::copy_n(rows.row(k) + c, width, panel + k * width);
    });
  }
}
template <class T>
void transposed_panels_of(const Rows& rows, Index count, Index depth, T* to) {
  for (Index c = 0; c < count; c += kTileColumns, to += stored_depth<T>(depth) * kTileColumns) {
    const Index columns = std::min(kTileColumns, count - c);
    // A narrow panel would have another width: rows beyond the last are there, and what they give is not read.
    write_panel(depth, kTileColumns, to, [&](float* panel) {
      transpose_panel(rows.row(c), rows.width(), std::max<Index>(columns, kVectorColumns + 1), depth, panel);
    });
  }
}

// y[r, c] = sum over k of x[r, k] panels[k, c], rows of x and y `x_pitch` and `y_pitch` apart.
template <class T, class Y>
void multiply(const T* x, Index x_pitch, Index count, Index depth, const T* panels, Index columns, Y* y,
              Index y_pitch) {
  std::array<const T*, static_cast<std::size_t>(kQueries)> rows{};
  std::array<Index, static_cast<std::size_t>(kQueries)> positions{};
  for (Index r = 0; r < count; ++r) {
    rows[static_cast<std::size_t>(r)] = x + r * x_pitch;
    positions[static_cast<std::size_t>(r)] = r;
  }
  for (Index c = 0; c < columns; c += kTileColumns, panels += stored_depth<T>(depth) * kTileColumns) {
    for (Index r = 0; r < count; r += kTileRows)
      product_tile(ProductTile<T, Y>{.rows = rows.data() + r,
                                     .row_stride = count,
                                     .depth = depth,
                                     .weights = panels,
                                     .y = y + c,
                                     .y_pitch = y_pitch,
                                     .positions = positions.data() + r,
                                     .count = std::min(kTileRows, count - r),
                                     .columns = std::min(kTileColumns, columns - c)});
  }
}

// The first `columns` of the rows in the type that products take them in: as they are, or rounded beside them.
template <class T>
class Factors {
 public:
  explicit Factors(const Rows& rows) : rows_(rows), halves_(std::is_same_v<T, float> ? 0 : kQueries * rows.width()) {}

  const T* of(Index count, Index columns) const {
    if constexpr (std::is_same_v<T, float>) {
      return rows_.data();
    } else {
      for (Index r = 0; r < count; ++r)
        graft::cpu::put(reinterpret_cast<bfloat16*>(halves_.data() + r * rows_.width()), rows_.row(r), columns, false);
      return halves_.data();
    }
  }

 private:
  const Rows& rows_;
  Scratch<T> halves_;
};

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

template <class T>
void forward(Index heads, float scale, const Operand& q, const Operand& k, const Operand& v, const Operand& y,
             const Operand& log_sums) {
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  parallel_for(q.shape[0] * heads, [&](Index task) {
    const Index n = task / heads, head = task % heads;
    const Rows rows(keys + kTileColumns, depth), scores(kQueries, keys);
    const Factors<T> weights(scores);
    const Scratch<T> key_panels(stored_depth<T>(depth) * scores.width()),
        value_panels(stored_depth<T>(keys) * rows.width());
    rows.read(k, n, head, 0, keys);
    transposed_panels_of(rows, keys, depth, key_panels.data());
    rows.read(v, n, head, 0, keys);
    panels_of(rows, keys, depth, value_panels.data());
    for (Index first = 0; first < length; first += kQueries) {
      const Index count = std::min(kQueries, length - first);
      const T* const queries = head_of<T>(q, n, head, depth) + first * q.pitch;
      multiply<T>(queries, q.pitch, count, depth, key_panels.data(), scores.width(), scores.data(), scores.width());
      for (Index r = count; r < std::min(count + kQueries, length - first); ++r) prefetch(queries + r * q.pitch, depth);
      float* const log_sum = log_sums.as<float>() + task * length + first;
      for (Index r = 0; r < count; ++r) log_sum[r] = graft::cpu::softmax_row(scores.row(r), scale, keys);
      multiply<T>(weights.of(count, keys), scores.width(), count, keys, value_panels.data(), depth,
                  head_of<T>(y, n, head, depth) + first * y.pitch, y.pitch);
    }
  });
}

// As the native kernel derives it, for a block of queries at a time.
template <class T>
void backward(Index heads, float scale, const Operand& q, const Operand& k, const Operand& v, const Operand& y,
              const Operand& log_sums, const Operand& dy, Gradient dq, Gradient dk, Gradient dv) {
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  const bool scores_wanted = dq || dk;
  parallel_for(q.shape[0] * heads, [&](Index task) {
    const Index n = task / heads, head = task % heads;
    const Rows rows(keys + kTileColumns, depth), queries(kQueries, depth), slopes(kQueries, depth),
        results(kQueries, depth);
    const Rows weights(kQueries, keys), slopes_of_weights(kQueries, keys);
    const Factors<T> factors(slopes_of_weights);
    const Rows dqs(kQueries, depth), dks(keys, depth), dvs(keys, depth);
    const Index whole = weights.width();
    const Scratch<T> key_panels(stored_depth<T>(depth) * whole), value_panels(stored_depth<T>(depth) * whole),
        key_rows(stored_depth<T>(keys) * rows.width());
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
      multiply<T>(head_of<T>(q, n, head, depth) + first * q.pitch, q.pitch, count, depth, key_panels.data(), whole,
                  weights.data(), whole);
      for (Index r = 0; r < count; ++r) graft::cpu::softmax_again(weights.row(r), scale, log_sum[r], keys);
      slopes.read(dy, n, head, first, count);
      if (dv) add_correlation(weights, count, keys, slopes, depth, dvs);
      if (!scores_wanted) continue;
      results.read(y, n, head, first, count);
      multiply<T>(head_of<T>(dy, n, head, depth) + first * dy.pitch, dy.pitch, count, depth, value_panels.data(), whole,
                  slopes_of_weights.data(), whole);
      for (Index r = 0; r < count; ++r)
        graft::cpu::softmax_slopes(weights.row(r), scale, graft::cpu::dot(slopes.row(r), results.row(r), depth),
                                   slopes_of_weights.row(r), keys);
      if (dk) {
        queries.read(q, n, head, first, count);
        add_correlation(slopes_of_weights, count, keys, queries, depth, dks);
      }
      if (!dq) continue;
      multiply<T>(factors.of(count, keys), whole, count, keys, key_rows.data(), depth, dqs.data(), dqs.width());
      dqs.write(dq.to, n, head, first, count, dq.accumulate);
    }
    if (dk) dks.write(dk.to, n, head, 0, keys, dk.accumulate);
    if (dv) dvs.write(dv.to, n, head, 0, keys, dv.accumulate);
  });
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
  const auto factor = static_cast<float>(scale);
  if (q.dtype == DType::f32) return forward<float>(heads, factor, q, k, v, y, log_sums);
  if (has_amx_bf16()) return attention_forward_by_amx(heads, factor, q, k, v, y, log_sums);
  forward<Half>(heads, factor, q, k, v, y, log_sums);
}

bool attention_backward_supports(const Context&, Index, double, const Operand& q, const Operand& k, const Operand&,
                                 const Operand&, const Operand&, const Operand&, Gradient, Gradient, Gradient) {
  return usable(q, k);
}
void attention_backward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                        const Operand& y, const Operand& log_sums, const Operand& dy, Gradient dq, Gradient dk,
                        Gradient dv) {
  const auto factor = static_cast<float>(scale);
  if (q.dtype == DType::f32) return backward<float>(heads, factor, q, k, v, y, log_sums, dy, dq, dk, dv);
  backward<Half>(heads, factor, q, k, v, y, log_sums, dy, dq, dk, dv);
}

}  // namespace graft::kernels::vectorized
