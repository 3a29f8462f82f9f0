#pragma once

#include <array>
#include <cstdint>

#include "device/language.h"

#if defined(__CUDACC__)
#include <cuda.h>  // for CUtensorMap alone: nothing of the driver is linked
#endif

namespace graft::GRAFT_TARGET::hopper {

/// What a tensor map says: a tensor of halves in global memory, and the boxes that TMA copies from it. A box is 64
/// halves of the innermost axis, 128 bytes, by so many rows, which arrive in the swizzled order of hopper/layout.h.
/// What lies outside of the tensor arrives as zeros.
///
/// Tiled: the coordinates of a box are those of its first element, and its rows are `box_rows` neighbours along the
/// axis `rows_axis`.
///
/// Windows (TMA's im2col mode, PTX ISA 5.5.4): the tensor is an image [C, W, H, N]; the first element's w and h walk
/// in steps of `stride` over the bounding box [lower, extent - 1 + upper], from left to right, down, and on to the next
/// image, while each row is read at (w, h) plus an offset that every copy gives: the tap of the window.
struct MapDescription {
  static constexpr int kAxes = 4;

  const void* data = nullptr;
  bool bfloat = false;  ///< bfloat16, not float16
  bool windows = false;
  std::array<std::uint64_t, kAxes> extents{};  ///< in elements, innermost first
  std::array<std::uint64_t, kAxes> strides{};  ///< in bytes; the first is that of an element
  std::uint32_t box_rows = 0;
  int rows_axis = 2;
  std::array<int, 2> lower{}, upper{}, stride{1, 1};  ///< of windows: across, down
  std::array<int, 2> farthest{};                      ///< the largest offset that a copy gives
};

/// The rule of TMA that such a map breaks, in words, or null if there can be one.
const char* broken_rule(const MapDescription& map);

#if defined(__CUDACC__)
using TensorMap = CUtensorMap;
#else
using TensorMap = MapDescription;
#endif

/// The map as TMA reads it. The driver's function that encodes it is asked for at run time. Throws Error if it refuses.
TensorMap encode(const MapDescription& map);

}  // namespace graft::GRAFT_TARGET::hopper
