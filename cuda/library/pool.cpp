#include "kernels/pool.h"

#include "library/graphs.h"
#include "library/operands.h"
#include "library/plans.h"

namespace graft::cudnn {
namespace {

std::optional<OperationGraph> pool_graph(Operation::Kind kind, const WindowGeometry& g, const Operand& x,
                                         const Operand& y) {
  if (!library::computes(x.dtype) || x.elements() == 0 || y.elements() == 0 || g.dilation_height != 1 ||
      g.dilation_width != 1)
    return std::nullopt;
  OperationGraph graph;
  const int from = graph.add(image(x)), to = graph.add(image(y));
  graph.call(kind, {from}, {to}, window_of(g));
  return graph;
}

}  // namespace

// cuDNN's positions are not graft's: what backward will read is left to graft's own kernel.
std::optional<OperationGraph> max_pool_graph(const WindowGeometry& g, const Operand& x, const Operand& y,
                                             const Operand& positions) {
  if (positions) return std::nullopt;
  return pool_graph(Operation::Kind::max_pool, g, x, y);
}

// cuDNN 9.19 leaves some averages of halves unwritten on an H100.
std::optional<OperationGraph> average_pool_graph(const WindowGeometry& g, const Operand& x, const Operand& y) {
  if (is_half(x.dtype)) return std::nullopt;
  return pool_graph(Operation::Kind::average_pool, g, x, y);
}

}  // namespace graft::cudnn

namespace graft::kernels::cudnn {

using namespace graft::cudnn;

void max_pool_forward(Context& context, const WindowGeometry& g, const Operand& x, const Operand& y,
                      const Operand& positions) {
  run(context, "cudnn_max_pool", *plan_for(context, max_pool_graph(g, x, y, positions)), {x.data, y.data});
}
bool max_pool_forward_supports(const Context& context, const WindowGeometry& g, const Operand& x, const Operand& y,
                               const Operand& positions) {
  return plan_for(context, max_pool_graph(g, x, y, positions)) != nullptr;
}

void average_pool_forward(Context& context, const WindowGeometry& g, const Operand& x, const Operand& y) {
  run(context, "cudnn_average_pool", *plan_for(context, average_pool_graph(g, x, y)), {x.data, y.data});
}
bool average_pool_forward_supports(const Context& context, const WindowGeometry& g, const Operand& x,
                                   const Operand& y) {
  return plan_for(context, average_pool_graph(g, x, y)) != nullptr;
}

}  // namespace graft::kernels::cudnn
