#pragma once

#include <memory>

#include "core/packed.h"
#include "cpu/vectorized/grid.h"

// Weights in panels of kTileColumns columns, [panel, term, depth, column], so that a tile reads them in order. The last
// panel has the columns that are left, filled up with zeros to one vector or two. For bf16 they are rounded, and stand
// in pairs of neighbours in depth.
namespace graft::kernels::vectorized {

inline Index panels(Index columns) { return (columns + kTileColumns - 1) / kTileColumns; }
inline Index panel_width(Index columns) { return columns > kVectorColumns ? kTileColumns : kVectorColumns; }
/// The depth of a term in memory.
template <class T>
Index stored_depth(Index depth) {
  return std::is_same_v<T, Half> ? (depth + 1) / 2 * 2 : depth;
}

struct Panels {
  std::shared_ptr<const Storage> storage = nullptr;
  Index group_elements = 0;  ///< of one group's

  template <class T>
  const T* group(Index g) const {
    return reinterpret_cast<const T*>(storage->data()) + g * group_elements;
  }
};

/// Which numbers the weights become: f32 as they are, f32 rounded to bf16, or pairs of bf16.
enum class Form : std::uint8_t { f32, rounded, pairs };

/// Of w [Co, Kh, Kw, Ci / groups] for y: the terms are the grid's, columns the output channels of a group.
Panels pack_forward(const ConvGeometry& g, const Grid& grid, const Operand& w, Form form);
/// For dx: terms are the taps of one phase after the other, depth the output channels of a group, columns its input's.
Panels pack_backward_input(const ConvGeometry& g, const std::vector<Phase>& phases, const Operand& w, Form form);

}  // namespace graft::kernels::vectorized
