#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/preprocessing.h"

namespace graft::ops {

/// What a network sees of images that have its size, computed where they are: y = (x - mean) / divisor per channel,
/// blue first if `bgr`. It is the second half of `data::preprocess`, to the bit, for images that travel to a device as
/// bytes.
///
/// images   u8 [..., 3], RGB
/// dtype    f32, bf16, f16 or f64, of the result; computed in f32
/// returns  [..., 3]
/// throws   Error if the images are of another type or number of channels
Tensor preprocess(const Tensor& images, const Preprocessing& preprocessing, DType dtype = DType::f32);

/// The op behind it, which has no gradient. Input: the images.
struct Preprocess final : Op {
  Preprocessing preprocessing;
  DType dtype;

  Preprocess(const Preprocessing& p, DType type) : preprocessing(p), dtype(type) {}
  std::string_view name() const override { return "preprocess"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
