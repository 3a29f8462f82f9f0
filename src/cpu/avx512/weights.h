#pragma once

#include <memory>

#include "core/packed.h"
#include "cpu/avx512/grid.h"

// Weights in panels of kTileColumns columns, [panel, term, depth, column], so that a tile reads them in order. The last
// panel has the columns that are left, filled up with zeros to one vector or two.
namespace graft::kernels::avx512 {

inline Index panels(Index columns) { return (columns + kTileColumns - 1) / kTileColumns; }
inline Index panel_width(Index columns) { return columns > kVectorColumns ? kTileColumns : kVectorColumns; }

struct Panels {
  std::shared_ptr<const Storage> storage = nullptr;
  Index group_elements = 0;  ///< of one group's

  const float* group(Index g) const { return reinterpret_cast<const float*>(storage->data()) + g * group_elements; }
};

/// Of w [Co, Kh, Kw, Ci / groups] for y: terms are taps, columns the output channels of a group.
Panels pack_forward(const ConvGeometry& g, const Operand& w);
/// For dx: terms are the taps of one phase after the other, depth the output channels of a group, columns its input's.
Panels pack_backward_input(const ConvGeometry& g, const std::vector<Phase>& phases, const Operand& w);

}  // namespace graft::kernels::avx512
