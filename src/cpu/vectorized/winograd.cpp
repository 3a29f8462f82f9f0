#include "cpu/vectorized/winograd.h"

#include <array>

#include "core/format.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/activate_row.h"

namespace graft::kernels::vectorized {
namespace {

// Floats between planes: those of a power of two would share cache sets.
constexpr Index kLine = 16;

// From panels of the nine taps, [panel, tap, depth, column].
void transform_weights(const Panels& taps, const std::array<int, 9>& order, Index depth, Index columns, float* to) {
  constexpr Index kChunk = 16;  // of depth
  const Index count = panels(columns), chunks = (depth + kChunk - 1) / kChunk, plane = count * depth * kTileColumns;
  parallel_for(count * chunks, [&](Index i) {
    const Index first = i / chunks * kTileColumns, width = panel_width(std::min(kTileColumns, columns - first));
    const Index begin = i % chunks * kChunk, end = std::min(begin + kChunk, depth);
    winograd_weights(taps.group<float>(0) + first * 9 * depth + begin * width, order.data(), depth * width,
                     (end - begin) * width, to + first * depth + begin * width, plane);
  });
}

// Tiles and panels are shared out like positions and panels of the direct sum. The transformed tiles of a block and
// their products stay in the last-level cache.
struct Shares {
  Index blocks, panel_groups;

