#include "emulated/mma.h"

#include "graft/core/dtype.h"

#include "emulated/language.h"

// Two halves stand in a register, the first in the low bits. Lane l has those of row (or column) g = l / 4 and of the
// places t = 2 (l % 4) and t + 1 in it.
namespace graft::emulated {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr Site kMultiplyAdd{"mma.sync"}, kLoad{"ldmatrix"}, kLoadTransposed{"ldmatrix.trans"};

template <class T>
float half(std::uint32_t two, int which) {
  T value;
  value.bits = static_cast<std::uint16_t>(two >> (16 * which));
  return static_cast<float>(value);
}

using Registers = std::array<std::uint32_t, 4>;
using Sums = std::array<float, 4>;

template <class T>
Sums multiply_add(const Multiplicands& lane) {
  return warp_function<Multiplicands, Sums>(
      kMultiplyAdd, kAll, lane, [](const Multiplicands* const* in, Sums* const* out) {
        float a[16][16], b[8][16];  // b by columns
        for (unsigned l = 0; l < kWarpSize; ++l) {
          const unsigned g = l / 4, t = l % 4 * 2;
          for (unsigned e = 0; e < 2; ++e) {
            for (unsigned i = 0; i < 4; ++i)
              a[g + i % 2 * 8][t + i / 2 * 8 + e] = half<T>(in[l]->a[i], static_cast<int>(e));
            for (unsigned i = 0; i < 2; ++i) b[g][t + i * 8 + e] = half<T>(in[l]->b[i], static_cast<int>(e));
          }
        }
        for (unsigned l = 0; l < kWarpSize; ++l) {
          for (unsigned i = 0; i < 4; ++i) {
            const float *left = a[l / 4 + i / 2 * 8], *right = b[l % 4 * 2 + i % 2];
            float sum = in[l]->c[i];
            for (int k = 0; k < 16; ++k) sum += left[k] * right[k];
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

Sums multiply_add_of_warp(const Multiplicands& lane) {
  return lane.bfloat ? multiply_add<bfloat16>(lane) : multiply_add<float16>(lane);
}

Registers load_matrices_of_warp(const void* row, bool transpose) {
  constexpr std::size_t kRow = 16;  // bytes
  Block& block = *this_thread().block;
  if (reinterpret_cast<std::uintptr_t>(row) % kRow != 0) block.stop_misaligned(row, kRow);
  if (block.checked()) block.note(row, kRow, false, false, __builtin_return_address(0));
  return transpose ? load<true>(row) : load<false>(row);
}

}  // namespace graft::emulated
