// Ladder: Batch-norm in training, with ReLU
//
// y = relu(gamma (x - mean) / sqrt(variance + epsilon) + beta) of x [M, C], where mean and variance are those of each
// channel over all M rows, the pixels of the batch. Every x is needed before the first y can be made: x is read twice
// and y written once, 12 bytes an element in f32 for some 8 operations. The roofline is the memory's, and the ladder is
// about having enough threads for sums that cross the whole tensor, and about numbers that cancel.
//
//          C channels
//     +--+--+--+--+--+--+     a block has some channels and a part of the rows;
//     |  |  |  |  |  |  |     its threads go down, meet in a tree, and leave one
//   M |  |  v  v  v  |  |     pair of numbers a channel; a second, small kernel
//     |  |  |  |  |  |  |     brings the parts of a channel together
//     +--+--+--+--+--+--+

#include <cmath>

#include "graft/core/tensor.h"

#include "device/numeric.h"
#include "device/unroll.h"
#include "kernels/batch_norm.h"
#include "ladder/rung.h"

// in: x [M, C], gamma [C], beta [C], moving mean [C], moving variance [C], which only the kernel in use updates.
namespace graft::ladder::GRAFT_TARGET {
namespace {

constexpr float kEpsilon = 1e-3f;

struct Sizes {
  int rows, channels;
};

Sizes sizes(std::span<const Operand> in) {
  return {static_cast<int>(in[0].shape[0]), static_cast<int>(in[0].shape[1])};
}

// The memory of `n` numbers a channel, which lives until the rung returns: later launches wait in the same stream.
struct Scratch {
  Tensor tensor;
  float* numbers;

  Scratch(const Context& context, Index n, int channels)
      : tensor(Tensor::empty({n, channels}, DType::f32, context.device)), numbers(static_cast<float*>(tensor.raw())) {}
};

// y = gamma (x - mean) inverse + beta, of statistics [2, C]: mean, then variance.
__global__ void batch_norm_apply_kernel(Sizes s, const float* x, const float* gamma, const float* beta,
                                        const float* statistics, float* y) {
  for (Index i = first_index(); i < Index{s.rows} * s.channels; i += index_stride()) {
    const int c = static_cast<int>(i % s.channels);
    const float inverse = 1 / std::sqrt(statistics[s.channels + c] + kEpsilon);
    y[i] = gamma[c] * (x[i] - statistics[c]) * inverse + beta[c];
  }
}

__global__ void batch_norm_relu_kernel(Index count, float* y) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const float value = y[i];
    y[i] = value > 0 ? value : 0.f;
  }
}

void apply_and_relu(Context& context, const char* name, std::span<const Operand> in, const float* statistics,
                    const Operand& out) {
  launch(context, name, grid_for(out.elements()), batch_norm_apply_kernel, sizes(in), in[0].as<float>(),
         in[1].as<float>(), in[2].as<float>(), statistics, out.as<float>());
  launch(context, name, grid_for(out.elements()), batch_norm_relu_kernel, out.elements(), out.as<float>());
}

}  // namespace

// # A thread a channel: two loops down the rows
// Intensity: x is read three times and y written twice and read once: 24 bytes for 8 operations
// Expected: 0.3 % of memory: C threads are all there are; with C = 256 they are 8 warps, each with some four lines of
// 128 bytes under way for 600 ns, 7 GB/s
//
// The definition: the mean, then the mean of the squared distances from it, then the result, then ReLU. Lanes are
// neighbouring channels, so that every request is a whole line; what is missing is threads. A multiprocessor hides the
// way to memory, some thousand clocks, only if many warps wait at once, and here 124 of 132 have none.
namespace {
__global__ void batch_norm_naive_kernel(Sizes s, const float* x, float* statistics) {
  const int c = block_x() * 32 + thread_x();
  if (c >= s.channels) return;
  float sum = 0, squares = 0;
  for (int r = 0; r < s.rows; ++r) sum += x[r * s.channels + c];
  const float mean = sum / static_cast<float>(s.rows);
  for (int r = 0; r < s.rows; ++r) {
    const float distance = x[r * s.channels + c] - mean;
    squares += distance * distance;
  }
  statistics[c] = mean;
  statistics[s.channels + c] = squares / static_cast<float>(s.rows);
}
}  // namespace

