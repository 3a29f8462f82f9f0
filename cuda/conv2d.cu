#include <numeric>

#include "convolution.h"
#include "kernels/strided.h"

// Implicit GEMM: the three products of a convolution on the kernel of device/gemm.h, with images that are read through
// their windows as the tiles are filled, never unfolded in memory. Groups are products of their own.
//
//   forward           y [pixels, Co]         = windows of x [pixels, taps Ci] times w^T
//   backward_input    dx [pixels, Ci]        = windows of dz [pixels, taps Co] times w seen from the input
//   backward_weight   dw [Co, taps Ci]       = dz^T times windows of x [pixels, taps Ci]
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// One axis of the input's gradient. Input pixel i gets from output o through tap p where o stride = i + pad - p
// dilation. Of the pixels i = phase + a stride, all see the same taps, p = first + t tap_step, and in outputs
// o = a + base - t step: a phase is a convolution of stride 1.
struct Phase {
  Index pixels = 0;                         // values of a
  Index taps = 0, first = 0, tap_step = 1;  // values of t, and which taps they are
  Index base = 0, step = 0;
};

Phase phase_of(Index phase, Index extent, Index kernel, Index stride, Index dilation, Index pad) {
  Phase result{.pixels = (extent - phase + stride - 1) / stride};
  result.tap_step = stride / std::gcd(stride, dilation);
  result.step = result.tap_step * dilation / stride;
  while (result.first < kernel && result.first < result.tap_step &&
         (phase + pad - result.first * dilation) % stride != 0)
    ++result.first;
  if (result.first == result.tap_step || result.first >= kernel) return result;  // no tap reaches this phase
  result.taps = (kernel - result.first + result.tap_step - 1) / result.tap_step;
  result.base = (phase + pad - result.first * dilation) / stride;
  return result;
}

// The windows that input pixels of a phase see in dz.
template <class T>
Windows<T, true> windows_of_phase(const ConvGeometry& g, const Operand& dz, const Phase& down, const Phase& across) {
  return {.data = dz.as<T>(),
          .pitch = dz.pitch,
          .grid = WindowGrid{.height = narrow_count(g.out_height),
                             .width = narrow_count(g.out_width),
                             .base_height = narrow_count(down.base),
                             .base_width = narrow_count(across.base),
                             .step_height = narrow_count(-down.step),
                             .step_width = narrow_count(-across.step),
                             .pixels = Divider(narrow_count(down.pixels * across.pixels)),
                             .columns = Divider(across.pixels),
                             .taps = Divider(std::max<Index>(across.taps, 1))},
          .channels = Divider(g.out_group()),
          .pixels = narrow_count(g.batch * down.pixels * across.pixels),
          .taps = narrow_count(down.taps * across.taps * g.out_group())};
}

// The weights that they meet.
template <class T>
TapWeights<T> weights_of_phase(const ConvGeometry& g, const Operand& w, const Phase& down, const Phase& across) {
  const Index in = g.in_group(), row_of_taps = g.kernel_width * in;
  return {.data = w.as<T>(),
          .channels = Divider(g.out_group()),
          .taps = Divider(std::max<Index>(across.taps, 1)),
          .rows = narrow_count(in),
          .depth = narrow_count(down.taps * across.taps * g.out_group()),
          .out_channel_pitch = narrow_count(g.kernel_height * row_of_taps),
          .first = narrow_count(down.first * row_of_taps + across.first * in),
          .step_height = narrow_count(down.tap_step * row_of_taps),
          .step_width = narrow_count(across.tap_step * in)};
}

