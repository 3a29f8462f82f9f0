#pragma once

#include "graft/core/operand.h"

#include "device/epilogue.h"
#include "device/tile.h"
#include "runtime/launch.h"

// Every product of graft, that of matrices and that of a convolution, is the one kernel below. What differs are its
// parts: the factors (device/operands.h), how a block multiplies two tiles (a core: device/simt_core.h,
// device/tensor_core.h) and what becomes of the sums (device/epilogue.h).
namespace graft::GRAFT_TARGET {

/// Where the matrices of one product begin in A, B and C, in elements.
struct Bases {
  Index a = 0, b = 0, c = 0;
};

/// C(p) = epilogue(sum over terms t of A(p, t) B(p, t)) for each product p. `Batch` says where the matrices are:
/// `Bases operator()(int product, int term)`.
template <class A_, class B_, class Batch_, class Epilogue_>
struct Product {
  using A = A_;
  using B = B_;
  using Batch = Batch_;
  using Epilogue = Epilogue_;
  using Sum = typename Epilogue::Sum;

  A a;
  B b;
  Batch batch;
  Epilogue epilogue;
  int rows = 0, columns = 0, depth = 0;
  int products = 1, terms = 1;
  int parts = 1;           ///< into which the depth is split, each summed by a block of its own
  int steps_a_part = 0;    ///< of kDepth each, counted over all terms
  Sum* partial = nullptr;  ///< [parts, products, rows, columns]: the sums of each part, if the depth is split
};

/// How many tiles of `tile` cover `extent`.
constexpr int tiles(int extent, int tile) { return extent / tile + (extent % tile != 0 ? 1 : 0); }

/// The shared memory of the kernel below: the tiles that are on their way or in use, and later, in their place, a slab
/// of sums on its way out.
template <class Core, class P>
struct GemmMemory {
  static constexpr int kPitch = Core::kColumns + 4;  // of a slab
  using LayoutA = typename Core::template Layout<typename P::A, Core::kRows>;
  using LayoutB = typename Core::template Layout<typename P::B, Core::kColumns>;
  static constexpr int kStage = LayoutA::kElements + LayoutB::kElements;
  static constexpr std::size_t kTiles = sizeof(typename Core::Element) * kStage * Core::kStages;
  static constexpr std::size_t kSlab = sizeof(typename Core::Sum) * kPitch * Core::kSlabRows;
  static constexpr std::size_t kBytes = kTiles > kSlab ? kTiles : kSlab;
};

// A block computes a tile of C [kRows, kColumns]. It walks over the depth in steps of kDepth; while it multiplies the
// tiles of A and B of one step, those of the next kStages - 1 steps are on their way into shared memory, so that one
// barrier a step is enough: behind it the tiles of this step have arrived and nobody reads those of the step before,
// whose place the copies of this step take. A tile element is read from global memory once a block, that is
// rows / kRows or columns / kColumns times in all, and 2 kRows kColumns / (kRows + kColumns) operations are done for
// it. Blocks next to each other share a tile row of A, the activations, through the second-level cache.
//
// The sums leave through shared memory, a slab of rows at a time, so that threads next to each other write (and read
// bias, residual and what is accumulated to) next to each other, 16 bytes each.
template <class Core, bool Wide, class P>
__global__ void __launch_bounds__(Core::kThreads, Core::kBlocks) gemm_kernel(const P p) {
  using T = typename Core::Element;
  using Sum = typename Core::Sum;
  using Layouts = GemmMemory<Core, P>;
  using LayoutA = typename Layouts::LayoutA;
  using LayoutB = typename Layouts::LayoutB;
  using ReaderA = TileReader<typename P::A, LayoutA, Core::kRows, Core::kDepth, Core::kThreads,
                             Core::template kCopy<typename P::A, Wide>>;
  using ReaderB = TileReader<typename P::B, LayoutB, Core::kColumns, Core::kDepth, Core::kThreads,
                             Core::template kCopy<typename P::B, Wide>>;
  T* const shared = dynamic_shared<T>();
  GRAFT_SHARED(Place, places, Core::kRows + Core::kColumns);

  const int column_tiles = tiles(p.columns, Core::kColumns), row_tiles = tiles(p.rows, Core::kRows);
  int block = static_cast<int>(blockIdx.x);
  const int first_column = block % column_tiles * Core::kColumns;
  block /= column_tiles;
  const int first_row = block % row_tiles * Core::kRows;
  block /= row_tiles;
  const int product = block % p.products, part = block / p.products;

  const ReaderA reader_a(p.a, first_row, places);
  const ReaderB reader_b(p.b, first_column, places + Core::kRows);
  __syncthreads();

  const int steps_a_term = tiles(p.depth, Core::kDepth), all_steps = steps_a_term * p.terms;
  const int begin = part * p.steps_a_part;
  const int steps = all_steps - begin < p.steps_a_part ? all_steps - begin : p.steps_a_part;
  int term = steps_a_term > 0 ? begin / steps_a_term : 0, step_in_term = begin - term * steps_a_term;
  Bases bases = p.batch(product, term);
  const auto read = [&](int stage) {  // the next step, in order
    if (step_in_term == steps_a_term) {
      step_in_term = 0;
      bases = p.batch(product, ++term);
    }
    T* const a = shared + stage * Layouts::kStage;
    reader_a.read(bases.a, step_in_term * Core::kDepth, a);
    reader_b.read(bases.b, step_in_term * Core::kDepth, a + LayoutA::kElements);
    ++step_in_term;
  };

  typename Core::Sums sums{};
  for (int step = 0; step < Core::kStages - 1; ++step) {
    if (step < steps) read(step);
    commit_copies();
  }
  int stage = 0;
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<Core::kStages - 2>();
    __syncthreads();
    if (step + Core::kStages - 1 < steps) read(stage == 0 ? Core::kStages - 1 : stage - 1);
    commit_copies();
    const T* const a = shared + stage * Layouts::kStage;
    Core::template multiply<LayoutA, LayoutB>(a, a + LayoutA::kElements, sums);
    stage = stage + 1 == Core::kStages ? 0 : stage + 1;
  }
  wait_for_copies<0>();

