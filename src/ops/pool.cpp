#include "graft/ops/pool.h"

#include "core/format.h"
#include "kernels/pool.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

// Every window must meet the image in some pixel, or it has neither a maximum nor a mean. Rows and columns can be
// looked at by themselves.
void check_side(std::string_view op, std::string_view side, Index out, Index stride, Index before, Index kernel,
                Index dilation, Index extent) {
  for (Index k = 0; k < out; ++k) {
    bool meets = false;
    for (Index tap = 0; tap < kernel && !meets; ++tap) {
      const Index at = k * stride - before + tap * dilation;
      meets = at >= 0 && at < extent;
    }
    check(meets, "[{}] window {} of {} along the {} lies wholly in the padding: kernel {}, padding {}, input {}", op, k,
          out, side, kernel, before, extent);
  }
}

WindowGeometry geometry(std::string_view op, const Window& window, const Shape& x) {
  const WindowGeometry g = lay(op, window, x);
  check_side(op, "height", g.out_height, g.stride_height, g.pad_top, g.kernel_height, g.dilation_height, g.height);
  check_side(op, "width", g.out_width, g.stride_width, g.pad_left, g.kernel_width, g.dilation_width, g.width);
  return g;
}

Spec pooled(std::string_view op, const Window& window, const Spec& x) {
  const WindowGeometry g = geometry(op, window, x.shape);
  check(is_floating(x.dtype), "[{}] needs a floating type, got {}", op, x.dtype);
  return {{g.batch, g.out_height, g.out_width, g.channels}, x.dtype};
}

double taps(const Window& window, std::span<const Spec> out) {
  return static_cast<double>(out[0].shape.elements()) * static_cast<double>(window.kernel.height * window.kernel.width);
}

}  // namespace

std::vector<Spec> MaxPool::infer(std::span<const Spec> in) const {
  const Spec y = pooled(name(), window, in[0]);
  return {y, {y.shape, kernels::position_type(window.kernel.height, window.kernel.width)}};
}

void MaxPool::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::max_pool_forward(context, lay(name(), window, in[0].shape), in[0], out[0], out[1]);
}

Saves MaxPool::saves(Slots wanted) const {
  Saves saves;
  if (wanted.has(0)) saves.outputs.add(1);
  return saves;
}

void MaxPool::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                       std::span<const Gradient> dx) const {
  if (dx[0]) kernels::max_pool_backward(context, lay(name(), window, dx[0].to.shape), saved.outputs[1], dy[0], dx[0]);
}

std::shared_ptr<const Op> MaxPool::with_padding(const Padding& more, bool never_negative) const {
  if (!never_negative) return nullptr;  // zeros would be the largest
  const auto padding = padded(window.padding, more);
  if (!padding || std::max(padding->top, padding->bottom) >= window.kernel.height ||
      std::max(padding->left, padding->right) >= window.kernel.width)
    return nullptr;  // a window of nothing but zeros has a maximum
  auto op = std::make_shared<MaxPool>(*this);
  op->window.padding = *padding;
  return op;
}

double MaxPool::operations(std::span<const Spec>, std::span<const Spec> out) const { return taps(window, out); }

std::vector<Spec> AveragePool::infer(std::span<const Spec> in) const { return {pooled(name(), window, in[0])}; }

void AveragePool::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::average_pool_forward(context, lay(name(), window, in[0].shape), in[0], out[0]);
}

// An average spreads its gradient evenly over what it averaged, so backward reads shapes and no saved tensor.
void AveragePool::backward(Context& context, const Saved&, std::span<const Operand> dy,
                           std::span<const Gradient> dx) const {
  if (dx[0]) kernels::average_pool_backward(context, lay(name(), window, dx[0].to.shape), dy[0], dx[0]);
}

double AveragePool::operations(std::span<const Spec>, std::span<const Spec> out) const { return taps(window, out); }

Tensor max_pool(const Tensor& x, const Window& window) { return autograd::apply(MaxPool(window), {x}); }
Tensor average_pool(const Tensor& x, const Window& window) { return autograd::apply(AveragePool(window), {x}); }

}  // namespace graft::ops
