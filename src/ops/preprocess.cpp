#include "graft/ops/preprocess.h"

#include "core/format.h"
#include "kernels/preprocess.h"

namespace graft::ops {

std::string Preprocess::attributes() const {
  const Preprocessing& p = preprocessing;
  return fmt::format("{} minus ({}) over ({}), {}", p.bgr ? "BGR" : "RGB", fmt::join(p.mean, ", "),
                     fmt::join(p.divisor, ", "), graft::name(dtype));
}

std::vector<Spec> Preprocess::infer(std::span<const Spec> in) const {
  check(in[0].dtype == DType::u8 && in[0].shape.rank() >= 1 && in[0].shape.channels() == 3,
        "[preprocess] expected images [..., 3] of u8, got {} {}", in[0].dtype, in[0].shape);
  check(is_floating(dtype), "[preprocess] expected a floating type for the result, got {}", dtype);
  return {{in[0].shape, dtype}};
}

void Preprocess::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::preprocess(context, preprocessing, in[0], out[0]);
}

double Preprocess::operations(std::span<const Spec>, std::span<const Spec> out) const {
  return 2.0 * static_cast<double>(out[0].shape.elements());
}

Tensor preprocess(const Tensor& images, const Preprocessing& preprocessing, DType dtype) {
  return autograd::apply(Preprocess(preprocessing, dtype), {images});
}

}  // namespace graft::ops
