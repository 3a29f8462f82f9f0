#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "cpu/vectorized/grid.h"

namespace graft::kernels::vectorized {

/// Where part i of n begins if `count` things are shared out evenly.
inline Index part(Index count, Index n, Index i) { return count * i / n; }

/// The least multiple of `step` that is no less than `count`.
inline Index round_up(Index count, Index step) { return (count + step - 1) / step * step; }

/// Memory that a thread works in, from a multiple of 64 bytes on: a vector in it never lies in two cache lines.
template <class T>
class Scratch {
 public:
  explicit Scratch(Index count)
      : memory_(static_cast<T*>(
            std::aligned_alloc(64, static_cast<std::size_t>(round_up(count * static_cast<Index>(sizeof(T)), 64))))) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }
  T* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T[], Free> memory_;
};

/// Brings columns of the rows that are listed side by side: rows that lie a power of two apart would share a few sets
/// of the cache.
inline void copy_panel(const float* from, Index pitch, const Index* rows, Index count, Index columns, float* to) {
  constexpr Index kAhead = 16;
  for (Index r = 0; r < count; ++r, to += kTileColumns) {
    const float* next = from + rows[std::min(r + kAhead, count - 1)] * pitch;
    __builtin_prefetch(next);
    __builtin_prefetch(next + kVectorColumns);
    if (columns == kTileColumns)
      std::copy_n(from + rows[r] * pitch, kTileColumns, to);  // a constant count needs no call
    else
      std::copy_n(from + rows[r] * pitch, columns, to);
  }
}

/// Elements of an operand as T: float, or Half for bf16.
template <class T>
T* elements(const Operand& x) {
  return static_cast<T*>(x.data);
}

/// Where image n's rows of a head begin in [N, L, heads depth].
template <class T>
T* head_of(const Operand& x, Index n, Index head, Index depth) {
  return elements<T>(x) + n * x.shape[1] * x.pitch + head * depth;
}

template <class T>
struct Source {
  const T* data;
  Index pitch, channels;
};

/// Where sums go, and what is done to them first.
template <class T>
struct Result {
  const float* bias = nullptr;
  const T* residual = nullptr;
  Index residual_pitch = 0;
  T* data = nullptr;
  Index pitch = 0, columns = 0;
  Activation activation = Activation::linear;

  Clamp clamp() const {
    return activation == Activation::relu ? Clamp::relu : activation == Activation::relu6 ? Clamp::relu6 : Clamp::none;
  }
  /// A tile of columns from `first` on, in `count` rows of the result, with all that is done to sums on their way
  /// there.
  ProductTile<T> tile(Index first, const Index* positions, Index count, bool streams) const {
    return {.bias = bias == nullptr ? nullptr : bias + first,
            .residual = residual == nullptr ? nullptr : residual + first,
            .residual_pitch = residual_pitch,
            .y = data + first,
            .y_pitch = pitch,
            .positions = positions,
            .count = count,
            .columns = std::min(kTileColumns, columns - first),
            .clamp = clamp(),
            .streams = streams};
  }
  /// Those of its columns that belong to a group.
  Result group(Index first, Index count) const {
    Result part = *this;
    if (bias != nullptr) part.bias += first;
    if (residual != nullptr) part.residual += first;
    part.data += first;
    part.columns = count;
    return part;
  }
  /// True if `rows` of them are more than the caches keep until somebody reads them, and can be written around them.
  bool streams(Index rows) const {
    constexpr Index kLeastBytes = 24 << 20, kLine = 64 / sizeof(T);
    return rows * columns * static_cast<Index>(sizeof(T)) >= kLeastBytes && columns % kVectorColumns == 0 &&
           pitch % kLine == 0 && reinterpret_cast<std::uintptr_t>(data) % 64 == 0 && !activates_after();
  }
  /// True for an activation that is applied to what was written.
  bool activates_after() const { return clamp() == Clamp::none && activation != Activation::linear; }
};

}  // namespace graft::kernels::vectorized
