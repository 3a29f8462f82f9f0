#pragma once

#include "graft/core/operand.h"

namespace graft::kernels::vectorized {

/// attention_forward of bf16 operands by AMX, where the machine has it. Scores are f32, their softmax is rounded to
/// bf16 before it meets the values.
void attention_forward_by_amx(Index heads, float scale, const Operand& q, const Operand& k, const Operand& v,
                              const Operand& y, const Operand& log_sums);

}  // namespace graft::kernels::vectorized
