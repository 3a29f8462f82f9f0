#include "kernels/conv2d.h"

#include "core/parallel.h"
#include "cpu/activate_row.h"
#include "cpu/avx512/machine.h"
#include "cpu/avx512/share.h"
#include "cpu/avx512/weights.h"
#include "cpu/avx512/winograd.h"

// A convolution is a product of matrices whose left one is never made: a tile of sums stays in registers while it reads
// rows of the image through a table of where they begin, one row for each tap of the window. Nothing is summed by two
// threads, and each number in the order of its terms, so that no result depends on how the work is shared out.
namespace graft::kernels::avx512 {
namespace {

// Panels of which a grid's terms are some: those from `first_term` on.
template <class T>
struct Weights {
  const T* data;
  Index terms, first_term;

  const T* panel(Index first_column, Index depth, Index width) const {
    return data + (first_column * terms + first_term * width) * stored_depth<T>(depth);
  }
};

// How positions and panels are shared out. A block's part of the source stays in the second-level cache while all
// panels of a share go over it.
struct Shares {
  Index blocks, panel_groups;

  Shares(Index positions, Index depth, Index panel_count) {
    constexpr Index kSourceElements = 1 << 16, kLeast = 48, kMost = 256;
    const Index size = std::clamp(kSourceElements / depth, kLeast, kMost);
    blocks = (positions + size - 1) / size;
    if (blocks >= 2 * threads()) blocks = (blocks + threads() - 1) / threads() * threads();
    panel_groups = blocks >= 2 * threads() ? 1 : std::min(panel_count, (2 * threads() + blocks - 1) / blocks);
  }
};

constexpr Index kCachedWeights = 1 << 17;  // half of a second-level cache of 1 MiB

template <class T>
void convolve(const Grid& grid, const Source<T>& source, const Weights<T>& weights, const Result<T>& y) {
  const Index depth = grid.run * source.channels, panel_count = panels(y.columns), positions = grid.positions();
  const Shares shares(positions, depth, panel_count);
  const bool streams = y.streams(positions);
  parallel_for(shares.panel_groups * shares.blocks, [&](Index share) {
    const Index group = share / shares.blocks, block = share % shares.blocks;
    RowTable<T> table(grid, source.data, source.pitch, source.channels);
    table.move_to(part(positions, shares.blocks, block), part(positions, shares.blocks, block + 1));
    const Index tiles = (table.count() + kTileRows - 1) / kTileRows;
    const Index first_panel = part(panel_count, shares.panel_groups, group),
                end_panel = part(panel_count, shares.panel_groups, group + 1);
    const auto compute = [&](Index panel, Index i) {
      const Index first = panel * kTileColumns, columns = std::min(kTileColumns, y.columns - first);
      const Index begin = part(table.count(), tiles, i), count = part(table.count(), tiles, i + 1) - begin;
      const Index width = panel_width(columns);
      const graft::cpu::Range terms = grid.terms_of(table.begin() + begin, table.begin() + begin + count);
      const ProductTile<T> tile{
          .rows = table.rows(terms.begin) + begin,
          .row_stride = table.count(),
          .ahead = panel == first_panel && i + 1 < tiles ? count : 0,
          .terms = terms.end - terms.begin,
          .depth = depth,
          .weights = weights.panel(first, depth, width) + terms.begin * stored_depth<T>(depth) * width,
          .bias = y.bias == nullptr ? nullptr : y.bias + first,
          .residual = y.residual == nullptr ? nullptr : y.residual + first,
          .residual_pitch = y.residual_pitch,
          .y = y.data + first,
          .y_pitch = y.pitch,
          .positions = table.results() + begin,
          .count = count,
          .columns = columns,
          .clamp = y.clamp(),
          .streams = streams};
      product_tile(tile);
      if constexpr (std::is_same_v<T, float>) {
        if (!y.activates_after()) return;
        for (Index r = 0; r < tile.count; ++r)
          graft::cpu::activate_row(y.activation, tile.y + tile.positions[r] * tile.y_pitch, columns);
      }
    };
    if ((end_panel - first_panel) * kTileColumns * grid.terms() * depth <=
        kCachedWeights) {  // rows of y are written in one go
      for (Index i = 0; i < tiles; ++i) {
        for (Index panel = first_panel; panel < end_panel; ++panel) compute(panel, i);
      }
    } else {
      for (Index panel = first_panel; panel < end_panel; ++panel) {
        for (Index i = 0; i < tiles; ++i) compute(panel, i);
      }
    }
    if (streams) finish_streams();
  });
}

// A tile of sums of a weights' gradient: a few of the numbers that a term reads, times a panel of output channels.
struct WeightTile {
  Index panel, term, first, count;
};

// dw[c, term, k] (+)= sum over positions of source[row(position, term), k] slopes[position, c]. A thread owns some
// tiles and goes over all positions, block by block, so that what it reads of a block stays in the cache for all its
// tiles.
void correlate(const Grid& grid, const Source<float>& source, const Source<float>& slopes, float* dw, bool accumulate) {
  const Index depth = grid.run * source.channels, positions = grid.positions(), terms = grid.terms();
  const Index block = std::clamp<Index>((1 << 17) / depth, 64, 192);  // of positions
  const Index tiles = (depth + kTileRows - 1) / kTileRows, count = panels(slopes.channels) * terms * tiles;
  const auto tile_at = [&](Index i) {
    const Index k = part(depth, tiles, i % tiles);
    return WeightTile{i / tiles / terms, i / tiles % terms, k, part(depth, tiles, i % tiles + 1) - k};
  };
  const Index shares = std::min<Index>(threads(), count);
  parallel_for(shares, [&](Index share) {
    const Index begin = part(count, shares, share), end = part(count, shares, share + 1);
    std::vector<float> sums(static_cast<std::size_t>((end - begin) * kTileRows * kTileColumns));
    RowTable<float> table(grid, source.data, source.pitch, source.channels);
    std::vector<float> panel(static_cast<std::size_t>(block * kTileColumns));
    for (Index first = 0; first < positions; first += block) {
      table.move_to(first, std::min(first + block, positions));
      Index copied = -1;
      for (Index i = begin; i < end; ++i) {
        const WeightTile tile = tile_at(i);
        const Index columns = std::min(kTileColumns, slopes.channels - tile.panel * kTileColumns);
        if (tile.panel != copied) {
          copy_panel(slopes.data + tile.panel * kTileColumns, slopes.pitch, table.results(), table.count(), columns,
                     panel.data());
          copied = tile.panel;
        }
        gradient_tile({.rows = table.rows(tile.term),
                       .first = tile.first,
                       .slopes = panel.data(),
                       .slope_pitch = kTileColumns,
                       .positions = table.count(),
                       .sums = sums.data() + (i - begin) * kTileRows * kTileColumns,
                       .count = tile.count,
                       .columns = columns,
                       .accumulate = first > 0});
      }
    }
    for (Index i = begin; i < end; ++i) {
      const WeightTile tile = tile_at(i);
      const float* from = sums.data() + (i - begin) * kTileRows * kTileColumns;
      for (Index c = tile.panel * kTileColumns; c < std::min((tile.panel + 1) * kTileColumns, slopes.channels);
           ++c, ++from) {
        float* to = dw + (c * terms + tile.term) * depth + tile.first;
        for (Index r = 0; r < tile.count; ++r) to[r] = from[r * kTileColumns] + (accumulate ? to[r] : 0.f);
      }
    }
  });
}

bool usable(const ConvGeometry& g, const Operand& image, const Operand& weights, const Operand& pixels) {
  constexpr Index kFewest = 8;  // channels of a group that make a tile worth while
  const bool computes = image.dtype == DType::f32 ? has_avx512() && weights.dtype == DType::f32
                                                  : image.dtype == DType::bf16 && has_avx512_bf16();
  return computes && image.elements() > 0 && pixels.elements() > 0 &&
         (g.groups == 1 || std::min(g.in_group(), g.out_group()) >= kFewest);
}

bool by_winograd(const ConvGeometry& g, const Tiles& tiles, Index depth, Index columns, const Operand& w) {
  return winograd_computes(g) && winograd_is_faster(tiles, depth, columns, w.block != nullptr);
}

// Measured on Zen 5 beside oneDNN 2.6, a convolution of `depth` channels with `columns` others. In bf16 direct sums are
// within 10 % of the library's, mostly below; with AMX it is several times as fast. In f32 it is ahead where tiles are
// over too soon.
bool yields_to_library(const ConvGeometry& g, DType dtype, bool winograd, Index depth, Index columns) {
  constexpr Index kFewChannels = 8, kShortProduct = 64 * 64;
  if (dtype == DType::bf16) return has_amx_bf16() || !winograd;
  return !winograd && (std::min(depth, columns) <= kFewChannels ||
                       g.kernel_height * g.kernel_width * depth * columns <= kShortProduct);
}

template <class T>
void forward(const ConvGeometry& g, const Operand& x, const Operand& w, const Operand& bias, const Operand& residual,
             Activation activation, const Operand& y) {
  constexpr bool half = std::is_same_v<T, Half>;
  const Result<T> result{.bias = bias.as<float>(),
                         .residual = elements<T>(residual),
                         .residual_pitch = residual.pitch,
                         .data = elements<T>(y),
                         .pitch = y.pitch,
                         .columns = g.out_channels,
                         .activation = activation};
  const Tiles tiles = forward_tiles(g);
  if (by_winograd(g, tiles, g.channels, g.out_channels, w)) {
    const auto weights = winograd_forward_weights(g, w, half ? Form::rounded : Form::f32);
    return winograd(tiles, Source<T>{elements<T>(x), x.pitch, g.channels}, *weights, result);
  }
  const Grid grid = forward_grid(g);
  const Panels packed = pack_forward(g, grid, w, half ? Form::pairs : Form::f32);
  for (Index group = 0; group < g.groups; ++group) {
    convolve<T>(grid, {elements<T>(x) + group * g.in_group(), x.pitch, g.in_group()},
                {packed.group<T>(group), grid.terms(), 0}, result.group(group * g.out_group(), g.out_group()));
  }
}

template <class T>
void backward_input(const ConvGeometry& g, const Operand& dz, const Operand& w, const Gradient& dx) {
  constexpr bool half = std::is_same_v<T, Half>;
  const Result<T> result{.residual = dx.accumulate ? elements<T>(dx.to) : nullptr,
                         .residual_pitch = dx.to.pitch,
                         .data = elements<T>(dx.to),
                         .pitch = dx.to.pitch,
                         .columns = g.channels};
  const Tiles tiles = backward_input_tiles(g);
  if (by_winograd(g, tiles, g.out_channels, g.channels, w)) {
    const auto weights = winograd_backward_input_weights(g, w, half ? Form::rounded : Form::f32);
    return winograd(tiles, Source<T>{elements<T>(dz), dz.pitch, g.out_channels}, *weights, result);
  }
  const std::vector<Phase> phases = backward_input_phases(g);
  const Panels packed = pack_backward_input(g, phases, w, half ? Form::pairs : Form::f32);
  for (Index group = 0; group < g.groups; ++group) {
    Index before = 0;
    for (const Phase& phase : phases) {
      convolve<T>(phase.grid, {elements<T>(dz) + group * g.out_group(), dz.pitch, g.out_group()},
                  {packed.group<T>(group), g.kernel_height * g.kernel_width, before},
                  result.group(group * g.in_group(), g.in_group()));
      before += phase.grid.terms();
    }
  }
}

}  // namespace

bool conv2d_forward_supports(const Context&, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand&,
                             const Operand&, Activation activation, const Operand& y) {
  const bool clamps = activation <= Activation::relu6;  // others are computed in f32, where the result is
  return usable(g, x, w, y) && (x.dtype == DType::f32 || clamps);
}
bool conv2d_forward_yields(const Context&, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand&,
                           const Operand&, Activation, const Operand&) {
  const bool winograd = by_winograd(g, forward_tiles(g), g.channels, g.out_channels, w);
  return yields_to_library(g, x.dtype, winograd, g.in_group(), g.out_group());
}
void conv2d_forward(Context&, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation activation, const Operand& y) {
  if (x.dtype == DType::f32)
    forward<float>(g, x, w, bias, residual, activation, y);
  else
    forward<Half>(g, x, w, bias, residual, activation, y);
}

bool conv2d_backward_input_supports(const Context&, const ConvGeometry& g, const Operand& dz, const Operand& w,
                                    Gradient dx) {
  return usable(g, dx.to, w, dz);
}
bool conv2d_backward_input_yields(const Context&, const ConvGeometry& g, const Operand& dz, const Operand& w,
                                  Gradient) {
  const bool winograd = by_winograd(g, backward_input_tiles(g), g.out_channels, g.channels, w);
  return yields_to_library(g, dz.dtype, winograd, g.out_group(), g.in_group());
}
void conv2d_backward_input(Context&, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx) {
  if (dz.dtype == DType::f32)
    backward_input<float>(g, dz, w, dx);
  else
    backward_input<Half>(g, dz, w, dx);
}

bool conv2d_backward_weight_supports(const Context&, const ConvGeometry& g, const Operand& x, const Operand& dz,
                                     Gradient dw) {
  return x.dtype == DType::f32 && usable(g, x, dw.to, dz);
}
void conv2d_backward_weight(Context&, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  const Grid grid = forward_grid(g);
  for (Index group = 0; group < g.groups; ++group) {
    correlate(grid, {x.as<float>() + group * g.in_group(), x.pitch, g.in_group()},
              {dz.as<float>() + group * g.out_group(), dz.pitch, g.out_group()},
              dw.to.as<float>() + group * g.out_group() * grid.terms() * grid.run * g.in_group(), dw.accumulate);
  }
}

}  // namespace graft::kernels::avx512
