#pragma once

#include <optional>

#include "device/gemm_choice.h"
#include "kernels/conv2d.h"

// What the kernels of convolutions share, and the forward product, whose epilogue differs.
namespace graft::kernels::GRAFT_TARGET {

using namespace graft::GRAFT_TARGET;

struct Groups {
  Index a = 0, b = 0, c = 0;  // from one group to the next

  __device__ Bases operator()(int group, int) const { return {group * a, group * b, group * c}; }
  std::optional<hopper::BatchSteps> steps() const { return hopper::BatchSteps{.a = a, .b = b, .c = c}; }
};

/// The windows that output pixels see in x.
template <class T, bool DepthInner>
Windows<T, DepthInner> windows_of_input(const ConvGeometry& g, const Operand& x) {
  const Index columns = std::max<Index>(g.out_width, 1), rows = std::max<Index>(g.out_height, 1);  // to divide by
  return {.data = x.as<T>(),
          .pitch = x.pitch,
          .grid = WindowGrid{.height = static_cast<int>(g.height),
                             .width = static_cast<int>(g.width),
                             .stride_height = static_cast<int>(g.stride_height),
                             .stride_width = static_cast<int>(g.stride_width),
                             .base_height = static_cast<int>(-g.pad_top),
                             .base_width = static_cast<int>(-g.pad_left),
                             .step_height = static_cast<int>(g.dilation_height),
                             .step_width = static_cast<int>(g.dilation_width),
                             .pixels = Divider(rows * columns),
                             .columns = Divider(columns),
                             .taps = Divider(g.kernel_width)},
          .channels = Divider(g.in_group()),
          .pixels = static_cast<int>(g.batch * g.out_height * g.out_width),
          .taps = static_cast<int>(g.kernel_height * g.kernel_width * g.in_group())};
}

/// Whether all of an operand can be read as vectors.
template <class T>
bool vectors(const Operand& y) {
  return aligned<T>(y.data, y.pitch, kVector<T>);
}

template <class T>
Epilogue<T> forward_epilogue(const ConvGeometry& g, const Operand& bias, const Operand& residual, Activation activation,
                             const Operand& y) {
  return {.y = y.as<T>(),
          .pitch = y.pitch,
          .grid = {},
          .bias = bias.as<Accumulator<T>>(),
          .residual = residual.as<T>(),
          .residual_pitch = residual.pitch,
          .activation = activation,
          .vectors = vectors<T>(y) && (!residual || vectors<T>(residual)) && g.out_group() % kVector<T> == 0};
}

/// Launches the product of x's windows with w. Returns what `gemm` does.
template <class T, class Epilogue>
int forward_product(Context& context, const char* name, const ConvGeometry& g, const Operand& x, const Operand& w,
                    const Epilogue& epilogue) {
  const RoundedWeights<T> weights(context, w);
  const auto windows = windows_of_input<T, true>(g, x);
  const Index depth = windows.taps;
  return gemm(context, name,
              Product<Windows<T, true>, Dense<T, true>, Groups, Epilogue>{
                  .a = windows,
                  .b = {(*weights).template as<T>(), depth, static_cast<int>(g.out_group()), static_cast<int>(depth)},
                  .batch = {g.in_group(), g.out_group() * depth, g.out_group()},
                  .epilogue = epilogue,
                  .rows = windows.pixels,
                  .columns = static_cast<int>(g.out_group()),
                  .depth = static_cast<int>(depth),
                  .products = static_cast<int>(g.groups)},
              vectors<T>(x) && vectors<T>(*weights) && g.in_group() % kVector<T> == 0);
}

}  // namespace graft::kernels::GRAFT_TARGET
