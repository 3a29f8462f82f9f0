#include "kernels/attention.h"

#include "library/graphs.h"
#include "library/operands.h"
#include "library/plans.h"

// Orders of values in the graphs: q, k, v, y, log sums; q, k, v, y, dy, log sums, dq, dk, dv.
namespace graft::cudnn {
namespace {

using library::Written;
using Kind = Operation::Kind;

// Tensor cores of halves alone, with heads of a multiple of 8 numbers and at most 128.
bool usable(Index heads, const Operand& q, const Operand& k) {
  const Index size = q.shape[2] / heads;
  return is_half(q.dtype) && q.elements() > 0 && k.elements() > 0 && size % 8 == 0 && size <= 128;
}

// [N, heads, L]
Value sums_of(const Operand& log_sums) {
  const Index heads = log_sums.shape[1], length = log_sums.shape[2];
  return {.dtype = log_sums.dtype,
          .extents = {log_sums.shape[0], heads, length, 1},
          .strides = {heads * length, length, 1, 1}};
}

}  // namespace

std::optional<OperationGraph> attention_graph(Index heads, double scale, const Operand& q, const Operand& k,
                                              const Operand& v, const Operand& y, const Operand& log_sums) {
  if (!usable(heads, q, k)) return std::nullopt;
  OperationGraph graph;
  const int queries = graph.add(heads_of(q, heads)), keys = graph.add(heads_of(k, heads)),
            values = graph.add(heads_of(v, heads)), to = graph.add(heads_of(y, heads)),
            sums = log_sums ? graph.add(sums_of(log_sums)) : -1;
  graph.call(Kind::attention, {queries, keys, values}, {to, sums}, {.scale = static_cast<float>(scale)});
  return graph;
}

std::optional<OperationGraph> attention_backward_graph(Index heads, double scale, const Operand& q, const Operand& k,
                                                       const Operand& v, const Operand& y, const Operand& log_sums,
                                                       const Operand& dy, const Gradient& dq, const Gradient& dk,
                                                       const Gradient& dv) {
  if (!usable(heads, q, k) || !v || !y) return std::nullopt;
  OperationGraph graph;
  const auto add = [&](const Operand& x) { return graph.add(heads_of(x, heads)); };
  const int queries = add(q), keys = add(k), values = add(v), result = add(y), slopes = add(dy),
            sums = graph.add(sums_of(log_sums)), to_q = add(Written::like(dq, q.shape, q.dtype)),
            to_k = add(Written::like(dk, k.shape, k.dtype)), to_v = add(Written::like(dv, v.shape, v.dtype));
  graph.call(Kind::attention_backward, {queries, keys, values, result, slopes, sums}, {to_q, to_k, to_v},
             {.scale = static_cast<float>(scale)});
  return graph;
}

}  // namespace graft::cudnn

namespace graft::kernels::cudnn {

using namespace graft::cudnn;
using library::Written;

void attention_forward(Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                       const Operand& v, const Operand& y, const Operand& log_sums) {
  run(context, "cudnn_attention", *plan_for(context, attention_graph(heads, scale, q, k, v, y, log_sums)),
      {q.data, k.data, v.data, y.data, log_sums.data});
}
bool attention_forward_supports(const Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                                const Operand& v, const Operand& y, const Operand& log_sums) {
  return plan_for(context, attention_graph(heads, scale, q, k, v, y, log_sums)) != nullptr;
}
void attention_backward(Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                        const Operand& v, const Operand& y, const Operand& log_sums, const Operand& dy, Gradient dq,
                        Gradient dk, Gradient dv) {
  const auto plan = plan_for(context, attention_backward_graph(heads, scale, q, k, v, y, log_sums, dy, dq, dk, dv));
  const Written to_q(context, dq, q.shape, q.dtype), to_k(context, dk, k.shape, k.dtype),
      to_v(context, dv, v.shape, v.dtype);
  run(context, "cudnn_attention_backward", *plan,
      {q.data, k.data, v.data, y.data, dy.data, log_sums.data, (*to_q).data, (*to_k).data, (*to_v).data});
  for (const Written* written : {&to_q, &to_k, &to_v}) written->finish(context);
}
bool attention_backward_supports(const Context& context, Index heads, double scale, const Operand& q, const Operand& k,
                                 const Operand& v, const Operand& y, const Operand& log_sums, const Operand& dy,
                                 Gradient dq, Gradient dk, Gradient dv) {
  return plan_for(context, attention_backward_graph(heads, scale, q, k, v, y, log_sums, dy, dq, dk, dv)) != nullptr;
}

}  // namespace graft::kernels::cudnn
