#include "emulated/mma.h"

#include <bit>

#include "emulated/language.h"

// Two halves stand in a register, the first in the low bits, or one float. Lane l has those of row (or column) g = l /
// 4 and of the places t = 2 (l % 4) and t + 1 in it, or l % 4.
namespace graft::emulated {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr Site kMultiplyAdd{"mma.sync"}, kLoad{"ldmatrix"}, kLoadTransposed{"ldmatrix.trans"};

constexpr std::uint32_t kUnread = (1u << 13) - 1;  // the bits of a float's fraction that TF32 has not

template <class T>
float element_of(std::uint32_t held, unsigned which) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(held & ~kUnread);
  } else {
    T value;
    value.bits = static_cast<std::uint16_t>(held >> (16 * which));
    return static_cast<float>(value);
  }
}

using Registers = std::array<std::uint32_t, 4>;
using Sums = std::array<float, 4>;

template <class T>
Sums multiply_add(const Multiplicands& lane) {
  return warp_function<Multiplicands, Sums>(
      kMultiplyAdd, kAll, lane, [](const Multiplicands* const* in, Sums* const* out) {
        constexpr unsigned kHeld = 4 / sizeof(T), kDepth = 8 * kHeld;  // elements in a register; along the depth
        float a[16][kDepth], b[8][kDepth];                             // b by columns
        for (unsigned l = 0; l < kWarpSize; ++l) {
          const unsigned g = l / 4, t = l % 4 * kHeld;
          for (unsigned e = 0; e < kHeld; ++e) {
            for (unsigned i = 0; i < 4; ++i)
              a[g + i % 2 * 8][t + i / 2 * kDepth / 2 + e] = element_of<T>(in[l]->a[i], e);
            for (unsigned i = 0; i < 2; ++i) b[g][t + i * kDepth / 2 + e] = element_of<T>(in[l]->b[i], e);
          }
        }
        for (unsigned l = 0; l < kWarpSize; ++l) {
          for (unsigned i = 0; i < 4; ++i) {
            const float *left = a[l / 4 + i / 2 * 8], *right = b[l % 4 * 2 + i % 2];
            float sum = in[l]->c[i];
            for (unsigned k = 0; k < kDepth; ++k) sum += left[k] * right[k];
            (*out[l])[i] = sum;
          }
        }
      });
}

template <bool Transpose>
Registers load(const void* row) {
  return warp_function<const void*, Registers>(
      Transpose ? kLoadTransposed : kLoad, kAll, row, [](const void* const* const* rows, Registers* const* out) {
        for (unsigned matrix = 0; matrix < 4; ++matrix) {
          const auto element = [&](unsigned r, unsigned c) {
            return std::uint32_t{static_cast<const std::uint16_t*>(*rows[matrix * 8 + r])[c]};
          };
          for (unsigned l = 0; l < kWarpSize; ++l) {
            const unsigned g = l / 4, t = l % 4 * 2;
            (*out[l])[matrix] =
                Transpose ? element(t, g) | element(t + 1, g) << 16 : element(g, t) | element(g, t + 1) << 16;
          }
        }
      });
}

}  // namespace

// Half a unit of the last place that is kept, added to the magnitude, carries where the rest is at least that half, up
// to infinity; a NaN becomes the canonical one.
std::uint32_t rounded_to_tf32(std::uint32_t bits) {
  constexpr std::uint32_t kSign = 1u << 31, kInfinity = 0x7f800000u, kNaN = 0x7fffffffu;
  if ((bits & ~kSign) > kInfinity) return kNaN;
  return (bits + (kUnread + 1) / 2) & ~kUnread;
}

Sums multiply_add_of_warp(const Multiplicands& lane) {
  if (lane.dtype == DType::f32) return multiply_add<float>(lane);
  return lane.dtype == DType::bf16 ? multiply_add<bfloat16>(lane) : multiply_add<float16>(lane);
}

Registers load_matrices_of_warp(const void* row, bool transpose) {
  constexpr std::size_t kRow = 16;  // bytes
  Block& block = *this_thread().block;
  if (reinterpret_cast<std::uintptr_t>(row) % kRow != 0) block.stop_misaligned(row, kRow);
  if (block.checked()) block.note(row, kRow, false, false, __builtin_return_address(0));
  return transpose ? load<true>(row) : load<false>(row);
}

}  // namespace graft::emulated
