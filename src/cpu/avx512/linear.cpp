#include "kernels/linear.h"

#include <vector>

#include "core/parallel.h"
#include "cpu/activate_row.h"
#include "cpu/avx512/machine.h"
#include "cpu/avx512/share.h"

// Products with a matrix of weights as it is stored. A block of it is brought into panels, in memory that stays in the
// second-level cache while all rows go over it; sums over the blocks' depths meet in the result. So the weights are read
// once, which is what few rows wait for, and no copy of them is kept.
namespace graft::kernels::avx512 {
namespace {

struct Rows {
  const float* data;
  Index count, pitch, depth;
};

// y[r, c] = sum over k of x[r, k] weights[k, c]. pack(first, count, k, depth, to) writes a panel of `count` columns from
// `first` on.
template <class Pack>
void multiply(const Rows& x, const Result& y, Index block_columns, Index block_depth, const Pack& pack) {
  const Index blocks = (y.columns + block_columns - 1) / block_columns;
  constexpr Index kLeastRows = 96;  // that are worth another copy of a block
  const Index groups =
      blocks >= 2 * threads() ? 1 : std::clamp<Index>(x.count / kLeastRows, 1, (2 * threads() + blocks - 1) / blocks);
  parallel_for(blocks * groups, [&](Index share) {
    const Index begin = share / groups * block_columns, end = std::min(begin + block_columns, y.columns);
    const Index first_row = part(x.count, groups, share % groups);
    const Index count = part(x.count, groups, share % groups + 1) - first_row;
    const Index tiles = (count + kTileRows - 1) / kTileRows;
    std::vector<float> panels(static_cast<std::size_t>(block_columns * block_depth));
    std::vector<const float*> rows(static_cast<std::size_t>(count));
    std::vector<Index> positions(rows.size());
    for (Index r = 0; r < count; ++r) positions[static_cast<std::size_t>(r)] = first_row + r;
    for (Index k = 0; k < x.depth; k += block_depth) {
      const Index depth = std::min(block_depth, x.depth - k);
      const bool is_first = k == 0, is_last = k + depth == x.depth;
      for (Index c = begin; c < end; c += kTileColumns)
        pack(c, std::min(kTileColumns, end - c), k, depth, panels.data() + (c - begin) * depth);
      for (Index r = 0; r < count; ++r)
        rows[static_cast<std::size_t>(r)] = x.data + (first_row + r) * x.pitch + k;
      for (Index i = 0; i < tiles; ++i) {
        const Index row = part(count, tiles, i), rows_of_tile = part(count, tiles, i + 1) - row;
        for (Index c = begin; c < end; c += kTileColumns) {
          product_tile({.rows = rows.data() + row,
                        .row_stride = count,
                        .ahead = c == begin && i + 1 < tiles ? rows_of_tile : 0,
                        .terms = 1,
                        .depth = depth,
                        .weights = panels.data() + (c - begin) * depth,
                        .bias = is_first && y.bias != nullptr ? y.bias + c : nullptr,
                        .residual = is_first ? (y.residual == nullptr ? nullptr : y.residual + c) : y.data + c,
                        .residual_pitch = is_first ? y.residual_pitch : y.pitch,
                        .y = y.data + c,
                        .y_pitch = y.pitch,
                        .positions = positions.data() + row,
                        .count = rows_of_tile,
                        .columns = std::min(kTileColumns, end - c),
                        .clamp = is_last ? y.clamp() : Clamp::none});
        }
      }
    }
    if (!y.activates_after()) return;
    for (Index r = first_row; r < first_row + count; ++r)
      graft::cpu::activate_row(y.activation, y.data + r * y.pitch + begin, end - begin);
  });
}

bool usable(const Operand& x, const Operand& w) {
  return has_avx512() && x.dtype == DType::f32 && w.dtype == DType::f32 && x.elements() > 0 && w.elements() > 0;
}

}  // namespace

bool linear_forward_supports(const Context&, const Operand& x, const Operand& w, const Operand&, Activation,
                             const Operand&) {
  return usable(x, w);
}

void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                    const Operand& y) {
  constexpr Index kColumns = 64, kDepth = 1024;  // rows of w are read 4 KiB at a time
  multiply({x.as<float>(), x.shape.rows(), x.pitch, w.shape[1]},
           {.bias = bias.as<float>(),
            .residual = nullptr,
            .residual_pitch = 0,
            .data = y.as<float>(),
            .pitch = y.pitch,
            .columns = w.shape[0],
            .activation = activation},
           kColumns, kDepth, [&](Index first, Index count, Index k, Index depth, float* to) {
             transpose_panel(w.as<float>() + first * w.pitch + k, w.pitch, count, depth, to);
           });
}

