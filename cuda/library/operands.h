#pragma once

#include "graft/core/tensor.h"

#include "kernels/elementwise.h"
#include "kernels/strided.h"

// What a library cannot do with its operands, done for it by graft's own kernels: round weights, add to a gradient.
namespace graft::library {

/// True for the types that cuDNN computes in.
inline bool computes(DType type) { return type == DType::f32 || is_half(type); }

/// An operand that does not exist yet: a Tensor will be made for it, dense and aligned.
inline Operand future(const Shape& shape, DType type) { return {nullptr, shape, type}; }

/// Weights in the type of the activations that meet them: themselves, or f32 masters rounded to a half, by whoever
/// keeps such a copy or by this.
class Rounded {
 public:
  Rounded(Context& context, const Operand& w, DType type) : operand_(w) {
    if (!w || w.dtype == type) return;
    if (const void* const kept = w.half(type)) {
      operand_ = Operand(const_cast<void*>(kept), w.shape, type);  // that a library only reads
      return;
    }
    copy_ = Tensor::empty(w.shape, type, context.device);
    operand_ = copy_;
    kernels::cuda::cast(context, w, operand_, false);
  }
  const Operand& operator*() const { return operand_; }

  /// What it will be, for a graph that is made before.
  static Operand like(const Operand& w, DType type) { return w.dtype == type ? w : future(w.shape, type); }

 private:
  Tensor copy_;
  Operand operand_;
};

/// Where a library writes a gradient that it can only overwrite: into it, or beside it, to be added by finish(). One
/// that is not wanted, of a call that makes several, is written beside and forgotten.
class Written {
 public:
  Written(const Context& context, const Gradient& gradient, const Shape& shape, DType type)
      : gradient_(gradient), operand_(gradient.to) {
    if (gradient && !gradient.accumulate) return;
    beside_ = Tensor::empty(shape, type, context.device);
    operand_ = beside_;
  }
  Written(const Context& context, const Gradient& gradient)
      : Written(context, gradient, gradient.to.shape, gradient.to.dtype) {}
  const Operand& operator*() const { return operand_; }

  void finish(Context& context) const {
    if (gradient_ && gradient_.accumulate) kernels::cuda::copy(context, operand_, gradient_.to, 1, true);
  }

  /// What it will be, for a graph that is made before.
  static Operand like(const Gradient& gradient, const Shape& shape, DType type) {
    return gradient && !gradient.accumulate ? gradient.to : future(shape, type);
  }
  static Operand like(const Gradient& gradient) { return like(gradient, gradient.to.shape, gradient.to.dtype); }

 private:
  Gradient gradient_;
  Tensor beside_;
  Operand operand_;
};

}  // namespace graft::library
