#pragma once

#include "graft/core/tensor.h"

#include "device/axes.h"
#include "device/numeric.h"
#include "device/reduce.h"
#include "runtime/launch.h"

namespace graft::GRAFT_TARGET {

constexpr int kSumThreads = 256;

/// Sums over some axes of K operands of one shape: y[m] (+)= sum over r of term(offsets of (m, r)).
template <std::size_t K>
struct SumAxes {
  DividedAxes<K> kept, reduced;
  Index outputs, terms;
  bool across;  ///< neighbouring outputs are neighbours in memory: threads of a warp take an output each

  /// `reduces` has a bit for each axis that is summed over; all operands have `shape`.
  SumAxes(const std::array<Strided, K>& operands, unsigned reduces)
      : kept(part(operands, reduces, false)),
        reduced(part(operands, reduces, true)),
        outputs(kept.elements()),
        terms(reduced.elements()),
        across(outputs > 1 && (reduces >> (operands[0].shape.rank() - 1) & 1u) == 0) {}

 private:
  static DividedAxes<K> part(std::array<Strided, K> operands, unsigned reduces, bool reduced) {
    std::array<const Strided*, K> pointers;
    for (std::size_t k = 0; k < K; ++k) {
      for (int axis = 0; axis < operands[k].shape.rank(); ++axis) {
        if (((reduces >> axis & 1u) != 0) != reduced) operands[k].shape = operands[k].shape.with(axis, 1);
      }
      pointers[k] = &operands[k];
    }
    return DividedAxes<K>(JoinedAxes<K>(pointers));
  }
};

// A block has Across outputs side by side and 256 / Across threads for the terms of each; a grid's second axis splits
// the terms further. Every output's terms are added in an order that depends on the shapes alone. Each term is read
// once, so the kernel moves as many bytes as its operands have.
template <int Across, class Sum, std::size_t K, class Term>
__global__ void sum_kernel(SumAxes<K> axes, Term term, Index terms_a_block, Sum* partial) {
  constexpr int kDown = kSumThreads / Across;
  GRAFT_SHARED(Sum, sums, kSumThreads);
  const int thread = static_cast<int>(threadIdx.x), column = thread % Across, row = thread / Across;
  const Index output = static_cast<Index>(blockIdx.x) * Across + column;
  const Index first = static_cast<Index>(blockIdx.y) * terms_a_block;
  const Index last = first + terms_a_block < axes.terms ? first + terms_a_block : axes.terms;
  Sum sum = 0;
  if (output < axes.outputs) {
    const auto base = axes.kept.offsets(output);
    for (Index r = first + row; r < last; r += kDown) {
      auto at = axes.reduced.offsets(r);
      for (std::size_t k = 0; k < K; ++k) at[k] += base[k];
      sum += term(at);
    }
  }
  sums[thread] = sum;
  __syncthreads();
  for (int half = kDown / 2; half > 0; half /= 2) {
    if (row < half) sums[thread] += sums[thread + half * Across];
    __syncthreads();
  }
  if (row == 0 && output < axes.outputs) partial[static_cast<Index>(blockIdx.y) * axes.outputs + output] = sums[thread];
}

// Adds the parts of each output and puts the sum into its place, converted.
template <class T, class Sum>
__global__ void finish_sum_kernel(const Sum* partial, Index outputs, Index parts, Sum scale, T* y, Index channels,
                                  Index pitch, bool accumulate) {
  for (Index i = first_index(); i < outputs; i += index_stride()) {
    Sum sum = 0;
    for (Index part = 0; part < parts; ++part) sum += partial[part * outputs + i];
    T& to = y[i / channels * pitch + i % channels];
    to = narrow<T>(accumulate ? static_cast<Sum>(widen(to)) + scale * sum : scale * sum);
  }
}

/// y (+)= scale times the sums that `axes` describes, y's elements in row-major order being the outputs. Sum is the
/// type of the terms, T that of y.
template <class T, class Sum, std::size_t K, class Term>
void sum_terms(Context& context, const char* name, const SumAxes<K>& axes, Term term, Sum scale, Gradient y) {
  if (axes.outputs == 0) return;
  constexpr Index kTermsABlock = 4096;  // sixteen a thread at least: enough to hide the way to memory
  constexpr Index kMostParts = 256;     // each costs a number written and read again
  const Index needed = (axes.terms + kTermsABlock - 1) / kTermsABlock;
  const Index wanted = needed < 1 ? 1 : needed < kMostParts ? needed : kMostParts;
  const Index terms_a_block = (axes.terms + wanted - 1) / wanted;
  const Index parts = axes.terms == 0 ? 1 : (axes.terms + terms_a_block - 1) / terms_a_block;
  const Tensor partial = Tensor::empty(Shape{parts, axes.outputs}, dtype_of<Sum>, context.device);
  auto* sums = static_cast<Sum*>(partial.raw());
  const auto grid = [&](Index across) {
    return LaunchShape{
        .grid = dim3(static_cast<unsigned>((axes.outputs + across - 1) / across), static_cast<unsigned>(parts)),
        .block = dim3(kSumThreads)};
  };
  if (axes.across)
    launch(context, name, grid(32), sum_kernel<32, Sum, K, Term>, axes, term, terms_a_block, sums);
  else
    launch(context, name, grid(1), sum_kernel<1, Sum, K, Term>, axes, term, terms_a_block, sums);
  launch(context, name, grid_for(axes.outputs), finish_sum_kernel<T, Sum>, sums, axes.outputs, parts, scale,
         y.to.as<T>(), y.to.shape.channels(), y.to.pitch, y.accumulate);
}

}  // namespace graft::GRAFT_TARGET