  const Index base = p.batch(product, 0).c;
  using Values = typename P::Epilogue::Values;
  constexpr int kWidth = P::Epilogue::kWidth, kAcross = Core::kColumns / kWidth;
  Sum* const slab = reinterpret_cast<Sum*>(shared);
  [[maybe_unused]] Moments<kWidth, Sum> moments;  // of what this thread writes, always of the same columns
  for (int s = 0; s < Core::kSlabs; ++s) {
    __syncthreads();
    Core::put(sums, s, slab, Layouts::kPitch);
    __syncthreads();
    for (int v = static_cast<int>(threadIdx.x); v < Core::kSlabRows * kAcross; v += Core::kThreads) {
      const int in_slab = v / kAcross, in_tile = v % kAcross * kWidth;
      const int row = first_row + s * Core::kSlabRows + in_slab, column = first_column + in_tile;
      if (row >= p.rows || column >= p.columns) continue;
      const int count = p.columns - column < kWidth ? p.columns - column : kWidth;
      Values values;
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) values[i] = slab[in_slab * Layouts::kPitch + in_tile + i];
      if (p.partial == nullptr) {
        const auto written = p.epilogue.put(base, row, column, count, values);
        if constexpr (P::Epilogue::kKeepsMoments) moments.add(written);
      } else {
        Sum* const to =
            p.partial + ((static_cast<Index>(part) * p.products + product) * p.rows + row) * p.columns + column;
        GRAFT_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          if (i < count) to[i] = values[i];
        }
      }
    }
  }
  if constexpr (P::Epilogue::kKeepsMoments) {
    static_assert(Core::kThreads % kAcross == 0);
    if (p.partial != nullptr) return;
    const int rows = p.rows - first_row < Core::kRows ? p.rows - first_row : Core::kRows;
    const int column = first_column + static_cast<int>(threadIdx.x) % kAcross * kWidth;
    p.epilogue.template put_moments<Core::kThreads, kAcross>(first_row / Core::kRows, rows, base + column,
                                                             p.columns - column, moments);
  }
}

