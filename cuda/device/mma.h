#pragma once

#include "device/numeric.h"

#if !defined(__CUDACC__)
#include "emulated/mma.h"
#endif

// The tensor cores of sm_80 and later, as a warp uses them: `load_matrices` (ldmatrix) brings matrices of halves from
// shared memory into the registers of a warp, `multiply_add` (mma.sync) multiplies them. Which lane holds which element
// is fixed by the hardware (PTX ISA, "Matrix fragments for mma.m16n8k16"); with g = lane / 4 and t = 2 (lane % 4),
//
//   A [16, 16]   a[0]: (g, t), (g, t+1)    a[1]: (g+8, ...)    a[2]: (g, t+8), (g, t+9)    a[3]: (g+8, t+8), ...
//   B [16, 8]    b[0]: (t, g), (t+1, g)    b[1]: (t+8, g), (t+9, g)
//   C [16, 8]    c[0], c[1]: (g, t), (g, t+1)    c[2], c[3]: (g+8, t), (g+8, t+1)
//
// two halves a register, the first in the low bits. The emulated device holds them in the same places.
namespace graft::GRAFT_TARGET {

/// Four matrices [8, 8] of halves: lane l gives the address of row l % 8 of matrix l / 8 in shared memory, aligned to
/// 16 bytes, and gets elements (lane / 4, t) and (lane / 4, t + 1) of each, or with Transpose those of its transpose.
template <bool Transpose>
__device__ void load_matrices([[maybe_unused]] const void* row, [[maybe_unused]] std::uint32_t (&to)[4]) {
#if defined(__CUDA_ARCH__)
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (Transpose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
#elif !defined(__CUDACC__)
  const auto loaded = load_matrices_of_warp(row, Transpose);
  for (std::size_t i = 0; i < 4; ++i) to[i] = loaded[i];
#endif
}

/// c += A B for a [16, 16] matrix A and a [16, 8] matrix B of T, bfloat16 or float16, with sums in float.
template <class T>
__device__ void multiply_add([[maybe_unused]] float (&c)[4], [[maybe_unused]] const std::uint32_t (&a)[4],
                             [[maybe_unused]] std::uint32_t b0, [[maybe_unused]] std::uint32_t b1) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, bfloat16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif !defined(__CUDACC__)
  const auto sums =
      multiply_add_of_warp({{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}, std::is_same_v<T, bfloat16>});
  for (std::size_t i = 0; i < 4; ++i) c[i] = sums[i];
#endif
}

}  // namespace graft::GRAFT_TARGET