template <class T>
void backward_input_of_phase(Context& context, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx,
                             Index row, Index column) {
  constexpr int n = kVector<T>;
  const Phase down = phase_of(row, g.height, g.kernel_height, g.stride_height, g.dilation_height, g.pad_top),
              across = phase_of(column, g.width, g.kernel_width, g.stride_width, g.dilation_width, g.pad_left);
  const auto windows = windows_of_phase<T>(g, dz, down, across);
  if (windows.taps == 0 && dx.accumulate) return;
  const Index in = g.in_group();
  gemm(context, "conv2d_backward_input",
       Product<Windows<T, true>, TapWeights<T>, Groups, Epilogue<T>>{
           .a = windows,
           .b = weights_of_phase<T>(g, w, down, across),
           .batch = {g.out_group(), g.out_group() * g.kernel_height * g.kernel_width * in, in},
           .epilogue = {.y = dx.to.as<T>(),
                        .pitch = dx.to.pitch,
                        .grid = PixelGrid{.scattered = g.stride_height * g.stride_width > 1,
                                          .height = narrow_count(g.height),
                                          .width = narrow_count(g.width),
                                          .stride_height = narrow_count(g.stride_height),
                                          .stride_width = narrow_count(g.stride_width),
                                          .first_row = narrow_count(row),
                                          .first_column = narrow_count(column),
                                          .pixels = windows.grid.pixels,
                                          .columns = windows.grid.columns},
                        .accumulate = dx.accumulate,
                        .vectors = vectors<T>(dx.to) && in % n == 0},
           .rows = windows.pixels,
           .columns = narrow_count(in),
           .depth = windows.taps,
           .products = narrow_count(g.groups)},
       vectors<T>(dz) && vectors<T>(w) && in % n == 0 && g.out_group() % n == 0);
}

template <class T>
void weight_gradient(Context& context, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  using Sum = Accumulator<T>;
  constexpr int n = kVector<T>;
  sum_weight_gradient<T>(context, "conv2d_backward_weight", dw, [&](Gradient sums) {
    const Index pixels = g.batch * g.out_height * g.out_width;
    const auto windows = windows_of_input<T, false>(g, x);
    gemm(context, "conv2d_backward_weight",
         Product<Dense<T, false>, Windows<T, false>, Groups, Epilogue<Sum>>{
             .a = {dz.as<T>(), dz.pitch, narrow_count(g.out_group()), narrow_count(pixels)},
             .b = windows,
             .batch = {g.out_group(), g.in_group(), g.out_group() * windows.taps},
             .epilogue = {.y = sums.to.as<Sum>(),
                          .pitch = windows.taps,
                          .grid = {},
                          .accumulate = sums.accumulate,
                          .vectors = aligned<Sum>(sums.to.data, windows.taps, kVector<Sum>)},
             .rows = narrow_count(g.out_group()),
             .columns = windows.taps,
             .depth = narrow_count(pixels),
             .products = narrow_count(g.groups)},
         vectors<T>(x) && vectors<T>(dz) && g.in_group() % n == 0 && g.out_group() % n == 0);
  });
}

}  // namespace

void conv2d_forward(Context& context, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation activation, const Operand& y) {
  if (y.elements() == 0) return;
  dispatch_floating("conv2d", x.dtype, [&]<class T>(Type<T>) {
    forward_product<T>(context, "conv2d", g, x, w, forward_epilogue<T>(g, bias, residual, activation, y));
  });
}

void conv2d_backward_input(Context& context, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx) {
  if (dx.to.elements() == 0) return;
  dispatch_floating("conv2d", dz.dtype, [&]<class T>(Type<T>) {
    const RoundedWeights<T> weights(context, w);
    for (Index row = 0; row < std::min(g.stride_height, g.height); ++row) {
      for (Index column = 0; column < std::min(g.stride_width, g.width); ++column)
        backward_input_of_phase<T>(context, g, dz, *weights, dx, row, column);
    }
  });
}

void conv2d_backward_weight(Context& context, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  dispatch_floating("conv2d", x.dtype, [&]<class T>(Type<T>) {
    const WholeVectors<T> whole(g);
    if (!whole.padded()) return weight_gradient<T>(context, g, x, dz, dw);
    const Tensor sums = Tensor::empty(dw.to.shape.with(-1, whole.geometry().channels), dw.to.dtype, context.device);
    weight_gradient<T>(context, whole.geometry(), whole(context, "conv2d_backward_weight", x), dz, {sums, false});
    Operand wanted = sums;
    wanted.shape = dw.to.shape;
    kernels::GRAFT_TARGET::copy(context, wanted, dw.to, 1, dw.accumulate);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
