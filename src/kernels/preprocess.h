#pragma once

#include "graft/core/preprocessing.h"

#include "kernels/kernel.h"

namespace graft {

/// What becomes of the value of a channel, 0 to 255, everywhere and to the bit.
template <class T>
constexpr float normalized(T value, float mean, float divisor) {
  return (static_cast<float>(value) - mean) / divisor;
}

namespace kernels {
namespace cpu {
void preprocess(Context&, const Preprocessing&, const Operand& images, const Operand& y);
}  // namespace cpu
GRAFT_DECLARE_GPU(preprocess)

/// y = (images - mean) / divisor per channel, blue first if `bgr`, in f32 and then rounded to y's type. images u8 [...,
/// 3], y of that shape.
inline constexpr Kernel<const Preprocessing&, const Operand&, const Operand&> preprocess{
    "preprocess", {.native = {cpu::preprocess}, .library = {}}, GRAFT_GPU(preprocess)};

}  // namespace kernels
}  // namespace graft
