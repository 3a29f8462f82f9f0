// The ladder of the matrix product goes on here, behind cuda/ladder/gemm.cu: the rungs that need Hopper's units, which
// are compiled apart, for sm_90a. Their instructions are the functions of cuda/hopper/instructions.h; what lies where
// in shared memory is told in cuda/hopper/layout.h.

#include "device/numeric.h"
#include "device/unroll.h"
#include "hopper/instructions.h"
#include "hopper/layout.h"
#include "kernels/matmul.h"
#include "ladder/rung.h"

namespace graft::ladder::GRAFT_TARGET {

// # Hopper: copies and products that nobody waits for
// Intensity: tiles of 128 x 256 halves: 2 x 128 x 256 / (2 (128 + 256)) = 85 operations a byte from global memory; a
// warpgroup of 64 x 256 does 51 for each byte of shared memory
// Expected: 54 % of bf16: 85 operations a byte of the second-level cache are 469 TFLOP/s, 59 %, and 75 us for the 64
// steps of a tile; the first copies and the writes of a block, behind which nothing is hidden, take some 4 us more, and
// 512 tiles are 3.9 rounds of 132 blocks: 59 % x 0.95 x 0.97
//
// So far each thread copied, waited and multiplied. Now one thread, the producer, does nothing but start copies: an
// instruction of TMA brings a whole box, 64 halves wide, finds all its addresses, fills in zeros beyond the edges and
// counts the bytes at a barrier in shared memory. Two warpgroups, the consumers, do nothing but multiply: wgmma takes
// both factors from where TMA has put them, 64 x 256 x 16 in an instruction of four warps, so that no fragment passes a
// register. Both units work on by themselves. Four stages go round, each with two barriers: full, where consumers wait
// for bytes, and empty, where the producer waits until all eight warps have handed the stage back, which they do one
// step later, when the products of the next stage are under way. In the loop no barrier is for all threads. B keeps its
// rows, for a bit tells wgmma which side lies inner. The sums leave their registers as pairs of halves, half a sector
// at a time; those of graft's kernel pass through shared memory first.
namespace {
using namespace hopper;  // NOLINT: the language of this rung

struct Sizes {
  int rows, columns, depth;
};

constexpr int kRows = 128, kColumns = 256, kDepth = 64, kStages = 4, kGroup = 128;  // a warpgroup has 128 threads
constexpr unsigned kBytesA = kRows * kSpanBytes, kStage = kBytesA + kColumns * kSpanBytes;

__global__ void __launch_bounds__(3 * kGroup, 1)
    gemm_hopper_kernel(Sizes s, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, bfloat16* c) {
  std::byte* const shared = shared_memory();  // stages, each A [row, depth] and four panels of B [depth, 64 columns]
  auto* const full = reinterpret_cast<Barrier*>(shared + kStages * kStage);
  Barrier* const empty = full + kStages;
  const int first_row = block_y() * kRows, first_column = block_x() * kColumns, steps = pieces(s.depth, kDepth);
  if (thread_x() == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      init_barrier(full + stage, 1);   // the producer comes, and the bytes that it announces
      init_barrier(empty + stage, 8);  // each warp of the consumers comes
    }
    publish_barriers();
  }
  __syncthreads();
  Ring<kStages> ring;
  if (thread_x() < kGroup) {
    if (thread_x() > 0) return;
    for (int step = 0; step < steps; ++step, ring.advance()) {
      std::byte* const stage = shared + static_cast<unsigned>(ring.stage) * kStage;
      wait(empty + ring.stage, ring.parity ^ 1u);  // in the first round all are
      arrive_expecting(full + ring.stage, kStage);
      copy_box(stage, a, full + ring.stage, step * kDepth, 0, first_row, 0);
      for (int i = 0; i < kColumns / kSpan; ++i)
        copy_box(stage + kBytesA + static_cast<unsigned>(i) * kPanelBytes, b, full + ring.stage,
                 first_column + i * kSpan, 0, step * kDepth, 0);
    }
    return;
  }
  const int in_group = thread_x() % kGroup, my_rows = (thread_x() / kGroup - 1) * 64;  // of the tile
  float sums[kColumns / 2] = {};
  int step = 0, before = 0;
  do {  // not `for`: if there could be no step, ptxas would move sums while products are under way, and make them wait
    const unsigned stage = shared_address(shared) + static_cast<unsigned>(ring.stage) * kStage;
    const std::uint64_t left = tile_descriptor<true>(stage, my_rows),
                        right = tile_descriptor<false>(stage + kBytesA, 0);
    wait(full + ring.stage, ring.parity);
    begin_products();
    GRAFT_UNROLL
    for (unsigned k = 0; k < kDepth / 16; ++k)
      multiply_add<bfloat16, true, false>(sums, left + k * kNextDepths<true>, right + k * kNextDepths<false>);
    commit_products();
    wait_for_products<1>(sums);  // those of the step before are done
    __syncwarp();
    if (step > 0 && in_group % kWarp == 0) arrive(empty + before);
    before = ring.stage;
    ring.advance();
  } while (++step < steps);
  wait_for_products<0>(sums);
  GRAFT_UNROLL
  for (int i = 0; i < kColumns / 2; i += 2) {
    const SumPlace at = place_of_sum(in_group, i);
    const int row = first_row + my_rows + at.row, column = first_column + at.column;
    if (row < s.rows && column < s.columns)
      store(c + row * s.columns + column,
            Vector<bfloat16, 2>{{narrow<bfloat16>(sums[i]), narrow<bfloat16>(sums[i + 1])}});
  }
}

// What TMA is told of a matrix [outer, inner] in rows, and of its boxes: 64 halves by `rows`.
TensorMap map_of(const Operand& matrix, unsigned rows) {
  const auto outer = static_cast<std::uint64_t>(matrix.shape[0]), inner = static_cast<std::uint64_t>(matrix.shape[1]);
  return encode({.data = matrix.as<bfloat16>(),
                 .bfloat = true,
                 .extents = {inner, 1, outer, 1},
                 .strides = {2, 16, 2 * inner, 16},  // in bytes
                 .box_rows = rows});
}
}  // namespace

