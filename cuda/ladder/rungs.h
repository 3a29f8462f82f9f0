#pragma once

#include <span>

#include "graft/core/context.h"
#include "graft/core/operand.h"

// The rungs of each ladder from the first to the last, with the type of their operands.
// clang-format off
#define GRAFT_LADDER_GEMM(rung)  \
  rung(gemm_naive, f32)          \
  rung(gemm_coalesced, f32)      \
  rung(gemm_tiles, f32)          \
  rung(gemm_register_tiles, f32) \
  rung(gemm_vectors, f32)        \
  rung(gemm_in_use_f32, f32)     \
  rung(gemm_tensor_cores, bf16)  \
  rung(gemm_in_use_mma, bf16)
#define GRAFT_LADDER_CONV(rung)  \
  rung(conv_direct, f32)         \
  rung(conv_im2col, f32)         \
  rung(conv_implicit, f32)       \
  rung(conv_register_tiles, f32) \
  rung(conv_in_use_f32, f32)     \
  rung(conv_in_use, bf16)
#define GRAFT_LADDER_DEPTHWISE(rung) \
  rung(depthwise_naive, f32)         \
  rung(depthwise_coalesced, f32)     \
  rung(depthwise_tiles, f32)         \
  rung(depthwise_strip, f32)         \
  rung(depthwise_in_use, f32)
#define GRAFT_LADDER_BATCH_NORM(rung) \
  rung(batch_norm_naive, f32)         \
  rung(batch_norm_atomics, f32)       \
  rung(batch_norm_tree, f32)          \
  rung(batch_norm_welford, f32)       \
  rung(batch_norm_in_use, f32)
#define GRAFT_LADDER_SOFTMAX(rung) \
  rung(softmax_naive, f32)         \
  rung(softmax_block, f32)         \
  rung(softmax_warp, f32)          \
  rung(softmax_registers, f32)     \
  rung(softmax_in_use, f32)
#define GRAFT_LADDER_ATTENTION(rung) \
  rung(attention_materialised, f32)  \
  rung(attention_online, f32)        \
  rung(attention_tiles, f32)         \
  rung(attention_in_use, f32)        \
  rung(attention_in_use_bf16, bf16)
// The last rungs of a ladder, those that need Hopper's units: code for sm_90a and a GPU of compute capability 9.0.
#define GRAFT_LADDER_GEMM_HOPPER(rung) \
  rung(gemm_hopper, bf16)              \
  rung(gemm_in_use_hopper, bf16)
// clang-format on

namespace graft::ladder {

/// Launches a rung's kernels. Which operands they take its ladder's file says; all are contiguous.
using Run = void(Context&, std::span<const Operand> in, const Operand& out);

// NOLINTBEGIN(bugprone-macro-parentheses): a name that is declared cannot stand in parentheses.
#define GRAFT_DECLARE_RUNG(name, dtype) Run name;
#define GRAFT_DECLARE_RUNGS                    \
  GRAFT_LADDER_GEMM(GRAFT_DECLARE_RUNG)        \
  GRAFT_LADDER_GEMM_HOPPER(GRAFT_DECLARE_RUNG) \
  GRAFT_LADDER_CONV(GRAFT_DECLARE_RUNG)        \
  GRAFT_LADDER_DEPTHWISE(GRAFT_DECLARE_RUNG)   \
  GRAFT_LADDER_BATCH_NORM(GRAFT_DECLARE_RUNG)  \
  GRAFT_LADDER_SOFTMAX(GRAFT_DECLARE_RUNG)     \
  GRAFT_LADDER_ATTENTION(GRAFT_DECLARE_RUNG)
// NOLINTEND(bugprone-macro-parentheses)

namespace cuda {
GRAFT_DECLARE_RUNGS
}
namespace emulated {
GRAFT_DECLARE_RUNGS
}

#undef GRAFT_DECLARE_RUNGS
#undef GRAFT_DECLARE_RUNG

}  // namespace graft::ladder
