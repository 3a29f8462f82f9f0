#pragma once

#include <optional>

#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"
#include "kernels/depthwise_conv2d.h"
#include "library/operation_graph.h"

// The graphs behind cuDNN's kernels: none for a call that it cannot have. Whether it has one on a GPU is its own to
// say, when a plan is made. The operands' addresses matter by their alignment alone.
namespace graft::cudnn {

/// conv2d, or depthwise_conv2d, which cuDNN knows as a convolution with as many groups as channels.
struct Convolution {
  ConvGeometry geometry;
  bool depthwise = false;  ///< weights are [Kh, Kw, Co] instead of [Co, Kh, Kw, Ci / groups]

  Convolution(const ConvGeometry& g) : geometry(g) {}  // NOLINT: each is one
  Convolution(const DepthwiseGeometry& g)              // NOLINT
      : geometry{static_cast<const WindowGeometry&>(g), g.out_channels(), g.channels}, depthwise(true) {}
};

std::optional<OperationGraph> convolution_graph(const Context&, const Convolution&, const Operand& x, const Operand& w,
                                                const Operand& bias, const Operand& residual, Activation,
                                                const Operand& y);
std::optional<OperationGraph> convolution_backward_input_graph(const Context&, const Convolution&, const Operand& dz,
                                                               const Operand& w, const Gradient& dx);
std::optional<OperationGraph> convolution_backward_weight_graph(const Context&, const Convolution&, const Operand& x,
                                                                const Operand& dz, const Gradient& dw);

std::optional<OperationGraph> batch_norm_graph(const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                                               const Operand& beta, const Operand& residual, const Operand& y,
                                               const ChannelStatistics& saved);
std::optional<OperationGraph> batch_norm_moving_graph(const BatchNormAttributes&, const Operand& x,
                                                      const Operand& gamma, const Operand& beta,
                                                      const Operand& residual, const ChannelStatistics& moving,
                                                      const Operand& y);
std::optional<OperationGraph> batch_norm_backward_graph(const Operand& x, const Operand& gamma,
                                                        const ChannelStatistics& saved, const Operand& dz,
                                                        const BatchNormGradients&);

std::optional<OperationGraph> layer_norm_graph(double epsilon, const Operand& x, const Operand& gamma,
                                               const Operand& beta, const Operand& y, const Operand& mean,
                                               const Operand& inverse_deviation);

std::optional<OperationGraph> attention_graph(Index heads, double scale, const Operand& q, const Operand& k,
                                              const Operand& v, const Operand& y, const Operand& log_sums);
std::optional<OperationGraph> attention_backward_graph(Index heads, double scale, const Operand& q, const Operand& k,
                                                       const Operand& v, const Operand& y, const Operand& log_sums,
                                                       const Operand& dy, const Gradient& dq, const Gradient& dk,
                                                       const Gradient& dv);

}  // namespace graft::cudnn
