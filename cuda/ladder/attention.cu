// Ladder: Attention
//
// Of each head, with queries, keys and values [L, 64]: y = softmax(q k^T / 8) v, 4 x 64 L^2 operations for 4 x 64 L
// numbers. The scores q k^T are a matrix [L, L] that nobody wants; with L = 1024 it is four times as large as all the
// operands. Once it is gone there are L / 4 operations for each byte in f32, and the arithmetic is the limit. q, k, v
// and y are [N, L, heads 64]: the heads of a row lie side by side.
//
//           keys                     a block keeps its rows of q and the sums of y; tiles of k
//         +------+------+-           and v pass by; of the softmax it knows the largest score
//   q  64 | tile | tile | ...        so far and the sum of exp(score - largest), and shrinks
//         +------+------+-           both, and y, when a larger one comes
//   rows  |scores|
//         +------+   then  y += softmax so far  x  tile of v

#include <cmath>

#include "device/numeric.h"
#include "device/reduce.h"
#include "device/unroll.h"
#include "kernels/attention.h"
#include "ladder/rung.h"

namespace graft::ladder::GRAFT_TARGET {
namespace {

constexpr int kDepth = 64;
constexpr float kScale = 0.125f;  // 1 / sqrt(64)

struct Sizes {
  int batch, length, heads;

