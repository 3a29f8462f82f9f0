#pragma once

#include "cpu/vectorized/share.h"
#include "cpu/vectorized/weights.h"

// 3x3 convolutions with stride 1 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray 2015, arXiv:1509.09308):
// the image is cut into tiles of 4x4 results, and with A, B and G made from six points of interpolation
//   y = A^T [ sum over c of (G g_c G^T) * (B^T d_c B) ] A      (* element by element)
// for the 3x3 weights g_c and the 6x6 pixels d_c of each channel. Each of the 36 elements is a product of matrices
// [tiles, Ci] [Ci, Co]: a quarter of the multiplications of the direct sum.
namespace graft::kernels::vectorized {

/// A convolution of a source image with 3x3 windows, the first of which begins pad_top rows above the image.
struct Tiles {
  Index images = 0, height = 0, width = 0;  ///< of the source
  Index pad_top = 0, pad_left = 0, out_height = 0, out_width = 0;

  Index down() const { return (out_height + kWinogradOut - 1) / kWinogradOut; }
  Index across() const { return (out_width + kWinogradOut - 1) / kWinogradOut; }
  Index count() const { return images * down() * across(); }
};

/// True for a geometry that the algorithm is for.
bool winograd_computes(const ConvGeometry& g);
/// True if it was measured to be faster than the direct sum. `kept` says that the transformed weights, four times as
/// large, are kept from call to call.
bool winograd_is_faster(const Tiles& tiles, Index depth, Index columns, bool kept);

Tiles forward_tiles(const ConvGeometry& g);
Tiles backward_input_tiles(const ConvGeometry& g);

/// G g G^T of the weights for y, or of the flipped ones for dx: [36, panel, depth, column]. `form` may be f32 or
/// rounded.
std::shared_ptr<const Storage> winograd_forward_weights(const ConvGeometry& g, const Operand& w, Form form);
std::shared_ptr<const Storage> winograd_backward_input_weights(const ConvGeometry& g, const Operand& w, Form form);

/// T is float, or Half for images in bf16: the transforms and the sums are in f32 all the same.
template <class T>
void winograd(const Tiles& tiles, const Source<T>& source, const Storage& weights, const Result<T>& y);
extern template void winograd(const Tiles&, const Source<float>&, const Storage&, const Result<float>&);
extern template void winograd(const Tiles&, const Source<Half>&, const Storage&, const Result<Half>&);

}  // namespace graft::kernels::vectorized