GRAFT_RUNG(batch_norm_naive) {
  const Sizes s = sizes(in);
  const Scratch statistics(context, 2, s.channels);
  launch(context, "batch_norm_naive", {blocks(pieces(s.channels, 32)), dim3(32)}, batch_norm_naive_kernel, s,
         in[0].as<float>(), statistics.numbers);
  apply_and_relu(context, "batch_norm_naive", in, statistics.numbers, out);
}

// # Atomics: every element adds itself to its channel
// Intensity: x is read once for both sums, but each element also adds 8 bytes to numbers that all threads share
// Expected: 10 % of memory: the second-level cache does the additions, and those to one line one after the other
//
// Threads enough: one an element. Two sums in one pass, of x and of its square, for the variance is the mean of the
// squares less the square of the mean. That has two prices. Additions arrive in any order, so that two runs differ in
// the last bits; and where the mean is large the two terms are nearly equal and their difference is noise.
namespace {
__global__ void batch_norm_clear_kernel(int count, float* sums) {
  for (Index i = first_index(); i < count; i += index_stride()) sums[i] = 0;
}

__global__ void batch_norm_atomics_kernel(Sizes s, const float* x, float* sums) {
  for (Index i = first_index(); i < Index{s.rows} * s.channels; i += index_stride()) {
    const int c = static_cast<int>(i % s.channels);
    const float value = x[i];
    atomicAdd(sums + c, value);
    atomicAdd(sums + s.channels + c, value * value);
  }
}

__global__ void batch_norm_divide_kernel(Sizes s, float* sums) {
  const int c = block_x() * 32 + thread_x();
  if (c >= s.channels) return;
  const float mean = sums[c] / static_cast<float>(s.rows);
  sums[c] = mean;
  sums[s.channels + c] = sums[s.channels + c] / static_cast<float>(s.rows) - mean * mean;
}
}  // namespace

GRAFT_RUNG(batch_norm_atomics) {
  const Sizes s = sizes(in);
  const Scratch sums(context, 2, s.channels);
  const char* const name = "batch_norm_atomics";
  launch(context, name, grid_for(2 * s.channels), batch_norm_clear_kernel, 2 * s.channels, sums.numbers);
  launch(context, name, grid_for(in[0].elements()), batch_norm_atomics_kernel, s, in[0].as<float>(), sums.numbers);
  launch(context, name, {blocks(pieces(s.channels, 32)), dim3(32)}, batch_norm_divide_kernel, s, sums.numbers);
  apply_and_relu(context, name, in, sums.numbers, out);
}

