#pragma once

#include "graft/core/tensor.h"

namespace graft {

/// What a kernel sees of a tensor: a pointer, a shape, a type. It owns nothing.
///
/// Neighbouring rows of channels lie `pitch` elements apart: shape.channels() in a tensor of its own, more in a channel
/// range of a wider one.
struct Operand {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  Index pitch = 0;
  const Storage* rounded = nullptr;  ///< the block that it fills, beside which copies in half precision may be kept
  const Storage* block = nullptr;    ///< where it lies, if copies in other layouts may be kept there; see core/packed.h

  Operand() = default;
  Operand(void* memory, const Shape& extents, DType type)
      : data(memory), shape(extents), dtype(type), pitch(extents.channels()) {}
  Operand(const Tensor& tensor);  // NOLINT: every tensor is an operand

  /// False for an operand that is not there: a bias that a convolution does without, a tensor that backward did not ask
  /// to be saved.
  explicit operator bool() const { return data != nullptr; }
  bool contiguous() const { return pitch == shape.channels(); }
  Index elements() const { return shape.elements(); }
  /// The same elements in a half type, where a copy is kept of a parameter; else null.
  const void* half(DType type) const {
    const Storage::Rounded* const kept = rounded != nullptr ? rounded->rounded(type) : nullptr;
    return kept != nullptr ? kept->copy->data() : nullptr;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

/// Where a backward kernel puts a gradient. Without a destination the gradient is not wanted and must not be computed.
struct Gradient {
  Operand to;
  bool accumulate =
      false;  ///< add to what is there; otherwise what is there is garbage and every element is overwritten

  explicit operator bool() const { return static_cast<bool>(to); }
};

}  // namespace graft
