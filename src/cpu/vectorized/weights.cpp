#include "cpu/vectorized/weights.h"

#include <array>

#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/parallel.h"

namespace graft::kernels::vectorized {
namespace {

constexpr Index kPairsBehind = 32 * kTileColumns;  // of a group: zeros, since AMX reads depths in steps of 32
constexpr Index kChunk = 256;                      // of a panel's rows that a task writes

std::string layout(std::string_view use, const ConvGeometry& g, Form form) {
  return fmt::format("panels {} {} {} {} {}x{} {}", use, static_cast<int>(form), g.out_channels, g.channels,
                     g.kernel_height, g.kernel_width, g.groups);
}

template <class T>
void copy(const Operand& w, Index from, Index count, T* to) {
  if (w.dtype == DType::f32)
    std::copy_n(w.as<float>() + from, count, to);
  else
    std::transform(w.as<bfloat16>() + from, w.as<bfloat16>() + from + count, to, [](bfloat16 v) { return T(v); });
}

// A chunk of a panel on its way to its form.
class Chunk {
 public:
  // The panel's columns are sequences of w, `pitch` apart.
  void transpose(const Operand& w, Index from, Index pitch, Index columns, Index depth) {
    depth_ = depth;
    width_ = panel_width(columns);
    if (w.dtype == DType::f32) {
      transpose_panel(w.as<float>() + from, pitch, columns, depth, values_.data());
      return;
    }
    std::array<float, static_cast<std::size_t>(kChunk * kTileColumns)> wide;
    for (Index c = 0; c < columns; ++c) copy(w, from + c * pitch, depth, wide.data() + c * kChunk);
    transpose_panel(wide.data(), kChunk, columns, depth, values_.data());
  }
  // The panel's rows are.
  void copy_rows(const Operand& w, Index from, Index pitch, Index columns, Index depth) {
    depth_ = depth;
    width_ = panel_width(columns);
    float* to = values_.data();
    for (Index k = 0; k < depth; ++k, to += width_) {
      copy(w, from + k * pitch, columns, to);
      std::fill(to + columns, to + width_, 0.f);
    }
  }
  // To element `at` of a panel's term.
  void write(Form form, void* memory, Index at) const {
    if (form == Form::pairs) return pair_panel(values_.data(), depth_, width_, static_cast<Half*>(memory) + at);
    float* to = static_cast<float*>(memory) + at;
    if (form == Form::f32)
      std::copy_n(values_.data(), depth_ * width_, to);
    else
      std::transform(values_.data(), values_.data() + depth_ * width_, to, [](float v) { return float(bfloat16(v)); });
  }

 private:
  Index depth_ = 0, width_ = 0;
  std::array<float, static_cast<std::size_t>(kChunk* kTileColumns)> values_;
};

// Calls fill(chunk, group, term, first column, columns, first of depth, depth) for all chunks, and writes them.
template <class Fill>
void write_panels(const Panels& to, Index groups, Index terms, Index depth, Index columns, Form form, void* memory,
                  const Fill& fill) {
  const Index count = panels(columns), chunks = (depth + kChunk - 1) / kChunk;
  const Index stored = form == Form::pairs ? stored_depth<Half>(depth) : depth;
  for (Index group = 0; form == Form::pairs && group < groups; ++group) {
    const Index first = (count - 1) * kTileColumns, width = panel_width(columns - first);
    Half* const begin = static_cast<Half*>(memory) + group * to.group_elements;
    std::fill(begin + (first + width) * terms * stored, begin + to.group_elements, Half{});
  }
  parallel_for(groups * count * terms * chunks, [&](Index i) {
    const Index k = i % chunks * kChunk, term = i / chunks % terms, first = i / chunks / terms % count * kTileColumns;
    const Index group = i / chunks / terms / count, in_panel = std::min(kTileColumns, columns - first);
    const Index rows = std::min(kChunk, depth - k), width = panel_width(in_panel);
    Chunk chunk;
    fill(chunk, group, term, first, in_panel, k, rows);
    chunk.write(form, memory, group * to.group_elements + first * terms * stored + term * stored * width + k * width);
  });
}

Panels allocate(Index groups, Index terms, Index depth, Index columns, Form form, std::size_t& bytes) {
  const Index stored = form == Form::pairs ? stored_depth<Half>(depth) : depth;
  const Index behind = form == Form::pairs ? kPairsBehind : 0;
  Panels result{.group_elements = panels(columns) * terms * stored * kTileColumns + behind};
  bytes =
      static_cast<std::size_t>(groups * result.group_elements) * (form == Form::pairs ? sizeof(Half) : sizeof(float));
  return result;
}

}  // namespace

Panels pack_forward(const ConvGeometry& g, const Grid& grid, const Operand& w, Form form) {
  const Index terms = grid.terms(), depth = grid.run * g.in_group();
  std::size_t bytes = 0;
  Panels result = allocate(g.groups, terms, depth, g.out_group(), form, bytes);
  result.storage = packed(w, layout("forward", g, form), bytes, [&](void* memory) {
    write_panels(result, g.groups, terms, depth, g.out_group(), form, memory,
                 [&](Chunk& chunk, Index group, Index term, Index first, Index columns, Index k, Index rows) {
                   const Index from = ((group * g.out_group() + first) * terms + term) * depth + k;
                   chunk.transpose(w, from, terms * depth, columns, rows);
                 });
  });
  return result;
}

Panels pack_backward_input(const ConvGeometry& g, const std::vector<Phase>& phases, const Operand& w, Form form) {
  const Index taps = g.kernel_height * g.kernel_width, depth = g.out_group();
  std::vector<Index> order;  // of taps
  std::string name = layout("backward input", g, form);
  for (const Phase& phase : phases) {
    for (const Index tap : phase.taps) {
      order.push_back(tap);
      name += fmt::format(" {}", tap);
    }
  }
  std::size_t bytes = 0;
  Panels result = allocate(g.groups, taps, depth, g.in_group(), form, bytes);
  result.storage = packed(w, name, bytes, [&](void* memory) {
    write_panels(result, g.groups, taps, depth, g.in_group(), form, memory,
                 [&](Chunk& chunk, Index group, Index term, Index first, Index columns, Index k, Index rows) {
                   const Index tap = order[static_cast<std::size_t>(term)];
                   const Index from = ((group * depth + k) * taps + tap) * g.in_group() + first;
                   chunk.copy_rows(w, from, taps * g.in_group(), columns, rows);
                 });
  });
  return result;
}

}  // namespace graft::kernels::vectorized