  __host__ __device__ int pitch() const { return heads * kDepth; }
  // Where a head's first row begins. Heads are counted through the batch.
  __device__ Index begin(int head) const { return (Index{head / heads} * length * heads + head % heads) * kDepth; }
};

Sizes sizes(std::span<const Operand> in) {
  const Shape& q = in[0].shape;
  return {static_cast<int>(q[0]), static_cast<int>(q[1]), static_cast<int>(q[2] / kDepth)};
}

// What the rungs in use call.
void attention_by_graft(Context& context, std::span<const Operand> in, const Operand& out) {
  const Shape& q = in[0].shape;
  const Index heads = q[2] / kDepth;
  const Tensor log_sums = Tensor::empty({q[0], heads, q[1]}, exact(in[0].dtype), context.device);
  kernels::attention_forward(context, heads, double{kScale}, in[0], in[1], in[2], out, log_sums);
}

}  // namespace

// # Three kernels: scores, softmax, weighted values
// Intensity: 256 L^2 operations, and the scores are written, read and written, and read: 16 L^2 bytes: 16 operations a
// byte of memory at most, with tiles 32 wide 8 a byte of the caches
// Expected: 10 % of f32: both products are the third rung of the matrix ladder, and the scores add a sixth of their
// time in memory traffic
//
// Nothing new is needed: two products with tiles in shared memory and a softmax with a warp a row. But the matrix of
// scores goes to memory four times, and it grows with the square of the length.
namespace {
// scores [head, i, j] = kScale q_i . k_j
__global__ void attention_scores_kernel(Sizes s, const float* q, const float* k, float* scores) {
  constexpr int kTile = 32, kPitch = kTile + 1;
  GRAFT_SHARED(float, tile_q, (kTile * kPitch));
  GRAFT_SHARED(float, tile_k, (kTile * kPitch));
  const int x = thread_x(), y = thread_y(), head = static_cast<int>(blockIdx.z);
  const int column = block_x() * kTile + x, row = block_y() * kTile + y, key = block_x() * kTile + y;
  float sum = 0;
  for (int first = 0; first < kDepth; first += kTile) {
    tile_q[y * kPitch + x] = row < s.length ? q[s.begin(head) + row * s.pitch() + first + x] : 0.f;
    tile_k[y * kPitch + x] = key < s.length ? k[s.begin(head) + key * s.pitch() + first + x] : 0.f;
    __syncthreads();
    for (int c = 0; c < kTile; ++c) sum += tile_q[y * kPitch + c] * tile_k[x * kPitch + c];
    __syncthreads();
  }
  if (row < s.length && column < s.length) scores[(Index{head} * s.length + row) * s.length + column] = kScale * sum;
}

__global__ void attention_softmax_kernel(int rows, int length, float* scores) {
  const int row = block_x() * 4 + thread_y(), lane = thread_x();
  if (row >= rows) return;  // a whole warp
  float* at = scores + Index{row} * length;
  float largest = -INFINITY, sum = 0;
  for (int j = lane; j < length; j += kWarp) largest = Larger{}(largest, at[j]);
  largest = warp_reduce(largest, Larger{});
  for (int j = lane; j < length; j += kWarp) sum += std::exp(at[j] - largest);
  sum = warp_reduce(sum, Plus{});
  for (int j = lane; j < length; j += kWarp) at[j] = std::exp(at[j] - largest) / sum;
}

// y_i = sum over j of weights [head, i, j] v_j
__global__ void attention_values_kernel(Sizes s, const float* weights, const float* v, float* y) {
  constexpr int kTile = 32;
  GRAFT_SHARED(float, tile_w, (kTile * kTile));
  GRAFT_SHARED(float, tile_v, (kTile * kTile));
  const int x = thread_x(), line = thread_y(), head = static_cast<int>(blockIdx.z);
  const int channel = block_x() * kTile + x, row = block_y() * kTile + line;
  float sum = 0;
  for (int first = 0; first < s.length; first += kTile) {
    const bool in_w = row < s.length && first + x < s.length, in_v = first + line < s.length;
    tile_w[line * kTile + x] = in_w ? weights[(Index{head} * s.length + row) * s.length + first + x] : 0.f;
    tile_v[line * kTile + x] = in_v ? v[s.begin(head) + (first + line) * s.pitch() + channel] : 0.f;
    __syncthreads();
    for (int j = 0; j < kTile; ++j) sum += tile_w[line * kTile + j] * tile_v[j * kTile + x];
    __syncthreads();
  }
  if (row < s.length) y[s.begin(head) + row * s.pitch() + channel] = sum;
}
}  // namespace

GRAFT_RUNG(attention_materialised) {
  const Sizes s = sizes(in);
  const int heads = s.batch * s.heads, tiles = pieces(s.length, 32);
  const Tensor scores = Tensor::empty({heads, s.length, s.length}, DType::f32, context.device);
  auto* const matrix = static_cast<float*>(scores.raw());
  launch(context, "attention_materialised", {blocks(tiles, tiles, heads), dim3(32, 32)}, attention_scores_kernel, s,
         in[0].as<float>(), in[1].as<float>(), matrix);
  launch(context, "attention_materialised", {blocks(pieces(heads * s.length, 4)), dim3(32, 4)},
         attention_softmax_kernel, heads * s.length, s.length, matrix);
  launch(context, "attention_materialised", {blocks(kDepth / 32, tiles, heads), dim3(32, 32)}, attention_values_kernel,
         s, matrix, in[2].as<float>(), out.as<float>());
}

// # A warp a query: the softmax goes along
// Intensity: for each query and key 256 operations and 512 bytes of the caches: 0.5 operations a byte
// Expected: 5 % of f32: four lines a key for 4 multiply-adds a lane and a shuffle tree of five, all of which a warp
// waits for
//
// The scores are gone: a lane has two channels of the query and of the result; 32 lanes add up a score by shuffles, and
// the online softmax shrinks what was summed when a larger score comes. Memory holds nothing but the operands. But
// every query reads all keys and values: what the matrix of scores cost in memory the caches have to serve now.
namespace {
__global__ void attention_online_kernel(Sizes s, const float* q, const float* k, const float* v, float* y) {
  const int row = block_x() * 4 + thread_y(), lane = thread_x(), head = block_y();
  if (row >= s.length) return;  // a whole warp
  using Two = Vector<float, 2>;
  const Index begin = s.begin(head) + lane * 2;
  const Two query = load<2>(q + begin + row * s.pitch());
  Two sums{};
  float largest = -INFINITY, total = 0;
  for (int j = 0; j < s.length; ++j) {
    const Two key = load<2>(k + begin + j * s.pitch()), value = load<2>(v + begin + j * s.pitch());
    const float score = kScale * warp_reduce(query[0] * key[0] + query[1] * key[1], Plus{});
    const float most = Larger{}(largest, score), shrink = std::exp(largest - most), weight = std::exp(score - most);
    largest = most;  // shrink is 0 the first time
    total = total * shrink + weight;
    for (int c = 0; c < 2; ++c) sums[c] = sums[c] * shrink + weight * value[c];
  }
  store(y + begin + row * s.pitch(), Two{{sums[0] / total, sums[1] / total}});
}
}  // namespace

GRAFT_RUNG(attention_online) {
  const Sizes s = sizes(in);
  launch(context, "attention_online", {blocks(pieces(s.length, 4), s.batch * s.heads), dim3(32, 4)},
         attention_online_kernel, s, in[0].as<float>(), in[1].as<float>(), in[2].as<float>(), out.as<float>());
}

// # A thread a query: keys and values pass through shared memory
// Intensity: a tile of keys and values is read once for 128 queries: 64 operations a byte of the caches
// Expected: 25 % of f32: a vector of 16 bytes takes four rounds of shared memory, fewer where the hardware sees that
// all lanes read the same, and brings 4 multiply-adds, which take one clock; 160 registers leave room for few warps
//
// A block has 128 queries, a thread each, with its query and its sums, 64 + 64 numbers, in registers. The block brings
// 32 keys and values at a time into shared memory, and all lanes read the same place of it at once, without a conflict.
// No lane needs another: the sums of a score stay in one thread. Of 32 scores the largest is found
// first, so that the sums are shrunk once a tile instead of once a key.
namespace {
__global__ void __launch_bounds__(128)
    attention_tiles_kernel(Sizes s, const float* q, const float* k, const float* v, float* y) {
  constexpr int kKeys = 32;
  GRAFT_SHARED(float, keys, (kKeys * kDepth));
  GRAFT_SHARED(float, values, (kKeys * kDepth));
  GRAFT_SHARED(float, scores, (kKeys * 128));  // [key, thread]: with those in registers there would be no room
  const int thread = thread_x(), row = block_x() * 128 + thread;
  const Index begin = s.begin(block_y());
  float query[kDepth], sums[kDepth] = {}, largest = -INFINITY, total = 0;
  GRAFT_UNROLL
  for (int c = 0; c < kDepth; c += 4) {
    const auto four = row < s.length ? load<4>(q + begin + row * s.pitch() + c) : Vector<float, 4>{};
    for (int e = 0; e < 4; ++e) query[c + e] = kScale * four[e];
  }
  for (int first = 0; first < s.length; first += kKeys) {
    const int count = s.length - first < kKeys ? s.length - first : kKeys;
    __syncthreads();  // nobody reads the tile before any more
    for (int i = thread; i < count * kDepth / 4; i += 128) {
      const Index at = begin + (first + i / (kDepth / 4)) * s.pitch() + i % (kDepth / 4) * 4;
      store(keys + i * 4, load<4>(k + at));
      store(values + i * 4, load<4>(v + at));
    }
    __syncthreads();
    float most = largest;
    for (int j = 0; j < count; ++j) {
      float score = 0;
      GRAFT_UNROLL
      for (int c = 0; c < kDepth; c += 4) {
        const auto four = load<4>(keys + j * kDepth + c);
        for (int e = 0; e < 4; ++e) score += query[c + e] * four[e];
      }
      scores[j * 128 + thread] = score;
      most = Larger{}(most, score);
    }
    const float shrink = std::exp(largest - most);
    largest = most;
    total *= shrink;
    GRAFT_UNROLL
    for (int c = 0; c < kDepth; ++c) sums[c] *= shrink;
    for (int j = 0; j < count; ++j) {
      const float weight = std::exp(scores[j * 128 + thread] - most);
      total += weight;
      GRAFT_UNROLL
      for (int c = 0; c < kDepth; c += 4) {
        const auto four = load<4>(values + j * kDepth + c);
        for (int e = 0; e < 4; ++e) sums[c + e] += weight * four[e];
      }
    }
  }
  if (row >= s.length) return;
  GRAFT_UNROLL
  for (int c = 0; c < kDepth; c += 4)
    store(y + begin + row * s.pitch() + c,
          Vector<float, 4>{{sums[c] / total, sums[c + 1] / total, sums[c + 2] / total, sums[c + 3] / total}});
}
}  // namespace

GRAFT_RUNG(attention_tiles) {
  const Sizes s = sizes(in);
  launch(context, "attention_tiles", {blocks(pieces(s.length, 128), s.batch * s.heads), dim3(128)},
         attention_tiles_kernel, s, in[0].as<float>(), in[1].as<float>(), in[2].as<float>(), out.as<float>());
}

// # In use for f32: tiles of scores in registers, as in the matrix ladder
// Intensity: for 64 rows and 64 keys q, k and v are read: 256 x 64 x 64 / (3 x 64 x 256) = 21 operations a byte of the
// caches; 64 multiply-adds for 8 vectors of shared memory
// Expected: 40 % of f32: 8 vectors take 32 rounds, fewer where halves of a warp read the same, for the 16 clocks of 64
// multiply-adds
//
// FlashAttention's arrangement (Dao et al.) with register tiles: 16 lanes share a few rows of scores, so that a row's
// largest and sum are four shuffles away, and what is read of shared memory is used for several rows. It saves the
// logarithm of each row's sum, from which backward makes the scores again. It takes heads of any depth, where the rung
// before has its 64 channels in registers and needs no barrier between the products. `cuda/attention.cu`.
GRAFT_RUNG(attention_in_use) { attention_by_graft(context, in, out); }

// # In use for bf16: both products on tensor cores
// Intensity: for 128 rows and 64 keys k and v are read: 256 x 128 x 64 / (2 x 64 x 128) = 128 operations a byte of the
// caches; a warp reads 40 times 512 bytes of shared memory for 128 instructions of 4096 operations
// Expected: 30 % of bf16: mma.sync reaches two thirds of what Hopper's own instruction does, and the softmax takes as
// long again as the products: an exponential a score, 16 a clock, and five steps beside it, 128 a clock
//
// A warp has 32 whole rows of scores, where mma.sync leaves them: a row's largest and sum are two shuffles among four
// lanes away, and the weights, rounded to halves, are the left factor of the second product without leaving their
// registers (FlashAttention-2, Dao). The next keys and values are under way meanwhile (cp.async). The two blocks of a
// multiprocessor fill each other's gaps. Backward makes the scores again, a block for rows of dq, and one for rows of
// dk and dv, so that nobody adds to another's sums. `cuda/attention_halves.cu`; heads of more than 128 channels take
// the rung before, which widens them.
GRAFT_RUNG(attention_in_use_bf16) { attention_by_graft(context, in, out); }

}  // namespace graft::ladder::GRAFT_TARGET
