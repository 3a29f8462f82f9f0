#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {

/// Where the counts of predictions lie in their tensor, i64 [kConfusion + C C].
enum PredictionCount : Index { kExamples, kTop1, kTop5, kConfusion };

namespace cpu {
void count_predictions(Context&, const Operand& logits, const Operand& labels, const Operand& loss,
                       const Operand& counts, const Operand& loss_sum);
}

GRAFT_DECLARE_GPU(count_predictions)

/// Counts a batch: how many examples there are, whose label has the highest score and one of the five highest, and for
/// each label and prediction how often they met. Among equal scores the lower class number comes first; a score that is
/// NaN counts as above the label's, and is never the highest.
///
/// logits [N, C], labels i64 [N], loss a scalar (f32 or f64), the mean over the batch; counts += as PredictionCount
/// says, loss_sum, f64, += N loss. A label outside 0 .. C-1 throws Error on the CPU and is not counted on a device.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, const Operand&, const Operand&>
    count_predictions{
        "count_predictions", {.native = {cpu::count_predictions}, .library = {}}, GRAFT_GPU(count_predictions)};

}  // namespace graft::kernels
