#pragma once

#include "graft/core/context.h"

#include "device/epilogue.h"
#include "hopper/tensor_map.h"

// The product C = epilogue(A B) of device/gemm.h as the Hopper kernel sees it: not as addresses of elements but as
// boxes that TMA cuts out of tensors.
namespace graft::GRAFT_TARGET::hopper {

/// The side that is summed over: taps, in rows, of channels each. A matrix has one tap for each of its terms.
struct Depth {
  int channels = 0, taps_across = 1, taps_down = 1;

  int taps() const { return taps_across * taps_down; }
};

/// A factor as the host describes it. Tiled, its axes are {inner, tap, outer, product}: of lines and channels one lies
/// inner and the other outer, and tap (p, q) is number first_across + q step_across + p step_down. Of windows, the
/// offset of tap (p, q) is (first_across + q step_across, first_down + p step_down), from pixel (b, a) stride + lower.
struct FactorDescription {
  MapDescription map = {};
  int lines = 0;  ///< rows of A, columns of B
  int first_across = 0, step_across = 0, first_down = 0, step_down = 0;
  bool each_product = false;          ///< has matrices of its own for each product
  Divider pixels = {}, columns = {};  ///< of windows: in the grid of one image, and in one of its rows
  Depth line_taps = {};  ///< of windows whose lines are channels of taps: what they are; else one tap of all lines
};

/// Where the products lie in C.
struct ProductBatch {
  Index step = 0;

  __device__ auto operator()(int product, int) const {
    struct {
      Index a, b, c;
    } const bases{0, 0, product * step};
    return bases;
  }
};

/// A whole product, on the host.
template <class To>
struct ProductDescription {
  FactorDescription a, b;
  bool depth_inner_a = true, depth_inner_b = true;
  Depth depth;
  ProductBatch batch;
  Epilogue<To> epilogue;
  int rows = 0, columns = 0, products = 1;
  int tile_columns = 0;  ///< 64, 128 or 256; 0 for the one that suits the shape
};

/// Whether the path may be taken: the Context's device is a GPU of compute capability 9.0 and this source is proved
/// (benchmarks/results/proved-kernels.json) or the Context allows what is not; the emulated device only by the latter.
bool allowed(const Context& context);

/// Launches the product on factors of type T. False if a factor breaks a rule of TMA: then nothing was launched.
template <class T, class To>
bool multiply(const Context& context, const char* name, const ProductDescription<To>& description);

}  // namespace graft::GRAFT_TARGET::hopper
