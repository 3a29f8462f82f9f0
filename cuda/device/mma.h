#pragma once

#include "device/numeric.h"
#include "device/reduce.h"

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

#if !defined(__CUDACC__)

inline constexpr Site kLoadMatrices{"ldmatrix"}, kMultiplyAdd{"mma.sync"};

struct FourRegisters {
  std::uint32_t values[4];
};

template <bool Transpose>
FourRegisters load_matrices_of_warp(const void* row) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0)
    this_thread().block->fail("ldmatrix from a row that is not aligned to 16 bytes");
  return warp_function<const void*, FourRegisters>(
      kLoadMatrices, kAllLanes, row, [](const void* const* const* rows, FourRegisters* const* out) {
        for (int matrix = 0; matrix < 4; ++matrix) {
          const auto element = [&](int r, int c) {
            return std::uint32_t{static_cast<const std::uint16_t*>(*rows[matrix * 8 + r])[c]};
          };
          for (int lane = 0; lane < kLanes; ++lane) {
            const int g = lane / 4, t = lane % 4 * 2;
            out[lane]->values[matrix] =
                Transpose ? element(t, g) | element(t + 1, g) << 16 : element(g, t) | element(g, t + 1) << 16;
          }
        }
      });
}

struct Multiplicands {
  std::uint32_t a[4], b[2];
  float c[4];
};
struct FourSums {
  float values[4];
};

template <class T>
FourSums multiply_add_of_warp(const Multiplicands& lane) {
  return warp_function<Multiplicands, FourSums>(
      kMultiplyAdd, kAllLanes, lane, [](const Multiplicands* const* in, FourSums* const* out) {
        const auto half = [](std::uint32_t two, int which) {
          T value;
          value.bits = static_cast<std::uint16_t>(two >> (16 * which));
          return static_cast<float>(value);
        };
        float a[16][16], b[8][16];  // b by columns
        for (int l = 0; l < kLanes; ++l) {
          const int g = l / 4, t = l % 4 * 2;
          for (int e = 0; e < 2; ++e) {
            for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 8 + e] = half(in[l]->a[i], e);
            for (int i = 0; i < 2; ++i) b[g][t + i * 8 + e] = half(in[l]->b[i], e);
          }
        }
        for (int l = 0; l < kLanes; ++l) {
          for (int i = 0; i < 4; ++i) {
            const float *left = a[l / 4 + i / 2 * 8], *right = b[l % 4 * 2 + i % 2];
            float sum = in[l]->c[i];
            for (int k = 0; k < 16; ++k) sum += left[k] * right[k];
            out[l]->values[i] = sum;
          }
        }
      });
}

#endif

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
  const FourRegisters loaded = load_matrices_of_warp<Transpose>(row);
  for (int i = 0; i < 4; ++i) to[i] = loaded.values[i];
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
  const FourSums sums = multiply_add_of_warp<T>({{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}});
  for (int i = 0; i < 4; ++i) c[i] = sums.values[i];
#endif
}

}  // namespace graft::GRAFT_TARGET
