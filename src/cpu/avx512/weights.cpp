#include "cpu/avx512/weights.h"

#include "core/format.h"
#include "core/parallel.h"

namespace graft::kernels::avx512 {
namespace {

std::string layout(std::string_view use, const ConvGeometry& g) {
  return fmt::format("avx512 {} {} {} {}x{} {}", use, g.out_channels, g.channels, g.kernel_height, g.kernel_width, g.groups);
}

}  // namespace

Panels pack_forward(const ConvGeometry& g, const Operand& w) {
  constexpr Index kChunk = 256;  // of a panel's rows
  const Index length = g.kernel_height * g.kernel_width * g.in_group(), count = panels(g.out_group());
  Panels result{.group_elements = count * length * kTileColumns};
  const auto bytes = static_cast<std::size_t>(g.groups * result.group_elements) * sizeof(float);
  result.storage = packed(w, layout("forward", g), bytes, [&](void* memory) {
    const Index chunks = (length + kChunk - 1) / kChunk;
    parallel_for(g.groups * count * chunks, [&](Index i) {
      const Index group = i / (count * chunks), first = i / chunks % count * kTileColumns, k = i % chunks * kChunk;
      const Index columns = std::min(kTileColumns, g.out_group() - first);
      const float* from = w.as<float>() + (group * g.out_group() + first) * length + k;
      float* to = static_cast<float*>(memory) + group * result.group_elements + first * length + k * panel_width(columns);
      transpose_panel(from, length, columns, std::min(kChunk, length - k), to);
    });
  });
  return result;
}

Panels pack_backward_input(const ConvGeometry& g, const std::vector<Phase>& phases, const Operand& w) {
  const Index taps = g.kernel_height * g.kernel_width, depth = g.out_group(), count = panels(g.in_group());
  Panels result{.group_elements = count * taps * depth * kTileColumns};
  std::vector<Index> order;  // of taps
  std::string name = layout("backward input", g);
  for (const Phase& phase : phases) {
    for (Index p = 0; p < phase.grid.rows.taps; ++p) {
      for (Index q = 0; q < phase.grid.columns.taps; ++q) {
        order.push_back((phase.first_row_tap + p * phase.row_tap_stride) * g.kernel_width + phase.first_column_tap +
                        q * phase.column_tap_stride);
        name += fmt::format(" {}", order.back());
      }
    }
  }
  const auto bytes = static_cast<std::size_t>(g.groups * result.group_elements) * sizeof(float);
  result.storage = packed(w, name, bytes, [&](void* memory) {
    parallel_for(g.groups * count * taps, [&](Index i) {
      const Index group = i / (count * taps), panel = i / taps % count, term = i % taps;
      const Index first = panel * kTileColumns, columns = std::min(kTileColumns, g.in_group() - first);
      const Index width = panel_width(columns);
      const float* from = w.as<float>() + (group * depth * taps + order[static_cast<std::size_t>(term)]) * g.in_group() + first;
      float* to = static_cast<float*>(memory) + group * result.group_elements +
                  first * taps * depth + term * depth * width;
      for (Index k = 0; k < depth; ++k, to += width, from += taps * g.in_group())
        std::fill(std::copy_n(from, columns, to), to + width, 0.f);
    });
  });
  return result;
}

}  // namespace graft::kernels::avx512
