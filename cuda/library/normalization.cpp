#include "kernels/layer_norm.h"
#include "library/graphs.h"
#include "library/operands.h"
#include "library/plans.h"
#include "library/statistics.h"

// Orders of values in the graphs: x, gamma, beta, y, mean, inverse deviation, residual; x, mean, variance, y, gamma,
// beta, residual; dz, x, gamma, mean, inverse deviation, dx, dgamma, dbeta; x, gamma, beta, y, mean, inverse deviation.
namespace graft::cudnn {
namespace {

using library::Written;
using Kind = Operation::Kind;

// Rows of channels are an image of one column: a batch norm does not care where its rows are.
Value pixels(const Operand& x) { return x.shape.rank() == 4 ? image(x) : rows(x); }

bool usable(const Operand& x) { return x && library::computes(x.dtype) && x.elements() > 0; }

// Adds the residual and applies the activation where there are some: z ends in `to`.
void finish(OperationGraph& graph, int z, const Operand& residual, Activation activation, int to) {
  if (residual) {
    const int other = graph.add(pixels(residual));
    const int sum = activation == Activation::linear ? to : graph.intermediate(pixels(residual).extents);
    graph.call(Kind::add, {z, other}, {sum});
    z = sum;
  }
  if (activation != Activation::linear) graph.call(Kind::activate, {z}, {to}, {.activation = activation});
}

}  // namespace

std::optional<OperationGraph> batch_norm_graph(const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                               const Operand& beta, const Operand& residual, const Operand& y,
                                               const ChannelStatistics& saved) {
  if (!usable(x) || !gamma || !beta) return std::nullopt;
  OperationGraph graph;
  const int from = graph.add(pixels(x)), scale = graph.add(channels(gamma)), shift = graph.add(channels(beta)),
            to = graph.add(pixels(y)), mean = graph.add(channels(saved.mean)),
            inverse = graph.add(channels(saved.spread));
  const bool more = residual || a.activation != Activation::linear;
  const int z = more ? graph.intermediate(pixels(y).extents) : to;
  graph.call(Kind::batch_norm, {from, scale, shift, graph.constant(a.epsilon)}, {z, mean, inverse});
  if (more) finish(graph, z, residual, a.activation, to);
  return graph;
}

// y = (x - mean) (1 / sqrt(variance + epsilon)) gamma + beta, as operations on elements.
std::optional<OperationGraph> batch_norm_moving_graph(const BatchNormAttributes& a, const Operand& x,
                                                      const Operand& gamma, const Operand& beta,
                                                      const Operand& residual, const ChannelStatistics& moving,
                                                      const Operand& y) {
  if (!usable(x) || !beta) return std::nullopt;
  OperationGraph graph;
  const int from = graph.add(pixels(x)), mean = graph.add(channels(moving.mean)),
            variance = graph.add(channels(moving.spread)), to = graph.add(pixels(y));
  const int sum = graph.combine(Kind::add, variance, graph.constant(a.epsilon));
  const int inverse = graph.intermediate(channels(moving.mean).extents);
  graph.call(Kind::reciprocal_root, {sum}, {inverse});
  int z = graph.combine(Kind::multiply, graph.combine(Kind::subtract, from, mean), inverse);
  if (gamma) z = graph.combine(Kind::multiply, z, graph.add(channels(gamma)));
  const bool more = residual || a.activation != Activation::linear;
  const int affine = more ? graph.intermediate(pixels(y).extents) : to;
  graph.call(Kind::add, {z, graph.add(channels(beta))}, {affine});
  if (more) finish(graph, affine, residual, a.activation, to);
  return graph;
}

std::optional<OperationGraph> batch_norm_backward_graph(const Operand& x, const Operand& gamma,
                                                        const ChannelStatistics& saved, const Operand& dz,
                                                        const BatchNormGradients& to) {
  if (!usable(x) || !gamma || !to.x) return std::nullopt;
  const Shape& of_channels = saved.mean.shape;
  OperationGraph graph;
  const int slopes = graph.add(pixels(dz)), from = graph.add(pixels(x)), scale = graph.add(channels(gamma)),
            mean = graph.add(channels(saved.mean)), inverse = graph.add(channels(saved.spread)),
            dx = graph.add(pixels(Written::like(to.x))),
            dgamma = graph.add(channels(Written::like(to.gamma, of_channels, DType::f32))),
            dbeta = graph.add(channels(Written::like(to.beta, of_channels, DType::f32)));
  graph.call(Kind::batch_norm_backward, {slopes, from, scale, mean, inverse}, {dx, dgamma, dbeta});
  return graph;
}

std::optional<OperationGraph> layer_norm_graph(double epsilon, const Operand& x, const Operand& gamma,
                                               const Operand& beta, const Operand& y, const Operand& mean,
                                               const Operand& inverse_deviation) {
  if (!usable(x) || !gamma || !beta) return std::nullopt;
  OperationGraph graph;
  const int from = graph.add(rows(x)), scale = graph.add(channels(gamma)), shift = graph.add(channels(beta)),
            to = graph.add(rows(y)), means = graph.add(row_statistics(mean)),
            inverse = graph.add(row_statistics(inverse_deviation));
  graph.call(Kind::layer_norm, {from, scale, shift, graph.constant(epsilon)}, {to, means, inverse});
  return graph;
}

}  // namespace graft::cudnn

