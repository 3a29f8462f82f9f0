#pragma once

#include "graft/core/window.h"

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void max_pool_forward(Context&, const WindowGeometry&, const Operand& x, const Operand& y, const Operand& positions);
void max_pool_backward(Context&, const WindowGeometry&, const Operand& positions, const Operand& dy, Gradient dx);
void average_pool_forward(Context&, const WindowGeometry&, const Operand& x, const Operand& y);
void average_pool_backward(Context&, const WindowGeometry&, const Operand& dy, Gradient dx);
}  // namespace cpu

/// The type that holds a position of a window.
constexpr DType position_type(Index kernel_height, Index kernel_width) {
  return kernel_height * kernel_width < 256 ? DType::u8 : DType::i32;
}

/// y = the largest value under each window, and positions, if there, = which p Kw + q of the window it was. Every
/// window meets the image.
inline constexpr Kernel<const WindowGeometry&, const Operand&, const Operand&, const Operand&> max_pool_forward{
    "max_pool", {.native = {cpu::max_pool_forward}, .library = {}}};
/// dx (+)= dy where the maximum was.
inline constexpr Kernel<const WindowGeometry&, const Operand&, const Operand&, Gradient> max_pool_backward{
    "max_pool_backward", {.native = {cpu::max_pool_backward}, .library = {}}};
/// y = the mean of what lies under each window inside the image. Every window meets the image.
inline constexpr Kernel<const WindowGeometry&, const Operand&, const Operand&> average_pool_forward{
    "average_pool", {.native = {cpu::average_pool_forward}, .library = {}}};
/// dx (+)= each dy spread evenly over what it averaged.
inline constexpr Kernel<const WindowGeometry&, const Operand&, Gradient> average_pool_backward{
    "average_pool_backward", {.native = {cpu::average_pool_backward}, .library = {}}};

}  // namespace graft::kernels