// # A tree: threads meet in shared memory, blocks in a second kernel
// Intensity: x is read twice, y written twice and read once: 20 bytes for 8 operations
// Expected: 55 % of memory: 20 bytes are moved where 12 would do
//
// A block has 32 channels and 256 rows; each of its 8 warps goes down 32 of the rows, and the eight sums of a channel
// meet in three rounds. What a block found goes to memory, and a second kernel adds the blocks of a channel, always in
// the same order. No number depends on which thread was first.
namespace {
constexpr int kRowsABlock = 256;

__global__ void __launch_bounds__(256) batch_norm_tree_kernel(Sizes s, const float* x, float* parts) {
  GRAFT_SHARED(float, sums, 256);
  GRAFT_SHARED(float, squares, 256);
  const int lane = thread_x(), line = thread_y(), c = block_x() * 32 + lane, at = line * 32 + lane;
  const int first = block_y() * kRowsABlock, last = first + kRowsABlock < s.rows ? first + kRowsABlock : s.rows;
  float sum = 0, square = 0;
  for (int r = first + line; c < s.channels && r < last; r += 8) {
    const float value = x[r * s.channels + c];
    sum += value;
    square += value * value;
  }
  sums[at] = sum;
  squares[at] = square;
  for (int half = 4; half > 0; half /= 2) {
    __syncthreads();
    if (line >= half) continue;
    sums[at] += sums[at + half * 32];
    squares[at] += squares[at + half * 32];
  }
  if (line > 0 || c >= s.channels) return;
  float* const part = parts + Index{block_y()} * 2 * s.channels;
  part[c] = sums[at];
  part[s.channels + c] = squares[at];
}

__global__ void batch_norm_parts_kernel(Sizes s, int count, const float* parts, float* statistics) {
  const int c = block_x() * 32 + thread_x();
  if (c >= s.channels) return;
  float sum = 0, square = 0;
  for (int part = 0; part < count; ++part) {
    sum += parts[part * 2 * s.channels + c];
    square += parts[(part * 2 + 1) * s.channels + c];
  }
  const float mean = sum / static_cast<float>(s.rows);
  statistics[c] = mean;
  statistics[s.channels + c] = square / static_cast<float>(s.rows) - mean * mean;
}
}  // namespace

GRAFT_RUNG(batch_norm_tree) {
  const Sizes s = sizes(in);
  const char* const name = "batch_norm_tree";
  const int parts = pieces(s.rows, kRowsABlock);
  const Scratch of_parts(context, 2 * Index{parts}, s.channels), statistics(context, 2, s.channels);
  launch(context, name, {blocks(pieces(s.channels, 32), parts), dim3(32, 8)}, batch_norm_tree_kernel, s,
         in[0].as<float>(), of_parts.numbers);
  launch(context, name, {blocks(pieces(s.channels, 32)), dim3(32)}, batch_norm_parts_kernel, s, parts, of_parts.numbers,
         statistics.numbers);
  apply_and_relu(context, name, in, statistics.numbers, out);
}

// # Welford's moments: nothing cancels, four channels a vector, and ReLU while the result is in hand
// Intensity: x is read twice and y written once: 12 bytes for 8 operations, the least there is
// Expected: 80 % of memory: nothing is moved twice, but a division stands between a thread's loads
//
// A thread keeps a mean and the squared distances from it, and corrects both for each number (Welford, 1962); two such
// pairs are merged by Chan, Golub and LeVeque's formula. Nothing large is subtracted from anything large. Four channels
// come in a vector; the result passes ReLU in the register it was made in, which saves a pass of 8 bytes. Channels are
// a multiple of 4.
namespace {
struct Moments {
  float mean = 0, squares = 0, count = 0;

