#pragma once

#include <cstdint>

#include "device/language.h"

// Where everything lies in the shared memory of a block of the Hopper product, as numbers that the kernel, the
// emulated device and the tests share.
//
// TMA and wgmma agree on an order of bytes, the 128-byte swizzle (PTX ISA 5.5.7, "Swizzling modes"; 9.7.15.5.1.2,
// "Shared Memory Matrix Layout"). A tile of halves is made of rows of 128 bytes, 64 halves each, and of every eight
// rows, 1024 bytes, the 16-byte pieces are exchanged: piece j of row i stands at place j ^ i. So eight threads that
// read the same piece of eight rows, as the tensor cores do, find them in different banks.
//
// What the rows are depends on which side of a factor lies side by side in global memory, which TMA never changes:
//
//   depth inner (K-major)     a row is a line (a row of A, a column of B) and holds 64 depths
//   lines inner (MN-major)    a row is a depth and holds 64 lines; 64 such rows are a panel of 8 KiB, and a tile has a
//                             panel for each 64 of its lines
namespace graft::GRAFT_TARGET::hopper {

constexpr int kSpan = 64;  ///< halves in the 128 bytes of a row
constexpr unsigned kSpanBytes = 128, kAtomBytes = 8 * kSpanBytes, kPanelBytes = kSpan * kSpanBytes;

/// Where the byte stands that would stand at `address` without the swizzle: bits 7-9 are added to bits 4-6.
constexpr unsigned swizzled(unsigned address) { return address ^ (address >> 3 & 0x70u); }

/// The 64 bits that tell wgmma where a factor lies (PTX ISA 9.7.15.5.1.2.2, "Matrix Descriptor Format"): in units of 16
/// bytes, its start in bits 0-13, the leading offset in bits 16-29, the stride offset in bits 32-45; then the base
/// offset, 0 as every atom begins at a multiple of 1024 bytes, and 1 in bits 62-63 for the 128-byte swizzle.
constexpr std::uint64_t matrix_descriptor(unsigned start, unsigned leading, unsigned stride) {
  constexpr auto encode = [](unsigned bytes) { return static_cast<std::uint64_t>((bytes & 0x3FFFFu) >> 4); };
  return encode(start) | encode(leading) << 16 | encode(stride) << 32 | std::uint64_t{1} << 62;
}

/// The lines from `first_line` on, a multiple of 64, of a tile that begins at `tile`, at its first 16 depths. The
/// offsets are those of PTX ISA 9.7.15.5.1.2.1:
///
///   depth inner    leading: not used        stride: from eight lines to the next eight
///   lines inner    leading: from 64 lines to the next 64    stride: from eight depths to the next eight
template <bool DepthInner>
constexpr std::uint64_t tile_descriptor(unsigned tile, int first_line) {
  const auto line = static_cast<unsigned>(first_line);
  return DepthInner ? matrix_descriptor(tile + line * kSpanBytes, 16, kAtomBytes)
                    : matrix_descriptor(tile + line / kSpan * kPanelBytes, kPanelBytes, kAtomBytes);
}

/// What is added to a descriptor for the next 16 depths: 32 bytes along the rows, or 16 rows. The start stays below
/// 2^18, so that nothing is carried into the next field.
template <bool DepthInner>
constexpr std::uint64_t kNextDepths = (DepthInner ? 16 * sizeof(std::uint16_t) : 16 * kSpanBytes) >> 4;

/// Where sum i of a thread of a warpgroup belongs in the product of 64 rows and n columns (PTX ISA 9.7.15.5.1.1.1,
/// "Matrix Fragments for wgmma.mma_async.m64nNk16", accumulator D): a warp has 16 rows, and within them the sums of
/// eight columns lie as in mma.m16n8k16.
struct SumPlace {
  int row, column;
};
constexpr SumPlace place_of_sum(int thread, int i) {
  const int warp = thread / 32, lane = thread % 32;
  return {warp * 16 + lane / 4 + i % 4 / 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2};
}

/// A tile of C and the memory of the block that computes it. Two warpgroups have 64 rows each; the stages fill what a
/// block can have, 227 KiB, after the slabs through which each of their eight warps hands its sums out.
template <int Columns>
struct Tile {
  static_assert(Columns == 64 || Columns == 128 || Columns == 256);
  static constexpr int kRows = 128, kColumns = Columns, kDepth = 64;
  static constexpr int kStages = Columns == 256 ? 4 : Columns == 128 ? 6 : 8;
  static constexpr unsigned kBytesA = kRows * kSpanBytes, kBytesB = Columns * kSpanBytes, kStage = kBytesA + kBytesB;
  static constexpr unsigned kSlabs = kStages * kStage;           ///< where the slabs begin
  static constexpr unsigned kSlab = 16 * kSpan * sizeof(float);  ///< of a warp: 16 rows of 64 columns
  static constexpr unsigned kBarriers = kSlabs + 8 * kSlab;      ///< where the barriers begin
  static constexpr unsigned kBytes = kBarriers + 2 * kStages * sizeof(std::uint64_t);
  static_assert(kBytes <= 227u << 10 && kStage % kAtomBytes == 0);
};

/// Where a warp's sum of (row, column) stands in its slab, in floats: pairs of columns in groups of four, and the
/// groups of a row exchanged by its number, so that the 16 threads that write pairs together meet 32 different banks.
constexpr int slab_place(int row, int column) { return row * kSpan + (column ^ (row % 4 * 8)); }

/// A place in the ring of stages, and the parity of the round: what a wait at a barrier of that stage asks for.
template <int Stages>
struct Ring {
  int stage = 0;
  unsigned parity = 0;

  constexpr void advance() {
    if (++stage == Stages) {
      stage = 0;
      parity ^= 1u;
    }
  }
};

}  // namespace graft::GRAFT_TARGET::hopper
