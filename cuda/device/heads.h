#pragma once

#include "graft/core/operand.h"

#include "device/language.h"

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

}  // namespace graft::GRAFT_TARGET::attention
