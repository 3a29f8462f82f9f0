#pragma once

#include "graft/core/window.h"

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void max_pool_forward(Context&, const WindowGeometry&, const Operand& x, const Operand& y, const Operand& positions);
void max_pool_backward(Context&, const WindowGeometry&, const Operand& positions, const Operand& dy, Gradient dx);
void average_pool_forward(Context&, const WindowGeometry&, const Operand& x, const Operand& y);
void average_pool_backward(Context&, const WindowGeometry&, const Operand& dy, Gradient dx);
/// Where graft's own are ahead of oneDNN's: a maximum whose position nobody asks for, and halves.
bool max_pool_forward_is_ahead(const Context&, const WindowGeometry&, const Operand& x, const Operand& y,
                               const Operand& positions);
bool average_pool_forward_is_ahead(const Context&, const WindowGeometry&, const Operand& x, const Operand& y);
}  // namespace cpu
namespace onednn {
void max_pool_forward(Context&, const WindowGeometry&, const Operand& x, const Operand& y, const Operand& positions);
bool max_pool_forward_supports(const Context&, const WindowGeometry&, const Operand& x, const Operand& y,
                               const Operand& positions);
void max_pool_backward(Context&, const WindowGeometry&, const Operand& positions, const Operand& dy, Gradient dx);
bool max_pool_backward_supports(const Context&, const WindowGeometry&, const Operand& positions, const Operand& dy,
                                Gradient dx);
void average_pool_forward(Context&, const WindowGeometry&, const Operand& x, const Operand& y);
bool average_pool_forward_supports(const Context&, const WindowGeometry&, const Operand& x, const Operand& y);
void average_pool_backward(Context&, const WindowGeometry&, const Operand& dy, Gradient dx);
bool average_pool_backward_supports(const Context&, const WindowGeometry&, const Operand& dy, Gradient dx);
}  // namespace onednn

GRAFT_DECLARE_GPU(max_pool_forward)
GRAFT_DECLARE_GPU(max_pool_backward)
GRAFT_DECLARE_GPU(average_pool_forward)
GRAFT_DECLARE_GPU(average_pool_backward)

/// The type that holds a position of a window.
constexpr DType position_type(Index kernel_height, Index kernel_width) {
  return kernel_height * kernel_width < 256 ? DType::u8 : DType::i32;
}

/// y = the largest value under each window, and positions, if there, = which p Kw + q of the window it was. Every
/// window meets the image.
inline constexpr Kernel<const WindowGeometry&, const Operand&, const Operand&, const Operand&> max_pool_forward{
    "max_pool",
    {.native = {cpu::max_pool_forward},
     .library = GRAFT_ONEDNN(onednn::max_pool_forward, onednn::max_pool_forward_supports),
     .vectorized = {cpu::max_pool_forward, cpu::max_pool_forward_is_ahead}},
    GRAFT_GPU(max_pool_forward)};
/// dx (+)= dy where the maximum was.
inline constexpr Kernel<const WindowGeometry&, const Operand&, const Operand&, Gradient> max_pool_backward{
    "max_pool_backward",
    {.native = {cpu::max_pool_backward},
     .library = GRAFT_ONEDNN(onednn::max_pool_backward, onednn::max_pool_backward_supports)},
    GRAFT_GPU(max_pool_backward)};
/// y = the mean of what lies under each window inside the image. Every window meets the image.
inline constexpr Kernel<const WindowGeometry&, const Operand&, const Operand&> average_pool_forward{
    "average_pool",
    {.native = {cpu::average_pool_forward},
     .library = GRAFT_ONEDNN(onednn::average_pool_forward, onednn::average_pool_forward_supports),
     .vectorized = {cpu::average_pool_forward, cpu::average_pool_forward_is_ahead}},
    GRAFT_GPU(average_pool_forward)};
/// dx (+)= each dy spread evenly over what it averaged.
inline constexpr Kernel<const WindowGeometry&, const Operand&, Gradient> average_pool_backward{
    "average_pool_backward",
    {.native = {cpu::average_pool_backward},
     .library = GRAFT_ONEDNN(onednn::average_pool_backward, onednn::average_pool_backward_supports)},
    GRAFT_GPU(average_pool_backward)};

}  // namespace graft::kernels
