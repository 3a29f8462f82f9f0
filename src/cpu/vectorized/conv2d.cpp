#include "kernels/conv2d.h"

#include "cpu/vectorized/convolve.h"
#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/winograd.h"

namespace graft::kernels::vectorized {
namespace {

// A tile of sums of a weights' gradient: a few of the numbers that a term reads, times a panel of output channels.
struct WeightTile {
  Index panel, term, first, count;
};

// dw[c, term, k] (+)= sum over positions of source[row(position, term), k] slopes[position, c]. A thread owns some
// tiles and goes over all positions, block by block, so that what it reads of a block stays in the cache for all its
// tiles.
void correlate(const Grid& grid, const Source<float>& source, const Source<float>& slopes, float* dw, bool accumulate) {
  const Index depth = grid.run * source.channels, positions = grid.positions(), terms = grid.terms();
  const Index block = std::clamp<Index>((1 << 17) / depth, 64,
                                        192);  // of positions: sums depend on it, so that it is the same everywhere
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
  const bool computes = image.dtype == DType::f32 ? weights.dtype == DType::f32 : image.dtype == DType::bf16;
  return has_avx2() && computes && image.elements() > 0 && pixels.elements() > 0 &&
         (g.groups == 1 || std::min(g.in_group(), g.out_group()) >= kFewest);
}

bool by_amx(const Operand& image) { return image.dtype == DType::bf16 && has_amx_bf16(); }

// By AMX bf16 is multiplied several times as fast as the f32 of Winograd's sums.
bool by_winograd(const ConvGeometry& g, const Operand& image, const Tiles& tiles, Index depth, Index columns,
                 const Operand& w) {
  return winograd_computes(g) && !by_amx(image) && winograd_is_faster(tiles, depth, columns, w.block != nullptr);
}

constexpr Index kFewChannels = 8;

// Measured beside oneDNN 2.6, a convolution of `depth` channels with `columns` others. On Zen 5 direct sums in bf16 are
// within 10 % of the library's, mostly below; in f32 it is ahead where tiles are over too soon. On Zen 3, by AVX2, it
// is ahead by 10 to 30 % in direct sums, but for gradients, for which it brings weights into its layout at each call.
bool yields_to_library(DType dtype, bool winograd, Index window, Index depth, Index columns, bool backward) {
  constexpr Index kShortProduct = 64 * 64;
  if (!winograd && !backward && !has_avx512()) return true;
  if (dtype == DType::bf16) return !winograd;
  return !winograd && (std::min(depth, columns) <= kFewChannels || window * depth * columns <= kShortProduct);
}

// By AMX, measured on a Xeon of the fifth generation beside oneDNN 2.6, which has by far the better tiles for large
// images and strides of one, and brings weights into its layout at each call of a backward.
bool yields_amx_to_library(const ConvGeometry& g, bool backward) {
  constexpr Index kSmallImage = 8 * 8;
  if (std::min(g.in_group(), g.out_group()) <= kFewChannels) return true;
  const bool pointwise = g.kernel_height * g.kernel_width == 1;
  return g.stride_height * g.stride_width == 1 && g.out_height * g.out_width > kSmallImage && !(backward && pointwise);
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
  if (by_winograd(g, x, tiles, g.channels, g.out_channels, w)) {
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
  if (by_winograd(g, dz, tiles, g.out_channels, g.channels, w)) {
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
                             const Operand& residual, Activation activation, const Operand& y) {
  const bool clamps = activation <= Activation::relu6;  // Winograd's sums of halves are written with no other
  return usable(g, x, w, y) && (x.dtype == DType::f32 || clamps || (by_amx(x) && !residual));
}
bool conv2d_forward_yields(const Context&, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand&,
                           const Operand&, Activation, const Operand&) {
  if (by_amx(x)) return yields_amx_to_library(g, false);
  const bool winograd = by_winograd(g, x, forward_tiles(g), g.channels, g.out_channels, w);
  return yields_to_library(x.dtype, winograd, g.kernel_height * g.kernel_width, g.in_group(), g.out_group(), false);
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
  if (by_amx(dz)) return yields_amx_to_library(g, true);
  const bool winograd = by_winograd(g, dz, backward_input_tiles(g), g.out_channels, g.channels, w);
  return yields_to_library(dz.dtype, winograd, g.kernel_height * g.kernel_width, g.out_group(), g.in_group(), true);
}
void conv2d_backward_input(Context&, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx) {
  if (dz.dtype == DType::f32)
    backward_input<float>(g, dz, w, dx);
  else
    backward_input<Half>(g, dz, w, dx);
}

bool conv2d_backward_weight_supports(const Context&, const ConvGeometry& g, const Operand& x, const Operand& dz,
                                     Gradient dw) {
  const bool computes = x.dtype == DType::f32 || (by_amx(x) && dw.to.dtype == DType::f32);
  return computes && usable(g, x, dw.to, dz);
}
bool conv2d_backward_weight_yields(const Context&, const ConvGeometry& g, const Operand& x, const Operand&, Gradient) {
  return x.dtype == DType::f32 && !has_avx512() && g.kernel_height * g.kernel_width == 1;
}
void conv2d_backward_weight(Context&, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  const Grid grid = forward_grid(g);
  for (Index group = 0; group < g.groups; ++group) {
    const Index first_in = group * g.in_group(), first_out = group * g.out_group();
    float* to = dw.to.as<float>() + first_out * grid.terms() * grid.run * g.in_group();
    if (x.dtype == DType::f32)
      correlate(grid, {x.as<float>() + first_in, x.pitch, g.in_group()},
                {dz.as<float>() + first_out, dz.pitch, g.out_group()}, to, dw.accumulate);
    else
      correlate_by_amx(grid, {elements<Half>(x) + first_in, x.pitch, g.in_group()},
                       {elements<Half>(dz) + first_out, dz.pitch, g.out_group()}, to, dw.accumulate);
  }
}

}  // namespace graft::kernels::vectorized