bool linear_backward_input_supports(const Context&, const Operand& dz, const Operand& w, Gradient) {
  return usable(dz, w);
}

void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx) {
  constexpr Index kColumns = 256, kDepth = 256;
  multiply({dz.as<float>(), dz.shape.rows(), dz.pitch, w.shape[0]},
           {.bias = nullptr,
            .residual = dx.accumulate ? dx.to.as<float>() : nullptr,
            .residual_pitch = dx.to.pitch,
            .data = dx.to.as<float>(),
            .pitch = dx.to.pitch,
            .columns = w.shape[1],
            .activation = Activation::linear},
           kColumns, kDepth, [&](Index first, Index count, Index k, Index depth, float* to) {
             const Index width = count > kVectorColumns ? kTileColumns : kVectorColumns;
             const float* from = w.as<float>() + k * w.pitch + first;
             for (Index i = 0; i < depth; ++i, from += w.pitch, to += width)
               std::fill(std::copy_n(from, count, to), to + width, 0.f);
           });
}

bool linear_backward_weight_supports(const Context&, const Operand& x, const Operand& dz, Gradient dw) {
  return usable(x, dw.to) && dz.elements() > 0;
}

// dw[o, i] (+)= sum over rows r of dz[r, o] x[r, i]: a share is a range of outputs, and adds to dw block by block of rows.
void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw) {
  constexpr Index kBlockRows = 192, kOutputs = 96;
  const Index rows = x.shape.rows(), in = dw.to.shape[1], out = dw.to.shape[0];
  const Index shares = (out + kOutputs - 1) / kOutputs;
  parallel_for(shares, [&](Index share) {
    const Index begin = part(out, shares, share), count = part(out, shares, share + 1) - begin;
    const Index tiles = (count + kTileRows - 1) / kTileRows;
    std::vector<float> panel(static_cast<std::size_t>(kBlockRows * kTileColumns));
    std::vector<const float*> slopes(static_cast<std::size_t>(kBlockRows + kRowsAhead));
    for (Index first = 0; first < rows; first += kBlockRows) {
      const Index block = std::min(kBlockRows, rows - first);
      for (Index r = 0; r < block; ++r)
        slopes[static_cast<std::size_t>(r)] = dz.as<float>() + (first + r) * dz.pitch + begin;
      for (Index c = 0; c < in; c += kTileColumns) {
        const Index columns = std::min(kTileColumns, in - c);
        for (Index r = 0; r < block; ++r)
          std::copy_n(x.as<float>() + (first + r) * x.pitch + c, columns, panel.data() + r * kTileColumns);
        for (Index i = 0; i < tiles; ++i) {
          const Index o = part(count, tiles, i);
          gradient_tile({.rows = slopes.data(),
                         .first = o,
                         .slopes = panel.data(),
                         .slope_pitch = kTileColumns,
                         .positions = block,
                         .sums = dw.to.as<float>() + (begin + o) * dw.to.pitch + c,
                         .sum_pitch = dw.to.pitch,
                         .count = part(count, tiles, i + 1) - o,
                         .columns = columns,
                         .accumulate = dw.accumulate || first > 0});
        }
      }
    }
  });
}

}  // namespace graft::kernels::avx512