// Adds the parts of a product whose depth was split, always in the same order, and finishes the sums.
template <class P>
__global__ void finish_gemm_kernel(const P p) {
  using Values = typename P::Epilogue::Values;
  constexpr int kWidth = P::Epilogue::kWidth;
  const Index across = tiles(p.columns, kWidth), in_product = across * p.rows;
  for (Index at = first_index(); at < in_product * p.products; at += index_stride()) {
    const auto product = static_cast<int>(at / in_product);
    const auto row = static_cast<int>(at % in_product / across);
    const auto column = static_cast<int>(at % across) * kWidth;
    const int count = p.columns - column < kWidth ? p.columns - column : kWidth;
    Values values{};
    for (int part = 0; part < p.parts; ++part) {
      const auto* from =
          p.partial + ((static_cast<Index>(part) * p.products + product) * p.rows + row) * p.columns + column;
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        if (i < count) values[i] += from[i];
      }
    }
    p.epilogue.put(p.batch(product, 0).c, row, column, count, values);
  }
}

/// How a depth is split so that a small C still gives every multiprocessor something to do. By the shape alone, so that
/// results do not depend on the GPU.
inline int parts_of(Index blocks, Index steps) {
  constexpr Index kEnoughBlocks = 2 * 132;  // two for each multiprocessor of an H100
  constexpr Index kLeastSteps = 8;          // of a part: fewer cost more in sums written and read than they save
  constexpr Index kMostParts = 64;
  if (2 * blocks > kEnoughBlocks) return 1;
  const Index wanted = kEnoughBlocks / blocks, possible = steps / kLeastSteps;
  const Index parts = wanted < possible ? wanted : possible;
  return static_cast<int>(parts < 1 ? 1 : parts < kMostParts ? parts : kMostParts);
}

/// The tiles of C, and the steps along the depth that each takes.
template <class Core, class P>
Index blocks_of(const P& p) {
  return static_cast<Index>(tiles(p.rows, Core::kRows)) * tiles(p.columns, Core::kColumns) * p.products;
}
template <class Core, class P>
Index steps_of(const P& p) {
  return static_cast<Index>(tiles(p.depth, Core::kDepth)) * p.terms;
}

/// Launches the product with this core; `name` and, if the depth is split, `name` again for the sum of the parts.
/// Returns how many rows a tile has whose epilogue saw it whole: none if the depth is split.
template <class Core, bool Wide, class P>
int launch_gemm(const Context& context, const char* name, P p) {
  constexpr bool kVectors = Core::template kCopy < typename P::A, Wide >> 1 || Core::template kCopy < typename P::B,
                 Wide >> 1;
  const Index blocks = blocks_of<Core>(p), steps = steps_of<Core>(p);
  if (blocks == 0) return 0;
  p.parts = parts_of(blocks, steps);
  p.steps_a_part = static_cast<int>((steps + p.parts - 1) / p.parts);
  if (steps > 0) p.parts = static_cast<int>((steps + p.steps_a_part - 1) / p.steps_a_part);
  Tensor partial;
  if (p.parts > 1) {
    partial = Tensor::empty(Shape{p.parts, p.products, p.rows, p.columns}, dtype_of<typename P::Sum>, context.device);
    p.partial = static_cast<typename P::Sum*>(partial.raw());
  }
  launch(context, name,
         {.grid = dim3(static_cast<unsigned>(blocks * p.parts)),
          .block = dim3(Core::kThreads),
          .shared = GemmMemory<Core, P>::kBytes},
         gemm_kernel<Core, kVectors, P>, p);
  if (p.parts > 1) {
    const Index vectors = static_cast<Index>(tiles(p.columns, P::Epilogue::kWidth)) * p.rows * p.products;
    launch(context, name, grid_for(vectors), finish_gemm_kernel<P>, p);
    return 0;
  }
  return Core::kRows;
}

}  // namespace graft::GRAFT_TARGET