namespace graft::kernels::cudnn {

using namespace graft::cudnn;
using library::Written;

void batch_norm_batch(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                      const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved) {
  const auto plan = plan_for(context, batch_norm_graph(a, x, gamma, beta, residual, y, saved));
  run(context, "cudnn_batch_norm", *plan,
      {x.data, gamma.data, beta.data, y.data, saved.mean.data, saved.spread.data, residual.data});
  library::update_moving(context, a, x.shape.rows(), saved, moving);
}
bool batch_norm_batch_supports(const Context& context, const BatchNormAttributes& a, const Operand& x,
                               const Operand& gamma, const Operand& beta, const Operand& residual,
                               const ChannelStatistics&, const Operand& y, const ChannelStatistics& saved) {
  return plan_for(context, batch_norm_graph(a, x, gamma, beta, residual, y, saved)) != nullptr;
}

void batch_norm_moving(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                       const Operand& y) {
  const auto plan = plan_for(context, batch_norm_moving_graph(a, x, gamma, beta, residual, moving, y));
  run(context, "cudnn_batch_norm_moving", *plan,
      {x.data, moving.mean.data, moving.spread.data, y.data, gamma.data, beta.data, residual.data});
}
bool batch_norm_moving_supports(const Context& context, const BatchNormAttributes& a, const Operand& x,
                                const Operand& gamma, const Operand& beta, const Operand& residual,
                                const ChannelStatistics& moving, const Operand& y) {
  return plan_for(context, batch_norm_moving_graph(a, x, gamma, beta, residual, moving, y)) != nullptr;
}

void batch_norm_batch_backward(Context& context, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                               const Operand&, const ChannelStatistics& saved, const Operand& dz,
                               const BatchNormGradients& to) {
  const auto plan = plan_for(context, batch_norm_backward_graph(x, gamma, saved, dz, to));
  const Shape& of_channels = saved.mean.shape;
  const Written dx(context, to.x), dgamma(context, to.gamma, of_channels, DType::f32),
      dbeta(context, to.beta, of_channels, DType::f32);
  run(context, "cudnn_batch_norm_backward", *plan,
      {dz.data, x.data, gamma.data, saved.mean.data, saved.spread.data, (*dx).data, (*dgamma).data, (*dbeta).data});
  for (const Written* written : {&dx, &dgamma, &dbeta}) written->finish(context);
}
bool batch_norm_batch_backward_supports(const Context& context, const BatchNormAttributes& a, const Operand& x,
                                        const Operand& gamma, const Operand&, const ChannelStatistics& saved,
                                        const Operand& dz, const BatchNormGradients& to) {
  return a.activation == Activation::linear &&
         plan_for(context, batch_norm_backward_graph(x, gamma, saved, dz, to)) != nullptr;
}

void layer_norm_forward(Context& context, double epsilon, const Operand& x, const Operand& gamma, const Operand& beta,
                        const Operand& y, const Operand& mean, const Operand& inverse_deviation) {
  const auto plan = plan_for(context, layer_norm_graph(epsilon, x, gamma, beta, y, mean, inverse_deviation));
  run(context, "cudnn_layer_norm", *plan, {x.data, gamma.data, beta.data, y.data, mean.data, inverse_deviation.data});
}
bool layer_norm_forward_supports(const Context& context, double epsilon, const Operand& x, const Operand& gamma,
                                 const Operand& beta, const Operand& y, const Operand& mean,
                                 const Operand& inverse_deviation) {
  return plan_for(context, layer_norm_graph(epsilon, x, gamma, beta, y, mean, inverse_deviation)) != nullptr;
}

}  // namespace graft::kernels::cudnn
