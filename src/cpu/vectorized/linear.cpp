#include "kernels/linear.h"

#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "cpu/activate_row.h"
#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/share.h"
#include "cpu/vectorized/weights.h"
#include "kernels/conv2d.h"

// Products with a matrix of weights as it is stored. A block of it is brought into panels, in memory that stays in the
// second-level cache while all rows go over it; sums over the blocks' depths meet in the result. So the weights are
// read once, which is what few rows wait for, and no copy of them is kept. For many rows panels of all weights are kept
// where they may be, and the layer is a convolution.
namespace graft::kernels::vectorized {
namespace {

struct Rows {
  const float* data;
  Index count, pitch, depth;
};

// y[r, c] = sum over k of x[r, k] weights[k, c]. pack(begin, end, k, depth, to) writes columns begin .. end-1 of a
// block of rows k .. k+depth-1 in panels.
template <class Pack>
void multiply(const Rows& x, const Result<float>& y, Index block_columns, Index block_depth, const Pack& pack) {
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
      pack(begin, end, k, depth, panels.data());
      for (Index r = 0; r < count; ++r) rows[static_cast<std::size_t>(r)] = x.data + (first_row + r) * x.pitch + k;
      for (Index i = 0; i < tiles; ++i) {
        const Index row = part(count, tiles, i), rows_of_tile = part(count, tiles, i + 1) - row;
        for (Index c = begin; c < end; c += kTileColumns) {
          product_tile(
              ProductTile<float>{.rows = rows.data() + row,
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

// A linear layer in bf16 is a convolution of a line of pixels with a window of one.
bool by_convolution(const Operand& x, const Operand& w) {
  return x.dtype == DType::bf16 && has_avx2() && x.elements() > 0 && w.elements() > 0 && w.contiguous();
}
ConvGeometry as_convolution(Index rows, const Operand& w) {
  ConvGeometry g;
  g.batch = g.height = g.out_height = 1;
  g.width = g.out_width = rows;
  g.channels = w.shape[1];
  g.out_channels = w.shape[0];
  return g;
}

constexpr Index kManyRows = 64;
bool keeps_panels(const Operand& x, const Operand& w) {
  return x.shape.rows() > kManyRows && w.contiguous() && w.block != nullptr && w.block->packed() != nullptr;
}

bool usable(const Operand& x, const Operand& w) {
  return has_avx2() && x.dtype == DType::f32 && w.dtype == DType::f32 && x.elements() > 0 && w.elements() > 0;
}

}  // namespace

bool linear_forward_supports(const Context&, const Operand& x, const Operand& w, const Operand&, Activation,
                             const Operand&) {
  return usable(x, w) || by_convolution(x, w);
}

// Few rows: sums of products of neighbouring numbers, four columns at a time.
void multiply_few(const Rows& x, const Operand& w, const Result<float>& y) {
  parallel_ranges(y.columns, 16 * kDotColumns, [&](Index begin, Index end) {
    for (Index c = begin; c < end; c += kDotColumns) {
      const Index first = std::min(c, std::max<Index>(0, y.columns - kDotColumns));
      float sums[kDotRows][kDotColumns];
      dot_tile(x.data, x.pitch, x.count, w.as<float>() + first * w.pitch, w.pitch, x.depth, sums);
      for (Index r = 0; r < x.count; ++r) {
        for (Index i = 0; i < kDotColumns; ++i) sums[r][i] += y.bias == nullptr ? 0.f : y.bias[first + i];
        graft::cpu::activate_row(y.activation, sums[r], kDotColumns);
        std::copy_n(sums[r], kDotColumns, y.data + r * y.pitch + first);
      }
    }
  });
}

void linear_forward(Context& context, const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                    const Operand& y) {
  if (x.dtype == DType::bf16 || keeps_panels(x, w))
    return conv2d_forward(context, as_convolution(x.shape.rows(), w), x, w, bias, {}, activation, y);
  constexpr Index kColumns = 64, kDepth = 1024;  // rows of w are read 4 KiB at a time
  const Rows rows{x.as<float>(), x.shape.rows(), x.pitch, w.shape[1]};
  const Result<float> result{.bias = bias.as<float>(),
                             .data = y.as<float>(),
                             .pitch = y.pitch,
                             .columns = w.shape[0],
                             .activation = activation};
  if (rows.count <= kDotRows && result.columns >= kDotColumns) return multiply_few(rows, w, result);
  multiply(rows, result, kColumns, kDepth, [&](Index begin, Index end, Index k, Index depth, float* to) {
    for (Index c = begin; c < end; c += kTileColumns) {
      transpose_panel(w.as<float>() + c * w.pitch + k, w.pitch, std::min(kTileColumns, end - c), depth,
                      to + (c - begin) * depth);
    }
  });
}

// Measured beside oneDNN 2.6. In f32, on Zen 5 and with many rows, the library is ahead by up to 10 %, in all but
// forward products whose sums are made in one go; on Zen 3, by AVX2, always by 10 to 30 %. Where panels are kept, it is
// behind by 14 to 60 % with 197 rows on Zen 4, and level with 3152. In bf16 it is behind there by 2 to 20 %, and for
// gradients of the input by 40 %.
bool linear_forward_yields(const Context&, const Operand& x, const Operand& w, const Operand&, Activation,
                           const Operand&) {
  constexpr Index kLongSum = 2048;
  if (x.dtype == DType::bf16) return !has_avx512_bf16();
  if (!has_avx512()) return true;
  return !keeps_panels(x, w) && x.shape.rows() > kManyRows && w.shape[1] > kLongSum;
}

bool linear_backward_input_supports(const Context&, const Operand& dz, const Operand& w, Gradient) {
  return usable(dz, w) || by_convolution(dz, w);
}

void linear_backward_input(Context& context, const Operand& dz, const Operand& w, Gradient dx) {
  if (dz.dtype == DType::bf16) return conv2d_backward_input(context, as_convolution(dz.shape.rows(), w), dz, w, dx);
  constexpr Index kColumns = 256, kDepth = 256;
  multiply({dz.as<float>(), dz.shape.rows(), dz.pitch, w.shape[0]},
           Result<float>{.bias = nullptr,
                         .residual = dx.accumulate ? dx.to.as<float>() : nullptr,
                         .residual_pitch = dx.to.pitch,
                         .data = dx.to.as<float>(),
                         .pitch = dx.to.pitch,
                         .columns = w.shape[1],
                         .activation = Activation::linear},
           kColumns, kDepth, [&](Index begin, Index end, Index k, Index depth, float* to) {
             constexpr Index kAhead = 8;  // rows of w
             for (Index i = 0; i < depth; ++i) {
               const float* from = w.as<float>() + (k + i) * w.pitch;
               for (Index c = begin; c < end; c += kTileColumns) {
                 const Index count = std::min(kTileColumns, end - c), width = panel_width(count);
                 __builtin_prefetch(from + kAhead * w.pitch + c);
                 __builtin_prefetch(from + kAhead * w.pitch + c + kVectorColumns);
                 float* panel = to + (c - begin) * depth + i * width;
                 std::fill(std::copy_n(from + c, count, panel), panel + width, 0.f);
               }
             }
           });
}

bool linear_backward_input_yields(const Context&, const Operand& dz, const Operand&, Gradient) {
  return dz.dtype == DType::f32 || !has_avx512_bf16();
}

bool linear_backward_weight_supports(const Context&, const Operand& x, const Operand& dz, Gradient dw) {
  return (usable(x, dw.to) || (by_convolution(x, dw.to) && has_amx_bf16() && dw.to.dtype == DType::f32)) &&
         dz.elements() > 0;
}

bool linear_backward_weight_yields(const Context&, const Operand& x, const Operand&, Gradient dw) {
  constexpr Index kManyWeights = 1 << 22;  // more than the caches keep
  if (x.dtype == DType::bf16) return x.shape.rows() > kManyRows;
  return !has_avx512() || x.shape.rows() > kManyRows || dw.to.elements() < kManyWeights;
}

// dw[o, i] (+)= sum over rows r of dz[r, o] x[r, i]: a share is a range of outputs, and adds to dw block by block of
// rows. Both factors are brought side by side first, dz in tiles and x in panels.
void linear_backward_weight(Context& context, const Operand& x, const Operand& dz, Gradient dw) {
  if (x.dtype == DType::bf16) return conv2d_backward_weight(context, as_convolution(x.shape.rows(), dw.to), x, dz, dw);
  constexpr Index kBlockRows = 256, kOutputs = 384;
  const Index rows = x.shape.rows(), in = dw.to.shape[1], out = dw.to.shape[0];
  const Index shares = std::max(std::min<Index>(out, 2 * threads()), (out + kOutputs - 1) / kOutputs);
  float* to = dw.to.as<float>();
  const bool streams = rows <= kBlockRows && !dw.accumulate &&
                       Result<float>{.data = to, .pitch = dw.to.pitch, .columns = in}.streams(out);
  std::vector<Index> in_order(static_cast<std::size_t>(kBlockRows));
  std::iota(in_order.begin(), in_order.end(), Index{0});
  parallel_for(shares, [&](Index share) {
    const Index begin = part(out, shares, share), count = part(out, shares, share + 1) - begin;
    const Index tiles = (count + kTileRows - 1) / kTileRows, tile_elements = kBlockRows * kTileRows;
    std::vector<float> panel(static_cast<std::size_t>(kBlockRows * kTileColumns));
    std::vector<float> slopes(static_cast<std::size_t>(tiles * tile_elements));
    std::vector<const float*> table(static_cast<std::size_t>(tiles * kBlockRows + kRowsAhead));
    for (std::size_t i = 0; i < slopes.size(); i += kTileRows) table[i / kTileRows] = slopes.data() + i;
    for (Index first = 0; first < rows; first += kBlockRows) {
      const Index block = std::min(kBlockRows, rows - first);
      for (Index i = 0; i < tiles; ++i) {
        const Index o = begin + part(count, tiles, i);
        for (Index r = 0; r < block; ++r) {
          const float* from = dz.as<float>() + (first + r) * dz.pitch + o;
          float* tile = slopes.data() + i * tile_elements + r * kTileRows;
          if (o + kTileRows <= out)
            std::copy_n(from, kTileRows, tile);  // a constant count needs no call
          else
            std::copy_n(from, out - o, tile);
        }
      }
      for (Index c = 0; c < in; c += kTileColumns) {
        const Index columns = std::min(kTileColumns, in - c);
        copy_panel(x.as<float>() + first * x.pitch + c, x.pitch, in_order.data(), block, columns, panel.data());
        for (Index i = 0; i < tiles; ++i) {
          const Index o = part(count, tiles, i);
          gradient_tile({.rows = table.data() + i * kBlockRows,
                         .slopes = panel.data(),
                         .slope_pitch = kTileColumns,
                         .positions = block,
                         .sums = to + (begin + o) * dw.to.pitch + c,
                         .sum_pitch = dw.to.pitch,
                         .count = part(count, tiles, i + 1) - o,
                         .columns = columns,
                         .accumulate = dw.accumulate || first > 0,
                         .streams = streams});
        }
      }
    }
    if (streams) finish_streams();
  });
}

}  // namespace graft::kernels::vectorized