GRAFT_RUNG(gemm_hopper) {
  const Sizes s{static_cast<int>(in[0].shape[0]), static_cast<int>(in[1].shape[1]), static_cast<int>(in[0].shape[1])};
  launch(context, "gemm_hopper",
         {blocks(pieces(s.columns, kColumns), pieces(s.rows, kRows)), dim3(3 * kGroup),
          kStages * (kStage + 2 * sizeof(Barrier))},
         gemm_hopper_kernel, s, map_of(in[0], kRows), map_of(in[1], kDepth), out.as<bfloat16>());
}

// # In use on Hopper: the next tile is on its way while this one is written
// Intensity: as before 85 operations a byte with tiles of 128 x 256; 43 and 64 with those 64 and 128 wide, where C is
// small
// Expected: 57 % of bf16: the second-level cache allows 59 %, and 512 tiles are 3.9 rounds of 132 blocks; what the rung
// before loses between two tiles is hidden
//
// The same producer, consumers and ring (`cuda/hopper/kernel.h`). A block stays for several tiles, and the producer
// runs ahead into the next one, so that its first stages are full when the sums of this one have left. They leave
// through shared memory, whole lines at a time, with bias, residual and activation; the producer's registers go to the
// consumers. Either side of a factor may lie inner, and it may be an image seen through its
// windows, whose boxes TMA cuts out in its im2col mode: so this is the kernel under linear layers and convolutions of
// halves. Where there are fewer tiles than multiprocessors the depth is split and the parts are added in a fixed order.
// Products of less than 64 rows, 32 columns or a depth of 32, and what TMA cannot describe, run on mma.sync.
GRAFT_RUNG(gemm_in_use_hopper) {
  Context allowing = context;
  allowing.allow_unproved = true;  // also on the emulated device, and before a GPU has proved an edit
  kernels::matmul(allowing, in[0], in[1], false, false, {out, false});
}

}  // namespace graft::ladder::GRAFT_TARGET
