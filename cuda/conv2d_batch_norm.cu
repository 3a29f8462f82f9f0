#include "batch_norm.h"
#include "convolution.h"
#include "kernels/batch_norm.h"
#include "kernels/conv2d_batch_norm.h"

// The convolution's tiles leave with the moments of their rows, so that its result is read once, to be normalised. What
// the moments add to memory traffic is two numbers a channel for each tile, of 32 to 128 rows.
namespace graft::kernels::GRAFT_TARGET {

void conv2d_batch_norm(Context& context, const ConvGeometry& g, const BatchNormAttributes& a,
                       const Conv2dBatchNormOperands& o) {
  if (o.z.elements() == 0) return;
  dispatch_floating("conv2d_batch_norm", o.x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index most_tiles = (o.z.shape.rows() + kLeastTileRows - 1) / kLeastTileRows;
    const Tensor moments = Tensor::empty(Shape{most_tiles, 2, g.out_channels}, dtype_of<Sum>, context.device);
    const int tile_rows =
        forward_product<T>(context, "conv2d", g, o.x, o.w,
                           EpilogueWithMoments<T>{forward_epilogue<T>(g, o.bias, {}, Activation::linear, o.z),
                                                  static_cast<Sum*>(moments.raw()), static_cast<int>(g.out_channels)});
    // There are none of a result whose depth was split, which is small and still in the second-level cache when they
    // are taken from it, and none beside the tiles of Hopper's units, whose result is read once more for them. That is
    // a batch-norm by itself then, of whichever engine computes it best.
    if (tile_rows == 0)
      return kernels::batch_norm_batch(context, a, o.z, o.gamma, o.beta, o.residual, o.moving, o.y, o.saved);
    batch_norm_of_moments(context, a, moments, tile_rows, o.z, o.gamma, o.beta, o.residual, o.moving, o.y, o.saved);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
