// Ladder: Depthwise convolution
//
// y [N, H, W, C]: each channel of x [N, H, W, C] by itself under its own 3 x 3 window w [3, 3, C], padded with zeros.
// That is 18 operations for an element that is read and one that is written: 2.25 operations a byte in f32, a tenth of
// what an H100 has arithmetic for (22). The roofline is the memory's, 8 bytes an element, and the ladder is about
// reading every pixel nine times without asking the caches for it nine times.
//
//    channels lie side by side       a thread's strip: 4 results from 3 x 6 pixels, for 4 channels
//      +---------------+
//     /: : : : : : : :/|                 x x x x x x
//    +---------------+ |                 x x x x x x    ->   y y y y
//    | pixel, pixel, | +                 x x x x x x
//    | ...           |/
//    +---------------+

#include "device/numeric.h"
#include "device/unroll.h"
#include "kernels/depthwise_conv2d.h"
#include "ladder/rung.h"

namespace graft::ladder::GRAFT_TARGET {
namespace {

struct Sizes {
  int batch, height, width, channels;

  __host__ __device__ int pixels() const { return batch * height * width; }
  __device__ bool inside(int row, int column) const {
    return row >= 0 && row < height && column >= 0 && column < width;
  }
};

Sizes sizes(std::span<const Operand> in) {
  const Shape& x = in[0].shape;
  return {static_cast<int>(x[0]), static_cast<int>(x[1]), static_cast<int>(x[2]), static_cast<int>(x[3])};
}

}  // namespace

// # One thread an element, pixel by pixel: a warp walks along a row of one channel
// Intensity: 18 operations a lane for 9 x 32 sectors of x a warp: 0.06 operations a byte
// Expected: 5 % of memory, for 297 requests to lines a warp take 297 clocks, in which memory could bring 3,400 bytes;
// the warp wants 256
//
// How one would do it for images whose channels are planes. Here channels lie side by side, so that the lanes of a warp
// are C numbers apart and every load touches 32 lines.
namespace {
__global__ void depthwise_naive_kernel(Sizes s, const float* x, const float* w, float* y) {
  const int pixel = block_x() * 32 + thread_x(), channel = block_y() * 8 + thread_y();
  if (pixel >= s.pixels() || channel >= s.channels) return;
  const int column = pixel % s.width, row = pixel / s.width % s.height;
  float sum = 0;
  for (int p = -1; p <= 1; ++p) {
    for (int q = -1; q <= 1; ++q) {
      if (!s.inside(row + p, column + q)) continue;
      sum += x[(pixel + p * s.width + q) * s.channels + channel] * w[((p + 1) * 3 + q + 1) * s.channels + channel];
    }
  }
  y[pixel * s.channels + channel] = sum;
}
}  // namespace

GRAFT_RUNG(depthwise_naive) {
  const Sizes s = sizes(in);
  launch(context, "depthwise_naive", {blocks(pieces(s.pixels(), 32), pieces(s.channels, 8)), dim3(32, 8)},
         depthwise_naive_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Coalesced: a warp takes 32 channels of a pixel
// Intensity: 18 operations for 9 numbers of x and 9 of w and a result: 0.24 operations a byte of the first-level cache
// Expected: 60 % of memory: 19 requests to a line take 19 clocks, and memory takes 22 for the 256 bytes: both near
// their limit, with the instructions for addresses and border on top
//
// The lanes are neighbouring channels. Every request is a whole line of the cache, and so is the border of the image
// the same for all lanes. What is left is their number: nine of x and nine of w for one result.
namespace {
__global__ void depthwise_coalesced_kernel(Sizes s, const float* x, const float* w, float* y) {
  const int channel = block_x() * 32 + thread_x(), pixel = block_y() * 8 + thread_y();
  if (pixel >= s.pixels() || channel >= s.channels) return;
  const int column = pixel % s.width, row = pixel / s.width % s.height;
  float sum = 0;
  for (int p = -1; p <= 1; ++p) {
    for (int q = -1; q <= 1; ++q) {
      if (!s.inside(row + p, column + q)) continue;
      sum += x[(pixel + p * s.width + q) * s.channels + channel] * w[((p + 1) * 3 + q + 1) * s.channels + channel];
    }
  }
  y[pixel * s.channels + channel] = sum;
}
}  // namespace

GRAFT_RUNG(depthwise_coalesced) {
  const Sizes s = sizes(in);
  launch(context, "depthwise_coalesced", {blocks(pieces(s.channels, 32), pieces(s.pixels(), 8)), dim3(32, 8)},
         depthwise_coalesced_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # Tiles in shared memory: a block of 8 x 8 pixels shares its 10 x 10
// Intensity: 18 operations for 100 / 64 numbers of x, a result and 9 numbers of w: 0.39 operations a byte of the caches
// Expected: 55 % of memory: the nine reads of x are now wavefronts of shared memory, which are no cheaper than a line
// of the first-level cache; a barrier and 1.56 reads of a pixel come on top
//
// What helps the matrix product does little here: a number is used nine times, not 128, and the first-level cache,
// which is the same memory, would have served these nine anyway. A rung to the side, to be measured before it is
// believed.
namespace {
__global__ void __launch_bounds__(256) depthwise_tiles_kernel(Sizes s, const float* x, const float* w, float* y) {
  constexpr int kSide = 8, kUnder = kSide + 2;
  GRAFT_SHARED(float, tile, (kUnder * kUnder * kWarp));
  const int lane = thread_x(), channel = block_x() * kWarp + lane, across = pieces(s.width, kSide);
  const int image = static_cast<int>(blockIdx.z), top = block_y() / across * kSide, left = block_y() % across * kSide;
  const bool mine = channel < s.channels;
  for (int i = thread_y(); i < kUnder * kUnder; i += 8) {
    const int row = top + i / kUnder - 1, column = left + i % kUnder - 1;
    const bool inside = mine && s.inside(row, column);
    tile[i * kWarp + lane] = inside ? x[((image * s.height + row) * s.width + column) * s.channels + channel] : 0.f;
  }
  __syncthreads();
  if (!mine) return;
  for (int i = thread_y(); i < kSide * kSide; i += 8) {
    const int a = i / kSide, b = i % kSide;
    if (top + a >= s.height || left + b >= s.width) continue;
    float sum = 0;
    for (int tap = 0; tap < 9; ++tap)
      sum += tile[((a + tap / 3) * kUnder + b + tap % 3) * kWarp + lane] * w[tap * s.channels + channel];
    y[((image * s.height + top + a) * s.width + left + b) * s.channels + channel] = sum;
  }
}
}  // namespace

GRAFT_RUNG(depthwise_tiles) {
  const Sizes s = sizes(in);
  launch(context, "depthwise_tiles",
         {blocks(pieces(s.channels, 32), pieces(s.height, 8) * pieces(s.width, 8), s.batch), dim3(32, 8)},
         depthwise_tiles_kernel, s, in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # A strip in registers: 4 channels a vector, a window that slides along a row
// Intensity: for 8 results 3 x 10 pixels and 9 taps: 18 x 8 / (4 x 47) = 0.77 operations a byte of the caches
// Expected: 85 % of memory: 6 lines a result instead of 19, so that the caches could serve three times what memory
// brings
//
// A thread makes eight neighbouring results. It keeps the three columns under the window and the nine taps in
// registers; at each step the window moves on by a pixel, and one column of three is new. Each load brings four
// channels, so that there are four times fewer instructions, and each has four times as many bytes under way. Channels
// are a multiple of 4.
namespace {
__global__ void __launch_bounds__(128) depthwise_strip_kernel(Sizes s, const float* x, const float* w, float* y) {
  constexpr int kStrip = 8;
  using Four = Vector<float, 4>;
  const int vectors = s.channels / 4, strips = pieces(s.width, kStrip), item = block_x() * 128 + thread_x();
  if (item >= s.batch * s.height * strips * vectors) return;
  const int channel = item % vectors * 4, strip = item / vectors % strips, line = item / vectors / strips;
  const int row = line % s.height, first = strip * kStrip;
  const auto column_at = [&](int column, Four(&to)[3]) {
    GRAFT_UNROLL
    for (int p = 0; p < 3; ++p) {
      const bool inside = s.inside(row + p - 1, column);
      to[p] = inside ? load<4>(x + ((line + p - 1) * s.width + column) * s.channels + channel) : Four{};
    }
  };
  Four taps[9], under[3][3];  // the window by columns; the one that was first becomes the last
  GRAFT_UNROLL
  for (int tap = 0; tap < 9; ++tap) taps[tap] = load<4>(w + tap * s.channels + channel);
  column_at(first - 1, under[0]);
  column_at(first, under[1]);
  GRAFT_UNROLL
  for (int i = 0; i < kStrip; ++i) {
    if (first + i >= s.width) break;
    column_at(first + i + 1, under[(i + 2) % 3]);
    Four sum{};
    GRAFT_UNROLL
    for (int tap = 0; tap < 9; ++tap) {
      GRAFT_UNROLL
      for (int k = 0; k < 4; ++k) sum[k] += under[(i + tap % 3) % 3][tap / 3][k] * taps[tap][k];
    }
    store(y + (line * s.width + first + i) * s.channels + channel, sum);
  }
}
}  // namespace

GRAFT_RUNG(depthwise_strip) {
  const Sizes s = sizes(in);
  const int items = s.batch * s.height * pieces(s.width, 8) * (s.channels / 4);
  launch(context, "depthwise_strip", {blocks(pieces(items, 128)), dim3(128)}, depthwise_strip_kernel, s,
         in[0].as<float>(), in[1].as<float>(), out.as<float>());
}

// # In use: strips of four, all loads of a row at once
// Intensity: for 4 results 3 x 6 pixels and 9 taps: 18 x 4 / (4 x 31) = 0.58 operations a byte of the first-level cache
// Expected: 90 % of memory: 8 lines a result are enough, and six loads are under way where the sliding window waits for
// three
//
// `cuda/depthwise_conv2d.cu`: shorter strips, for a thread that holds less leaves room for more threads, and its loads
// of a window's row do not depend on each other. Halves come eight at once; stride, dilation, bias and activation are
// there.
GRAFT_RUNG(depthwise_in_use) {
  const DepthwiseGeometry g{lay("depthwise_conv2d", {.kernel = 3, .padding = pad(1)}, in[0].shape)};
  kernels::depthwise_conv2d_forward(context, g, in[0], in[1], {}, Activation::linear, out);
}

}  // namespace graft::ladder::GRAFT_TARGET
