#pragma once

#include <cmath>

#include "kernels/optimizer.h"

namespace graft::kernels {

/// One decision, the same on every device.
///
/// With scaled gradients g of norm n the step is by g / loss_scale, and by less where n / loss_scale exceeds the norm
/// to clip at. A sum of squares that is not finite tells of a gradient that is not (or of one beyond 1e154, as bad).
/// Where the loss is scaled, such a step is left out and the scale halved, for f16 ends at 65504; a scale of 1 cannot
/// be blamed. After `growth_interval` good steps the scale is tried twice as high (Micikevicius et al. 2018).
constexpr StepControl decide(const StepRule& rule, StepControl control, double squares, double loss) {
  constexpr double kLargestScale = 65536;
  const bool finite = std::isfinite(squares) && std::isfinite(loss);
  const double scale = control.loss_scale;
  control.norm = std::sqrt(squares) / scale;
  control.applies = finite && !(rule.stops && control.failed >= 0) ? 1 : 0;
  control.gradient_scale = 1 / scale;
  // The small number keeps the quotient finite, as in torch.nn.utils.clip_grad_norm_.
  if (rule.clip_norm > 0 && control.norm + 1e-6 > rule.clip_norm)
    control.gradient_scale *= rule.clip_norm / (control.norm + 1e-6);
  if (!finite) {
    control.skipped += 1;
    control.finite_in_row = 0;
    const bool mended = rule.growth_interval > 0 && scale > 1;
    if (mended)
      control.loss_scale = scale / 2;
    else if (control.failed < 0)
      control.failed = control.steps;
  } else if (rule.growth_interval > 0) {
    control.finite_in_row += 1;
    if (control.finite_in_row >= rule.growth_interval && scale < kLargestScale) {
      control.loss_scale = 2 * scale;
      control.finite_in_row = 0;
    }
  }
  control.steps += 1;
  return control;
}

}  // namespace graft::kernels
