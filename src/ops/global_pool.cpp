#include "graft/ops/global_pool.h"

#include "graft/core/window.h"

#include "core/format.h"
#include "kernels/pool.h"

namespace graft::ops {
namespace {

// One window, as large as the image.
WindowGeometry whole(const Shape& x) { return lay("global_pool", {.kernel = {x[1], x[2]}}, x); }

// [N, C] seen as the [N, 1, 1, C] that the pooling kernels write.
Operand as_image(Operand pooled) {
  pooled.shape = {pooled.shape[0], 1, 1, pooled.shape[1]};
  return pooled;
}

Spec pooled(std::string_view op, const Spec& x) {
  check(x.shape.rank() == 4, "[{}] expected an image [N, H, W, C], got {}", op, x.shape);
  check(x.shape[1] > 0 && x.shape[2] > 0, "[{}] an image without pixels has no such value: {}", op, x.shape);
  check(is_floating(x.dtype), "[{}] needs a floating type, got {}", op, x.dtype);
  return {{x.shape[0], x.shape[3]}, x.dtype};
}

double elements(std::span<const Spec> in) { return static_cast<double>(in[0].shape.elements()); }

}  // namespace

std::vector<Spec> GlobalAveragePool::infer(std::span<const Spec> in) const { return {pooled(name(), in[0])}; }

void GlobalAveragePool::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::average_pool_forward(context, whole(in[0].shape), in[0], as_image(out[0]));
}

void GlobalAveragePool::backward(Context& context, const Saved&, std::span<const Operand> dy,
                                 std::span<const Gradient> dx) const {
  if (dx[0]) kernels::average_pool_backward(context, whole(dx[0].to.shape), as_image(dy[0]), dx[0]);
}

double GlobalAveragePool::operations(std::span<const Spec> in, std::span<const Spec>) const { return elements(in); }

std::vector<Spec> GlobalMaxPool::infer(std::span<const Spec> in) const {
  const Spec y = pooled(name(), in[0]);
  return {y, {y.shape, kernels::position_type(in[0].shape[1], in[0].shape[2])}};
}

void GlobalMaxPool::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::max_pool_forward(context, whole(in[0].shape), in[0], as_image(out[0]), as_image(out[1]));
}

Saves GlobalMaxPool::saves(Slots wanted) const {
  Saves saves;
  if (wanted.has(0)) saves.outputs.add(1);
  return saves;
}

void GlobalMaxPool::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                             std::span<const Gradient> dx) const {
  if (dx[0])
    kernels::max_pool_backward(context, whole(dx[0].to.shape), as_image(saved.outputs[1]), as_image(dy[0]), dx[0]);
}

double GlobalMaxPool::operations(std::span<const Spec> in, std::span<const Spec>) const { return elements(in); }

Tensor global_average_pool(const Tensor& x) { return autograd::apply(GlobalAveragePool{}, {x}); }
Tensor global_max_pool(const Tensor& x) { return autograd::apply(GlobalMaxPool{}, {x}); }

}  // namespace graft::ops
