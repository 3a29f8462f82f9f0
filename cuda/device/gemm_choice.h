#pragma once

#include "device/gemm.h"
#include "device/simt_core.h"
#include "device/tensor_core.h"
#include "hopper/describe.h"

namespace graft::GRAFT_TARGET {

// The cores in use: a large tile does the most work for what it reads, a small one leaves fewer threads idle where C is
// small. Of double there is but a small one, for it is there to check gradients.
template <class T>
struct Cores {  // the halves, on tensor cores
  using Large = TensorCore<T, 128, 128, 32, 64, 32, 4, 2>;
  using Tall = TensorCore<T, 128, 64, 32, 32, 32, 4, 2>;   // for 64 channels and many pixels
  using Broad = TensorCore<T, 64, 128, 32, 32, 32, 4, 2>;  // for the gradient of the weights of 64 channels
  using Small = TensorCore<T, 32, 32, 32, 16, 16, 4, 4>;
};
template <>
struct Cores<float> {
  using Large = SimtCore<float, 128, 128, 8, 8, 8, 3>;
  using Tall = SimtCore<float, 128, 64, 16, 8, 4, 3>;
  using Small = SimtCore<float, 32, 32, 16, 4, 4, 3>;
};
struct Tf32Cores {  // floats on tensor cores, as many bytes a tile as of halves
  using Large = TensorCore<float, 128, 128, 16, 64, 32, 4, 2>;
  using Tall = TensorCore<float, 128, 64, 16, 32, 32, 4, 2>;
  using Small = TensorCore<float, 32, 32, 16, 16, 16, 4, 4>;
};
template <>
struct Cores<double> {
  using Small = SimtCore<double, 32, 32, 16, 4, 4, 3>;
};

/// Whether a core has blocks for every multiprocessor of an H100, with the depth split if it must be.
template <class Core, class P>
bool fills_device(const P& p) {
  const Index blocks = blocks_of<Core>(p);
  return blocks * parts_of(blocks, steps_of<Core>(p)) >= 132;
}

/// Launches the product with the one of the cores that suits its shape. Returns what launch_gemm does.
template <class Cores, class P>
int gemm_with(const Context& context, const char* name, const P& p, bool wide) {
  if constexpr (requires { typename Cores::Large; }) {
    using Large = typename Cores::Large;
    using Tall = typename Cores::Tall;
    if (wide && p.rows > 64 && p.columns > 64 && fills_device<Large>(p))
      return launch_gemm<Large, true>(context, name, p);
    if (wide && p.rows > 64 && p.columns > 32 && fills_device<Tall>(p))
      return launch_gemm<Tall, true>(context, name, p);
    if constexpr (requires { typename Cores::Broad; }) {
      using Broad = typename Cores::Broad;
      if (wide && p.rows > 32 && p.columns > 64 && fills_device<Broad>(p))
        return launch_gemm<Broad, true>(context, name, p);
    }
    if (wide) return launch_gemm<typename Cores::Small, true>(context, name, p);
  }
  return launch_gemm<typename Cores::Small, false>(context, name, p);
}

/// Launches the product with the core that suits its type and shape and that the context allows: of halves that of
/// hopper/, where it may be used and can. `wide` says that
/// whatever lies side by side in A and B comes in aligned multiples of 16 bytes. Returns what launch_gemm does.
template <class P>
int gemm(const Context& context, const char* name, const P& p, bool wide) {
  using T = typename P::A::Element;
  if constexpr (!std::is_same_v<T, Accumulator<T>>) {
    if (wide && hopper::try_product(context, name, p)) return 0;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (context.allow_tf32) return gemm_with<Tf32Cores>(context, name, p, wide);
  }
  return gemm_with<Cores<T>>(context, name, p, wide);
}

/// The fewest rows that a tile of any core has.
constexpr Index kLeastTileRows = 32;

/// Rounds or widens rows of `from` to the type of `to`.
template <class From, class To>
__global__ void convert_rows_kernel(Index rows, Index channels, const From* from, Index from_pitch, To* to,
                                    Index to_pitch, bool accumulate) {
  for (Index i = first_index(); i < rows * channels; i += index_stride()) {
    const auto value = widen(from[i / channels * from_pitch + i % channels]);
    To& at = to[i / channels * to_pitch + i % channels];
    at = narrow<To>(accumulate ? widen(at) + value : value);
  }
}

template <class From, class To>
void convert_rows(const Context& context, const char* name, const Operand& from, Gradient to) {
  launch(context, name, grid_for(from.elements()), convert_rows_kernel<From, To>, from.shape.rows(),
         from.shape.channels(), from.as<From>(), from.pitch, to.to.as<To>(), to.to.pitch, to.accumulate);
}

/// Weights in the type of the activations that meet them: themselves, or f32 masters rounded once, so that the product
/// need not do so for every tile that reads them.
template <class T>
class RoundedWeights {
 public:
  RoundedWeights(const Context& context, const Operand& w) : operand_(w) {
    if constexpr (!std::is_same_v<T, Accumulator<T>>) {
      if (w.dtype == dtype_of<T>) return;
      if (const void* const kept = w.half(dtype_of<T>)) {
        operand_ = Operand(const_cast<void*>(kept), w.shape, dtype_of<T>);  // that a kernel only reads
        return;
      }
      copy_ = Tensor::empty(w.shape, dtype_of<T>, context.device);
      operand_ = copy_;
      convert_rows<Accumulator<T>, T>(context, "round_weights", w, {operand_, false});
    }
  }
  const Operand& operator*() const { return operand_; }

 private:
  Tensor copy_;
  Operand operand_;
};

/// Calls body(Type<T>, Gradient) for a gradient of weights that is summed in Accumulator<T>: with the gradient itself
/// if it has that type, else with a tensor that is converted afterwards.
template <class T, class Body>
void sum_weight_gradient(const Context& context, const char* name, Gradient dw, const Body& body) {
  using Sum = Accumulator<T>;
  if (dw.to.dtype == dtype_of<Sum>) return body(dw);
  if constexpr (!std::is_same_v<T, Sum>) {
    const Tensor sums = Tensor::empty(dw.to.shape, dtype_of<Sum>, context.device);
    body(Gradient{sums, false});
    convert_rows<Sum, T>(context, name, sums, dw);
  }
}

}  // namespace graft::GRAFT_TARGET
