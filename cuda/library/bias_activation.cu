#include "device/numeric.h"
#include "kernels/activation_math.h"
#include "library/bias_activation.h"
#include "runtime/launch.h"

namespace graft::library {
namespace {

using namespace graft::cuda;

template <class From, class To>
__global__ void bias_activation_kernel(Index rows, Index channels, const From* x, Index x_pitch,
                                       const Accumulator<To>* bias, Activation activation, To* y, Index y_pitch) {
  for (Index i = first_index(); i < rows * channels; i += index_stride()) {
    const Index row = i / channels, c = i % channels;
    const auto sum = widen(x[row * x_pitch + c]) + (bias != nullptr ? bias[c] : Accumulator<To>(0));
    y[row * y_pitch + c] = narrow<To>(kernels::activate(activation, sum));
  }
}

}  // namespace

void bias_activation(const Context& context, const Operand& x, const Operand& bias, Activation activation,
                     const Operand& y) {
  dispatch_floating("bias_activation", y.dtype, [&]<class T>(Type<T>) {
    using From = Accumulator<T>;
    launch(context, "bias_activation", grid_for(y.elements()), bias_activation_kernel<From, T>, y.shape.rows(),
           y.shape.channels(), x.as<From>(), x.pitch, bias.as<Accumulator<T>>(), activation, y.as<T>(), y.pitch);
  });
}

}  // namespace graft::library
