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
// two halves a register, the first in the low bits. A float fills a register, so that with floats the depth is 8 and a
// register holds, where two halves had the depths t and t+1, the one depth lane % 4 ("mma.m16n8k8"):
//
//   A [16, 8]    a[0]: (g, t/2)    a[1]: (g+8, t/2)    a[2]: (g, t/2+4)    a[3]: (g+8, t/2+4)
//   B [8, 8]     b[0]: (t/2, g)    b[1]: (t/2+4, g)
//
// The emulated device holds them in the same places.
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

/// The float nearest to one, in its bits, that has 10 bits of fraction, the format TF32; of two as near the larger one.
///
/// A tensor core reads no more than those bits of a float. Left to it, the other 13 would be cut off: every factor
/// would shrink, by up to 2^-10 and 2^-11 on average, so that every product is too small and a sum of many does not
/// gain from errors that cancel. Rounded, a factor is off by 2^-11 at most and as often too large as too small.
__device__ inline std::uint32_t round_to_tf32(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
#elif !defined(__CUDACC__)
  return rounded_to_tf32(bits);
#else
  return bits;
#endif
}

/// How many elements of T lie along the depth of one multiplication: 32 bytes of them.
template <class T>
inline constexpr int kMmaDepth = static_cast<int>(32 / sizeof(T));

/// c += A B for a [16, kMmaDepth] matrix A and a [kMmaDepth, 8] matrix B of T, with sums in float. T is bfloat16,
/// float16, or float, whose elements are to be rounded by `round_to_tf32`.
template <class T>
__device__ void multiply_add([[maybe_unused]] float (&c)[4], [[maybe_unused]] const std::uint32_t (&a)[4],
                             [[maybe_unused]] std::uint32_t b0, [[maybe_unused]] std::uint32_t b1) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16> || std::is_same_v<T, float>);
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, float>)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else if constexpr (std::is_same_v<T, bfloat16>)
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
  const auto sums = multiply_add_of_warp({{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}, dtype_of<T>});
  for (std::size_t i = 0; i < 4; ++i) c[i] = sums[i];
#endif
}

}  // namespace graft::GRAFT_TARGET
