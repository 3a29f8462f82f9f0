// Ladder: Convolution
//
// y [N, H, W, Co] = 3 x 3 windows of x [N, H, W, Ci], padded with zeros so that the image keeps its size, by w [Co, 3,
// 3, Ci]: 18 Co Ci operations for each pixel. It is a matrix product in disguise: a row for each pixel, a column for
// each output channel, and a depth of 9 Ci, the pixels under the window. Only that this left factor is nine times as
// large as the image it is made from, and the ladder is about never writing it down.
//
//     x          3 x 3 under a pixel        as a row of 9 Ci               w as columns
//   . . . . .        a b c                                                  +--------+
//   . a b c .        d e f      ->     [ a | b | c | d | e | ... | i ]   x  | 9 Ci   |   =   Co channels of
//   . d e f .        g h i              each Ci channels, side by side      |  by Co |       the pixel e
//   . g h i .                                                               +--------+

#include "device/numeric.h"
#include "device/unroll.h"
#include "kernels/conv2d.h"
#include "ladder/rung.h"

namespace graft::ladder::GRAFT_TARGET {
namespace {

constexpr int kTaps = 9;

struct Sizes {
  int batch, height, width, in, out;

  __host__ __device__ int pixels() const { return batch * height * width; }
  __host__ __device__ int depth() const { return kTaps * in; }
};

Sizes sizes(std::span<const Operand> operands) {
  const Shape &x = operands[0].shape, &w = operands[1].shape;
  return {static_cast<int>(x[0]), static_cast<int>(x[1]), static_cast<int>(x[2]), static_cast<int>(x[3]),
          static_cast<int>(w[0])};
}

// Where the number of pixel row `m` and depth `k` of the matrix lies in x; -1 for one of the padding or past the end.
__device__ int place_in_image(const Sizes& s, int m, int k) {
  if (m >= s.pixels() || k >= s.depth()) return -1;
  const int tap = k / s.in, column = m % s.width + tap % 3 - 1, row = m / s.width % s.height + tap / 3 - 1;
  if (row < 0 || row >= s.height || column < 0 || column >= s.width) return -1;
  return ((m / s.width / s.height * s.height + row) * s.width + column) * s.in + k % s.in;
}

}  // namespace

// # Direct: seven loops, of which the threads take four
// Intensity: 2 operations a lane for 1 + 32 sectors a warp: 64 / 1056 = 0.06 operations a byte
// Expected: 1 % of f32, as for the matrix product: the lanes read weights that lie 9 Ci apart
//
// A thread makes one channel of one pixel. Neighbouring lanes have neighbouring output channels, so that y is written
// well and the pixel of x is the same for all; but the weights of neighbouring output channels are far from each other.
namespace {
__global__ void conv_direct_kernel(Sizes s, const float* x, const float* w, float* y) {
  const int channel = block_x() * 32 + thread_x(), pixel = block_y() * 8 + thread_y();
  if (channel >= s.out || pixel >= s.pixels()) return;
  const int column = pixel % s.width, row = pixel / s.width % s.height, image = pixel / s.width / s.height;
  float sum = 0;
  for (int p = 0; p < 3; ++p) {
    for (int q = 0; q < 3; ++q) {
      const int i = row + p - 1, j = column + q - 1;
      if (i < 0 || i >= s.height || j < 0 || j >= s.width) continue;
      const float* under = x + ((image * s.height + i) * s.width + j) * s.in;
      const float* weights = w + (channel * kTaps + p * 3 + q) * s.in;
      for (int c = 0; c < s.in; ++c) sum += under[c] * weights[c];
    }
  }
  y[pixel * s.out + channel] = sum;
}
}  // namespace

GRAFT_RUNG(conv_direct) {
  const Sizes s = sizes(in);
  launch(context, "conv_direct", {blocks(pieces(s.out, 32), pieces(s.pixels(), 8)), dim3(32, 8)}, conv_direct_kernel, s,
         in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # im2col: write the matrix down, then multiply
// Intensity: tiles 32 wide: 8 operations a byte in the product; before it 9 pixels are written and read for each
// Expected: 11 % of f32: the product is the third rung of the matrix ladder (12 %), and 72 Ci bytes a pixel are moved
// beside its 18 Ci Co operations, a tenth of the time with Co = 128
//
// The first kernel copies the pixels under each window into a row of a matrix; the second is a matrix product with
// tiles in shared memory and knows nothing of images. That was how the first frameworks did it: any fast product makes
// a convolution, for the price of a matrix nine times as large as the image.
namespace {
__global__ void conv_im2col_kernel(Sizes s, const float* x, float* matrix) {
  for (Index i = first_index(); i < Index{s.pixels()} * s.depth(); i += index_stride()) {
    const int at = place_in_image(s, static_cast<int>(i / s.depth()), static_cast<int>(i % s.depth()));
    matrix[i] = at >= 0 ? x[at] : 0.f;
  }
}

// y [m, out] = matrix [m, depth] w^T, w [out, depth].
__global__ void conv_product_kernel(Sizes s, const float* matrix, const float* w, float* y) {
  constexpr int kTile = 32, kPitch = kTile + 1;  // a pitch of 33 puts a column into 32 different banks
  GRAFT_SHARED(float, tile_x, (kTile * kPitch));
  GRAFT_SHARED(float, tile_w, (kTile * kPitch));
  const int a = thread_x(), b = thread_y(), depth = s.depth();
  const int channel = block_x() * kTile + a, pixel = block_y() * kTile + b, my_weights = block_x() * kTile + b;
  float sum = 0;
  for (int first = 0; first < depth; first += kTile) {
    const bool inside = first + a < depth;
    tile_x[b * kPitch + a] = inside && pixel < s.pixels() ? matrix[Index{pixel} * depth + first + a] : 0.f;
    tile_w[b * kPitch + a] = inside && my_weights < s.out ? w[my_weights * depth + first + a] : 0.f;
    __syncthreads();
    for (int k = 0; k < kTile; ++k) sum += tile_x[b * kPitch + k] * tile_w[a * kPitch + k];
    __syncthreads();
  }
  if (pixel < s.pixels() && channel < s.out) y[pixel * s.out + channel] = sum;
}
}  // namespace

GRAFT_RUNG(conv_im2col) {
  const Sizes s = sizes(in);
  const Tensor matrix = Tensor::empty({s.pixels(), s.depth()}, DType::f32, context.device);
  auto* const rows = static_cast<float*>(matrix.raw());
  launch(context, "conv_im2col", grid_for(matrix.elements()), conv_im2col_kernel, s, in[0].as<float>(), rows);
  launch(context, "conv_im2col", {blocks(pieces(s.out, 32), pieces(s.pixels(), 32)), dim3(32, 32)}, conv_product_kernel,
         s, rows, in[1].as<float>(), out.as<float>());
}

// # Implicit matrix: the tile is gathered from the image
// Intensity: tiles 32 wide: 8 operations a byte, and nothing beside it
// Expected: 10 % of f32: as before without the matrix, but its addresses cost divisions by numbers that are not known
// when the kernel is compiled
//
// Nobody needs the whole matrix at once. A block asks for a tile of it, and that tile is fetched from the image at
// once: row and depth are taken apart into pixel, tap and channel. The image is small enough for the second-level
// cache, which serves the nine uses of a pixel.
namespace {
__global__ void conv_implicit_kernel(Sizes s, const float* x, const float* w, float* y) {
  constexpr int kTile = 32, kPitch = kTile + 1;
  GRAFT_SHARED(float, tile_x, (kTile * kPitch));
  GRAFT_SHARED(float, tile_w, (kTile * kPitch));
  const int a = thread_x(), b = thread_y(), depth = s.depth();
  const int channel = block_x() * kTile + a, pixel = block_y() * kTile + b, my_weights = block_x() * kTile + b;
  float sum = 0;
  for (int first = 0; first < depth; first += kTile) {
    const int at = place_in_image(s, pixel, first + a);
    tile_x[b * kPitch + a] = at >= 0 ? x[at] : 0.f;
    tile_w[b * kPitch + a] = first + a < depth && my_weights < s.out ? w[my_weights * depth + first + a] : 0.f;
    __syncthreads();
    for (int k = 0; k < kTile; ++k) sum += tile_x[b * kPitch + k] * tile_w[a * kPitch + k];
    __syncthreads();
  }
  if (pixel < s.pixels() && channel < s.out) y[pixel * s.out + channel] = sum;
}
}  // namespace

GRAFT_RUNG(conv_implicit) {
  const Sizes s = sizes(in);
  launch(context, "conv_implicit", {blocks(pieces(s.out, 32), pieces(s.pixels(), 32)), dim3(32, 32)},
         conv_implicit_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Tiles in registers, addresses once: a thread makes 8 pixels by 4 channels
// Intensity: tiles 128 by 64: 2 x 128 x 64 / (4 x 192) = 21 operations a byte; 32 multiply-adds for 3 vectors
// Expected: 50 % of f32: 12 wavefronts for the 8 clocks of 32 multiply-adds
//
// The register tile of the matrix ladder. And a thread fetches for the same pixels in every step, so that it takes them
// apart once; along the depth it takes four neighbouring channels at once, which lie in one tap. Input channels are a
// multiple of 4, output channels too.
namespace {
__global__ void __launch_bounds__(256, 2)
    conv_register_tiles_kernel(Sizes s, const float* x, const float* w, float* y) {
  constexpr int kPixels = 128, kChannels = 64, kDepth = 8;
  constexpr int kPitchX = kPixels + 4, kPitchW = kChannels + 4;
  GRAFT_SHARED(float, tile_x, (kDepth * kPitchX));  // [depth, pixel]
  GRAFT_SHARED(float, tile_w, (kDepth * kPitchW));  // [depth, channel]
  const int thread = thread_x(), first_pixel = block_y() * kPixels, first_channel = block_x() * kChannels;
  const int my_pixel = thread / 16 * 4, my_channel = thread % 16 * 4, four = thread % 2 * 4, line = thread / 2;
  const int pixel = first_pixel + line, depth = s.depth(), channel = first_channel + line;
  const int column = pixel % s.width, row = pixel / s.width % s.height;
  float sums[8][4] = {};
  for (int first = 0; first < depth; first += kDepth) {
    const int k = first + four, tap = k / s.in, i = row + tap / 3 - 1, j = column + tap % 3 - 1;
    const bool in_x = pixel < s.pixels() && k < depth && i >= 0 && i < s.height && j >= 0 && j < s.width;
    const int at = (pixel + (tap / 3 - 1) * s.width + tap % 3 - 1) * s.in + k % s.in;
    const auto some_x = in_x ? load<4>(x + at) : Vector<float, 4>{};
    GRAFT_UNROLL
    for (int e = 0; e < 4; ++e) tile_x[(four + e) * kPitchX + line] = some_x[e];
    if (line < kChannels) {
      const bool in_w = channel < s.out && k < depth;
      const auto some_w = in_w ? load<4>(w + channel * depth + k) : Vector<float, 4>{};
      GRAFT_UNROLL
      for (int e = 0; e < 4; ++e) tile_w[(four + e) * kPitchW + line] = some_w[e];
    }
    __syncthreads();
    GRAFT_UNROLL
    for (int d = 0; d < kDepth; ++d) {
      const Vector<float, 4> left[2] = {load<4>(tile_x + d * kPitchX + my_pixel),
                                        load<4>(tile_x + d * kPitchX + my_pixel + 64)};
      const Vector<float, 4> right = load<4>(tile_w + d * kPitchW + my_channel);
      GRAFT_UNROLL
      for (int m = 0; m < 8; ++m) {
        GRAFT_UNROLL
        for (int n = 0; n < 4; ++n) sums[m][n] += left[m / 4][m % 4] * right[n];
      }
    }
    __syncthreads();
  }
  GRAFT_UNROLL
  for (int m = 0; m < 8; ++m) {
    const int to = first_pixel + my_pixel + m / 4 * 64 + m % 4;
    if (to >= s.pixels() || first_channel + my_channel >= s.out) continue;
    store(y + to * s.out + first_channel + my_channel,
          Vector<float, 4>{{sums[m][0], sums[m][1], sums[m][2], sums[m][3]}});
  }
}
}  // namespace

GRAFT_RUNG(conv_register_tiles) {
  const Sizes s = sizes(in);
  launch(context, "conv_register_tiles", {blocks(pieces(s.out, 64), pieces(s.pixels(), 128)), dim3(256)},
         conv_register_tiles_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

namespace {
void conv_by_graft(Context& context, std::span<const Operand> in, const Operand& out) {
  ConvGeometry g{lay("conv2d", {.kernel = 3, .padding = pad(1)}, in[0].shape), in[1].shape[0], 1};
  kernels::conv2d_forward(context, g, in[0], in[1], {}, {}, Activation::linear, out);
}
}  // namespace

// # In use for f32: three tiles under way
// Intensity: tiles 128 wide: 32 operations a byte
// Expected: 75 % of f32: the core of the matrix product (80 %), and addresses beside it
//
// The matrix product of graft with the image seen through its window as left factor (`Windows` in
// `cuda/device/operands.h`). Pixels and taps are taken apart by multiplication with an inverse that the host computed
// (`cuda/device/divider.h`), and stride, dilation, groups, bias, activation and residual are the same kernel.
GRAFT_RUNG(conv_in_use_f32) { conv_by_graft(context, in, out); }

// # In use: tensor cores
// Intensity: tiles 128 wide of halves: 64 operations a byte
// Expected: 35 % of bf16: the core of the matrix product (40 %), and addresses beside it
//
// The same call with bf16 operands takes the tensor-core tiles of the matrix ladder; that is all there is to it, for a
// convolution is a matrix product. What is counted here are the tiles of mma.sync; a GPU with Hopper's units is timed
// with those at the top of that ladder.
GRAFT_RUNG(conv_in_use) { conv_by_graft(context, in, out); }

}  // namespace graft::ladder::GRAFT_TARGET
