#pragma once

#include <vector>

#include "core/parallel.h"
#include "cpu/vector_ops.h"

// Products of matrices, made of dot products or of scaled rows, whichever reads memory in order. The loops are ordered
// so that the larger operand is streamed from memory once for each block of rows of the other, and what is used again
// stays in the cache.
namespace graft::cpu {

/// A matrix of T whose elements lie `row_stride` and `column_stride` apart; each is rounded to R when it is read.
template <class T, class R = T>
struct Matrix {
  const T* data = nullptr;
  Index row_stride = 0;
  Index column_stride = 1;

  Matrix transposed() const { return {data, column_stride, row_stride}; }

  /// Elements (row, column) to (row, column + count - 1) side by side: where they are if they are stored so, else
  /// copied into `buffer`.
  const Accumulator<R>* read_row(Index row, Index column, Index count, Accumulator<R>* buffer) const {
    const T* from = data + row * row_stride + column * column_stride;
    if constexpr (std::is_same_v<T, Accumulator<R>> && std::is_same_v<T, R>) {
      if (column_stride == 1) return from;
    }
    for (Index i = 0; i < count; ++i) buffer[i] = static_cast<Accumulator<R>>(convert<R>(from[i * column_stride]));
    return buffer;
  }
  Accumulator<R> operator()(Index row, Index column) const {
    return static_cast<Accumulator<R>>(convert<R>(data[row * row_stride + column * column_stride]));
  }
};

struct GemmSize {
  Index m = 0, n = 0, k = 0;
  Index products = 1;  ///< independent ones
  Index terms = 1;     ///< so many products are summed into each
};

/// For each product p: C(p) = sum over its terms t of A(p, t) [m, k] times B(p, t) [k, n]. a(p, t) and b(p, t) give
/// matrices; store(p, row, column, sums, count) takes finished numbers of a row of C, and may change them. Each number
/// is summed in an order that depends on the sizes alone.
template <class Sum, class A, class B, class Store>
void gemm(const GemmSize& size, const A& a, const B& b, const Store& store) {
  constexpr Index kRows = 16;      // of A and C at once: B is read from memory once for so many
  constexpr Index kColumns = 256;  // of C at once
  constexpr Index kInner = 1024;   // of k at once: 16 rows of A are 64 KiB, in the second-level cache for all columns
  const Index row_blocks = (size.m + kRows - 1) / kRows, column_blocks = (size.n + kColumns - 1) / kColumns;
  parallel_for(size.products * row_blocks * column_blocks, [&](Index task) {
    const Index p = task / (row_blocks * column_blocks);
    const Index row = task / column_blocks % row_blocks * kRows, column = task % column_blocks * kColumns;
    const Index rows = std::min(kRows, size.m - row), columns = std::min(kColumns, size.n - column);
    std::vector<Sum> sums(static_cast<std::size_t>(rows * columns)), left,
        right(static_cast<std::size_t>(std::max(kInner, columns)));
    std::vector<const Sum*> left_rows(static_cast<std::size_t>(rows));
    for (Index t = 0; t < size.terms; ++t) {
      const auto at = a(p, t);
      const auto bt = b(p, t);
      if (bt.column_stride == 1 && size.n > 1) {  // rows of B lie side by side: C gets them scaled
        for (Index k = 0; k < size.k; ++k) {
          const Sum* from = bt.read_row(k, column, columns, right.data());
          for (Index r = 0; r < rows; ++r) add_scaled(sums.data() + r * columns, at(row + r, k), from, columns);
        }
        continue;
      }
      left.resize(static_cast<std::size_t>(rows * kInner));
      for (Index k = 0; k < size.k; k += kInner) {  // columns of B lie side by side: dot products
        const Index inner = std::min(kInner, size.k - k);
        for (Index r = 0; r < rows; ++r)
          left_rows[static_cast<std::size_t>(r)] = at.read_row(row + r, k, inner, left.data() + r * kInner);
        for (Index c = 0; c < columns; ++c) {
          const Sum* from = bt.transposed().read_row(column + c, k, inner, right.data());
          for (Index r = 0; r < rows; ++r)
            sums[static_cast<std::size_t>(r * columns + c)] += dot(left_rows[static_cast<std::size_t>(r)], from, inner);
        }
      }
    }
    for (Index r = 0; r < rows; ++r) store(p, row + r, column, sums.data() + r * columns, columns);
  });
}

}  // namespace graft::cpu
