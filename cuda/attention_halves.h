#pragma once

#include "graft/core/context.h"
#include "graft/core/operand.h"

#include "device/language.h"

// Attention of halves on tensor cores, as kernels/attention.h describes it.
namespace graft::kernels::GRAFT_TARGET {

/// False, and nothing done, where it is not for these operands: rows that are no vectors of 16 bytes, and heads of more
/// than 128 channels or of no multiple of 8.
template <class T>
bool attention_halves(const Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                      const Operand& v, const Operand& y, const Operand& log_sums);

/// False, and nothing done, likewise, and where neither dq nor dk is wanted. `along` is dy . y of each query and head.
template <class T>
bool attention_halves_backward(const Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                               const Operand& v, const Operand& log_sums, const Operand& along, const Operand& dy,
                               Gradient dq, Gradient dk, Gradient dv);

}  // namespace graft::kernels::GRAFT_TARGET