  __device__ void add(float x) {
    count += 1;
    const float distance = x - mean;
    mean += distance / count;
    squares += distance * (x - mean);
  }
  __device__ void add(const Moments& other) {
    if (other.count == 0) return;
    const float all = count + other.count, distance = other.mean - mean, share = other.count / all;
    mean += distance * share;
    squares += other.squares + distance * distance * count * share;
    count = all;
  }
};

__global__ void __launch_bounds__(256) batch_norm_welford_kernel(Sizes s, const float* x, Moments* parts) {
  GRAFT_SHARED(Moments, of_line, (4 * 256));
  const int lane = thread_x(), line = thread_y(), c = (block_x() * 8 + lane) * 4;  // 8 lanes of 4 channels, 32 lines
  const int first = block_y() * kRowsABlock, last = first + kRowsABlock < s.rows ? first + kRowsABlock : s.rows;
  Moments moments[4];
  for (int r = first + line; c < s.channels && r < last; r += 32) {
    const Vector<float, 4> here = load<4>(x + r * s.channels + c);
    for (int k = 0; k < 4; ++k) moments[k].add(here[k]);
  }
  for (int k = 0; k < 4; ++k) of_line[(k * 32 + line) * 8 + lane] = moments[k];
  for (int half = 16; half > 0; half /= 2) {
    __syncthreads();
    for (int k = 0; line < half && k < 4; ++k) {
      moments[k].add(of_line[(k * 32 + line + half) * 8 + lane]);
      of_line[(k * 32 + line) * 8 + lane] = moments[k];
    }
  }
  for (int k = 0; line == 0 && c < s.channels && k < 4; ++k) parts[block_y() * s.channels + c + k] = moments[k];
}

__global__ void batch_norm_merge_kernel(Sizes s, int count, const Moments* parts, float* statistics) {
  const int c = block_x() * 32 + thread_x();
  if (c >= s.channels) return;
  Moments all;
  for (int part = 0; part < count; ++part) all.add(parts[part * s.channels + c]);
  statistics[c] = all.mean;
  statistics[s.channels + c] = all.squares / all.count;
}

// A thread stays with its channels, so that it makes their scale and shift once.
__global__ void __launch_bounds__(256) batch_norm_fused_kernel(Sizes s, const float* x, const float* gamma,
                                                               const float* beta, const float* statistics, float* y) {
  constexpr int kRows = 256;
  const int c = (block_x() * 8 + thread_x()) * 4,
            last = s.rows < (block_y() + 1) * kRows ? s.rows : (block_y() + 1) * kRows;
  if (c >= s.channels) return;
  float scale[4], shift[4];
  GRAFT_UNROLL
  for (int k = 0; k < 4; ++k) {
    scale[k] = gamma[c + k] / std::sqrt(statistics[s.channels + c + k] + kEpsilon);
    shift[k] = beta[c + k] - statistics[c + k] * scale[k];
  }
  for (int r = block_y() * kRows + thread_y(); r < last; r += 32) {
    Vector<float, 4> here = load<4>(x + r * s.channels + c);
    GRAFT_UNROLL
    for (int k = 0; k < 4; ++k) {
      const float value = scale[k] * here[k] + shift[k];
      here[k] = value > 0 ? value : 0.f;
    }
    store(y + r * s.channels + c, here);
  }
}
}  // namespace

GRAFT_RUNG(batch_norm_welford) {
  const Sizes s = sizes(in);
  const char* const name = "batch_norm_welford";
  const int parts = pieces(s.rows, kRowsABlock);
  const Scratch of_parts(context, 3 * Index{parts}, s.channels), statistics(context, 2, s.channels);
  auto* const moments = reinterpret_cast<Moments*>(of_parts.numbers);
  const LaunchShape shape{blocks(pieces(s.channels, 32), parts), dim3(8, 32)};
  launch(context, name, shape, batch_norm_welford_kernel, s, in[0].as<float>(), moments);
  launch(context, name, {blocks(pieces(s.channels, 32)), dim3(32)}, batch_norm_merge_kernel, s, parts, moments,
         statistics.numbers);
  launch(context, name, shape, batch_norm_fused_kernel, s, in[0].as<float>(), in[1].as<float>(), in[2].as<float>(),
         statistics.numbers, out.as<float>());
}

// # In use: four rows at once, parts merged in f64
// Intensity: 12 bytes for some 8 operations
// Expected: 85 % of memory: four loads of a thread are under way, where Welford's wait for a division each
//
// A thread takes the moments of four numbers by two passes over registers and merges those, so that there is one
// division for four numbers and four loads do not wait for it. The parts of a channel are merged in f64. It updates the
// moving statistics, keeps what backward needs, takes pitches, halves and a residual. `cuda/batch_norm.cu`.
GRAFT_RUNG(batch_norm_in_use) {
  const Scratch saved(context, 2, sizes(in).channels);
  const Shape channels = in[1].shape;
  const Operand mean(saved.numbers, channels, DType::f32), spread(saved.numbers + channels[0], channels, DType::f32);
  kernels::batch_norm_batch(context, {.epsilon = double{kEpsilon}, .activation = Activation::relu}, in[0], in[1], in[2],
                            {}, {in[3], in[4]}, out, {mean, spread});
}

}  // namespace graft::ladder::GRAFT_TARGET
