#pragma once

#include <initializer_list>

#include "graft/core/operand.h"

#include "device/numeric.h"

namespace graft::GRAFT_TARGET::attention {

// The rows of one head of [N, L, heads d].
template <class T>
struct Head {
  T* data;
  int pitch, length, depth;

  __device__ T* row(int position) const { return data + Index{position} * pitch; }
};

// All heads; none of an absent operand.
template <class T>
struct Heads {
  T* data = nullptr;
  int pitch = 0, length = 0, heads = 1, depth = 0;

  Heads(const Operand& operand, Index count) {
    if (!operand) return;
    data = operand.as<T>();
    pitch = static_cast<int>(operand.pitch);
    length = static_cast<int>(operand.shape[1]);
    heads = static_cast<int>(count);
    depth = static_cast<int>(operand.shape[2] / count);
  }

  /// `number` counts the heads of all images.
  __device__ Head<T> operator[](Index number) const {
    return {data + number / heads * length * pitch + number % heads * depth, pitch, length, depth};
  }
};

// Where a block works that has `rows` rows of one head: the first of them.
struct Place {
  Index head;
  int row;

  __device__ Place(int length, int rows) {
    const int blocks = (length + rows - 1) / rows;
    head = blockIdx.x / static_cast<unsigned>(blocks);
    row = static_cast<int>(blockIdx.x % static_cast<unsigned>(blocks)) * rows;
  }
};

// How many such blocks the heads of all images are.
inline unsigned blocks_of_heads(const Operand& x, Index heads, Index rows) {
  return static_cast<unsigned>((x.shape[1] + rows - 1) / rows * x.shape[0] * heads);
}

// Whether every row of every head can be read and written as vectors of n.
template <class T>
bool in_vectors(int n, Index depth, std::initializer_list<Operand> operands) {
  bool all = depth % n == 0;
  for (const Operand& operand : operands) all = all && aligned<T>(operand.data, operand.pitch, n);
  return all;
}

}  // namespace graft::GRAFT_TARGET::attention