  Shares(const Tiles& tiles, Index depth, Index columns) {
    constexpr Index kElements = 1 << 20, kLeast = 72, kMost = 192;
    const Index size = std::clamp(kElements / kWinogradTaps / (depth + columns), kLeast, kMost);
    blocks = (tiles.count() + size - 1) / size;
    if (blocks >= threads()) blocks = (blocks + threads() - 1) / threads() * threads();
    panel_groups = blocks >= threads() ? 1 : std::min(panels(columns), (threads() + blocks - 1) / blocks);
  }
};

struct Tile {
  Index image, row, column;  // of the first result
};
Tile tile_at(const Tiles& tiles, Index i) {
  const Index across = tiles.across(), down = tiles.down();
  return {i / across / down, i / across % down * kWinogradOut, i % across * kWinogradOut};
}

template <class T>
void transform_input(const Tiles& tiles, const Source<T>& source, const T* zeros, Index i, float* to, Index plane) {
  const Tile tile = tile_at(tiles, i);
  std::array<const T*, kWinogradTaps> pixels;
  for (Index p = 0; p < kWinogradIn; ++p) {
    const Index row = tile.row - tiles.pad_top + p;
    for (Index q = 0; q < kWinogradIn; ++q) {
      const Index column = tile.column - tiles.pad_left + q;
      const bool inside = row >= 0 && row < tiles.height && column >= 0 && column < tiles.width;
      pixels[static_cast<std::size_t>(p * kWinogradIn + q)] =
          inside ? source.data + ((tile.image * tiles.height + row) * tiles.width + column) * source.pitch : zeros;
    }
  }
  winograd_input(pixels.data(), source.channels, to, plane);
}

template <class T>
void transform_output(const Tiles& tiles, Index i, const float* from, Index plane, Index first, Index columns,
                      const Result<T>& y, bool streams) {
  const Tile tile = tile_at(tiles, i);
  const Index pixel = (tile.image * tiles.out_height + tile.row) * tiles.out_width + tile.column;
  const WinogradOutput<T> output{
      .from = from,
      .stride = plane,
      .channels = columns,
      .bias = y.bias == nullptr ? nullptr : y.bias + first,
      .residual = y.residual == nullptr ? nullptr : y.residual + pixel * y.residual_pitch + first,
      .residual_row = tiles.out_width * y.residual_pitch,
      .residual_pixel = y.residual_pitch,
      .y = y.data + pixel * y.pitch + first,
      .y_row = tiles.out_width * y.pitch,
      .y_pixel = y.pitch,
      .rows = std::min(kWinogradOut, tiles.out_height - tile.row),
      .columns = std::min(kWinogradOut, tiles.out_width - tile.column),
      .clamp = y.clamp(),
      .streams = streams};
  winograd_output(output);
  if constexpr (std::is_same_v<T, float>) {
    if (!y.activates_after()) return;
    for (Index p = 0; p < output.rows; ++p) {
      for (Index q = 0; q < output.columns; ++q)
        graft::cpu::activate_row(y.activation, output.y + p * output.y_row + q * output.y_pixel, columns);
    }
  }
}

}  // namespace

bool winograd_computes(const ConvGeometry& g) {
  return g.groups == 1 && g.kernel_height == 3 && g.kernel_width == 3 && g.stride_height == 1 && g.stride_width == 1 &&
         g.dilation_height == 1 && g.dilation_width == 1;
}

bool winograd_is_faster(const Tiles& tiles, Index depth, Index columns, bool kept) {
  return depth >= 16 && columns >= 16 && tiles.count() >= (kept ? 16 : 48);
}

Tiles forward_tiles(const ConvGeometry& g) {
  return {.images = g.batch,
          .height = g.height,
          .width = g.width,
          .pad_top = g.pad_top,
          .pad_left = g.pad_left,
          .out_height = g.out_height,
          .out_width = g.out_width};
}

// dx[i] = sum over p of dz[i + pad - p] w[p]: with p = 2 - p' the window of dz begins at i - (2 - pad), and the weights
// are flipped.
Tiles backward_input_tiles(const ConvGeometry& g) {
  return {.images = g.batch,
          .height = g.out_height,
          .width = g.out_width,
          .pad_top = 2 - g.pad_top,
          .pad_left = 2 - g.pad_left,
          .out_height = g.height,
          .out_width = g.width};
}

std::shared_ptr<const Storage> winograd_forward_weights(const ConvGeometry& g, const Operand& w, Form form) {
  const Index elements = kWinogradTaps * panels(g.out_channels) * g.channels * kTileColumns;
  return packed(w, fmt::format("winograd forward {}", static_cast<int>(form)),
                static_cast<std::size_t>(elements) * sizeof(float), [&](void* to) {
                  Operand passing = w;
                  passing.block = nullptr;
                  transform_weights(pack_forward(g, forward_grid(g), passing, form), {0, 1, 2, 3, 4, 5, 6, 7, 8},
                                    g.channels, g.out_channels, static_cast<float*>(to));
                });
}

std::shared_ptr<const Storage> winograd_backward_input_weights(const ConvGeometry& g, const Operand& w, Form form) {
  const Index elements = kWinogradTaps * panels(g.channels) * g.out_channels * kTileColumns;
  return packed(w, fmt::format("winograd backward input {}", static_cast<int>(form)),
                static_cast<std::size_t>(elements) * sizeof(float), [&](void* to) {
                  Operand passing = w;
                  passing.block = nullptr;
                  transform_weights(pack_backward_input(g, backward_input_phases(g), passing, form),
                                    {8, 7, 6, 5, 4, 3, 2, 1, 0}, g.out_channels, g.channels, static_cast<float*>(to));
                });
}

template <class T>
void winograd(const Tiles& tiles, const Source<T>& source, const Storage& weights, const Result<T>& y) {
  const auto* transformed = reinterpret_cast<const float*>(weights.data());
  const Index depth = source.channels, panel_count = panels(y.columns);
  const Shares shares(tiles, depth, y.columns);
  const bool streams = y.streams(tiles.images * tiles.out_height * tiles.out_width);
  const std::vector<T> zeros(static_cast<std::size_t>(depth));
  parallel_for(shares.panel_groups * shares.blocks, [&](Index share) {
    const Index group = share / shares.blocks, block = share % shares.blocks;
    const Index begin = part(tiles.count(), shares.blocks, block);
    const Index count = part(tiles.count(), shares.blocks, block + 1) - begin;
    const Index first_panel = part(panel_count, shares.panel_groups, group);
    const Index end_panel = part(panel_count, shares.panel_groups, group + 1);
    const Index first = first_panel * kTileColumns, columns = std::min(end_panel * kTileColumns, y.columns) - first;
    const Index input_plane = count * depth + kLine, output_plane = count * columns + kLine;
    const std::shared_ptr<Storage> memory =
        scratch(static_cast<std::size_t>(kWinogradTaps * (input_plane + output_plane)) * sizeof(float));
    auto* inputs = reinterpret_cast<float*>(memory->data());
    float* outputs = inputs + kWinogradTaps * input_plane;
    for (Index i = 0; i < count; ++i)
      transform_input(tiles, source, zeros.data(), begin + i, inputs + i * depth, input_plane);
    std::vector<const float*> rows(static_cast<std::size_t>(count));
    std::vector<Index> positions(rows.size());
    for (Index i = 0; i < count; ++i) positions[static_cast<std::size_t>(i)] = i;
    const Index row_tiles = (count + kTileRows - 1) / kTileRows;
    for (Index tap = 0; tap < kWinogradTaps; ++tap) {
      for (Index i = 0; i < count; ++i) rows[static_cast<std::size_t>(i)] = inputs + tap * input_plane + i * depth;
      for (Index panel = first_panel; panel < end_panel; ++panel) {
        const Index column = panel * kTileColumns;
        for (Index i = 0; i < row_tiles; ++i) {
          const Index row = part(count, row_tiles, i);
          product_tile(ProductTile<float>{.rows = rows.data() + row,
                                          .row_stride = count,
                                          .terms = 1,
                                          .depth = depth,
                                          .weights = transformed + (tap * panel_count * kTileColumns + column) * depth,
                                          .y = outputs + tap * output_plane + column - first,
                                          .y_pitch = columns,
                                          .positions = positions.data() + row,
                                          .count = part(count, row_tiles, i + 1) - row,
                                          .columns = std::min(kTileColumns, y.columns - column)});
        }
      }
    }
    for (Index i = 0; i < count; ++i)
      transform_output(tiles, begin + i, outputs + i * columns, output_plane, first, columns, y, streams);
    if (streams) finish_streams();
  });
}

template void winograd(const Tiles&, const Source<float>&, const Storage&, const Result<float>&);
template void winograd(const Tiles&, const Source<Half>&, const Storage&, const Result<Half>&);

}  // namespace graft::kernels::vectorized
