#include <cmath>

#include "device/normalizer.h"
#include "device/sum.h"
#include "device/warp_rows.h"
#include "kernels/loss.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

template <class S>
struct Weight {
  const S* weights;
  __device__ double operator()(const std::array<Index, 1>& at) const { return static_cast<double>(weights[at[0]]); }
};

// What each row's loss counts in the mean: its weight divided by the sum of them. All zero if nothing counts.
template <class S>
struct Shares {
  Index rows;
  const S* weights;     // absent where all rows count the same
  const double* total;  // of the weights

  __device__ S operator()(Index row) const {
    if (weights == nullptr) return static_cast<S>(1. / static_cast<double>(rows));
    return *total == 0 ? S(0) : static_cast<S>(static_cast<double>(weights[row]) / *total);
  }
};

// The sum of the weights, for Shares; undefined without weights.
template <class S>
Tensor total_of(Context& context, const Operand& weights) {
  if (!weights) return {};
  Tensor total = Tensor::empty(Shape{}, DType::f64, context.device);
  sum_terms<double>(context, "row_weights", SumAxes<1>({weights}, 1), Weight<S>{weights.as<S>()}, 1., {total});
  return total;
}

template <class S>
Shares<S> shares(Index rows, const Operand& weights, const Tensor& total) {
  return {rows, weights.as<S>(), weights ? static_cast<const double*>(total.raw()) : nullptr};
}

template <class S>
struct Share {
  Shares<S> share;
  const S* losses;
  __device__ double operator()(const std::array<Index, 1>& at) const {
    const S part = share(at[0]);
    return part == 0 ? 0. : static_cast<double>(losses[at[0]]) * static_cast<double>(part);
  }
};

template <class S>
void put_mean(Context& context, const Shares<S>& share, const Tensor& losses, const Operand& loss) {
  sum_terms<S>(context, "mean_loss", SumAxes<1>({Operand(losses)}, 1),
               Share<S>{share, static_cast<const S*>(losses.raw())}, 1., {loss});
}

// With q = (1 - s) onehot(label) + s / C: -sum of q log(softmax(x)) = log_sum - (1 - s) x[label] - s mean(x). A row is
// read once, and one number of it again.
template <class T, class L>
__global__ void softmax_cross_entropy_kernel(Accumulator<T> smoothing, Index rows, int classes, const T* logits,
                                             Index pitch, const L* labels, Shares<Accumulator<T>> share,
                                             Accumulator<T>* losses, Accumulator<T>* log_sums) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;  // a whole warp
  if (share(row) == 0) {    // neither logits nor label are looked at
    if (lane == 0) losses[row] = log_sums[row] = 0;
    return;
  }
  const T* x = logits + row * pitch;
  Normalizer<S> all;
  S total = 0;
  for (int c = lane; c < classes; c += kLanes) {
    const S value = widen(x[c]);
    all.add(value);
    total += value;
  }
  all = warp_normalizer(all);
  total = warp_reduce(total, Plus{});
  if (lane != 0) return;
  const L label = labels[row];
  const bool valid = label >= 0 && label < classes;
  const S log_sum = valid ? all.largest + std::log(all.sum) : static_cast<S>(NAN);
  log_sums[row] = log_sum;
  S expected = valid ? (S(1) - smoothing) * widen(x[label]) : S(0);
  if (smoothing != 0) expected += smoothing * total / static_cast<S>(classes);
  losses[row] = log_sum - expected;
}

// One exponential a logit, which is read once and whose gradient is written once. A label out of range has left a
// log_sum of NaN, and so becomes the row's gradient.
template <class T, class L>
__global__ void softmax_cross_entropy_backward_kernel(double smoothing, Index rows, int classes, const T* logits,
                                                      Index pitch, const L* labels, Shares<Accumulator<T>> share,
                                                      const Accumulator<T>* log_sums, const Accumulator<T>* dloss,
                                                      T* dlogits, Index d_pitch, bool accumulate) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;
  const T* x = logits + row * pitch;
  T* to = dlogits + row * d_pitch;
  const S part = share(row), log_sum = log_sums[row], scale = part * *dloss;
  const L label = labels[row];
  const S everywhere = static_cast<S>(smoothing) / static_cast<S>(classes), extra = static_cast<S>(1 - smoothing);
  for (int c = lane; c < classes; c += kLanes) {
    const S target = everywhere + (c == label ? extra : S(0));
    const S slope = part == 0 ? S(0) : scale * (std::exp(widen(x[c]) - log_sum) - target);
    to[c] = narrow<T>(accumulate ? widen(to[c]) + slope : slope);
  }
}

// -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = log(1 + exp(x)) - x t, where log(1 + exp(x)) = max(x, 0) + log(1 +
// exp(-|x|)) cannot overflow.
template <class T>
struct BinaryLoss {
  const T *logits, *targets;
  __device__ Accumulator<T> operator()(const std::array<Index, 2>& at) const {
    using S = Accumulator<T>;
    const S x = widen(logits[at[0]]);
    return (x < 0 ? S(0) : x) + std::log1p(std::exp(-std::abs(x))) - x * widen(targets[at[1]]);
  }
};

template <class T>
__global__ void binary_cross_entropy_backward_kernel(Index count, Index a_row, const T* logits, const T* targets,
                                                     Shares<Accumulator<T>> share, const Accumulator<T>* dloss,
                                                     T* dlogits, bool add_to_logits, T* dtargets, bool add_to_targets) {
  using S = Accumulator<T>;
  const auto put = [](T& to, S slope, bool accumulate) { to = narrow<T>(accumulate ? widen(to) + slope : slope); };
  for (Index i = first_index(); i < count; i += index_stride()) {
    const S part = share(i / a_row), scale = part * *dloss / static_cast<S>(a_row), x = widen(logits[i]);
    if (dlogits != nullptr) {
      const S error = part == 0 ? S(0) : S(1) / (S(1) + std::exp(-x)) - widen(targets[i]);
      put(dlogits[i], part == 0 ? S(0) : scale * error, add_to_logits);
    }
    if (dtargets != nullptr) put(dtargets[i], part == 0 ? S(0) : -scale * x, add_to_targets);
  }
}

// Calls body with the types of the logits and of the labels.
template <class Body>
void with_types(const Operand& logits, const Operand& labels, const Body& body) {
  dispatch_floating("cross_entropy", logits.dtype, [&](auto type) {
    if (labels.dtype == DType::i64)
      body(type, Type<std::int64_t>{});
    else
      body(type, Type<std::int32_t>{});
  });
}

}  // namespace

void softmax_cross_entropy_forward(Context& context, double smoothing, const Operand& logits, const Operand& labels,
                                   const Operand& weights, const Operand& loss, const Operand& log_sums) {
  with_types(logits, labels, [&]<class T, class L>(Type<T>, Type<L>) {
    using S = Accumulator<T>;
    const Index rows = logits.shape[0];
    const Tensor total = total_of<S>(context, weights), losses = Tensor::empty(Shape{rows}, loss.dtype, context.device);
    const Shares<S> share = shares<S>(rows, weights, total);
    launch(context, "softmax_cross_entropy", a_warp_each(rows), softmax_cross_entropy_kernel<T, L>, smoothing, rows,
           logits.shape[1], logits.as<T>(), logits.pitch, labels.as<L>(), share, static_cast<S*>(losses.raw()),
           log_sums.as<S>());
    put_mean(context, share, losses, loss);
  });
}

void softmax_cross_entropy_backward(Context& context, double smoothing, const Operand& logits, const Operand& labels,
                                    const Operand& weights, const Operand& log_sums, const Operand& dloss,
                                    Gradient dlogits) {
  with_types(logits, labels, [&]<class T, class L>(Type<T>, Type<L>) {
    using S = Accumulator<T>;
    const Index rows = logits.shape[0];
    const Tensor total = total_of<S>(context, weights);
    launch(context, "softmax_cross_entropy_backward", a_warp_each(rows), softmax_cross_entropy_backward_kernel<T, L>,
           smoothing, rows, logits.shape[1], logits.as<T>(), logits.pitch, labels.as<L>(),
           shares<S>(rows, weights, total), log_sums.as<S>(), dloss.as<S>(), dlogits.to.as<T>(), dlogits.to.pitch,
           dlogits.accumulate);
  });
}

void binary_cross_entropy_forward(Context& context, const Operand& logits, const Operand& targets,
                                  const Operand& weights, const Operand& loss) {
  dispatch_floating("cross_entropy", logits.dtype, [&]<class T>(Type<T>) {
    using S = Accumulator<T>;
    const Index rows = logits.shape[0], a_row = rows == 0 ? 0 : logits.elements() / rows;
    const Tensor total = total_of<S>(context, weights), losses = Tensor::empty(Shape{rows}, loss.dtype, context.device);
    const Strided x = Operand(logits.data, Shape{rows, a_row}, logits.dtype),
                  t = Operand(targets.data, Shape{rows, a_row}, targets.dtype);
    sum_terms<S>(context, "binary_cross_entropy", SumAxes<2>({x, t}, 2), BinaryLoss<T>{logits.as<T>(), targets.as<T>()},
                 a_row == 0 ? S(0) : static_cast<S>(1. / static_cast<double>(a_row)), {losses});
    put_mean(context, shares<S>(rows, weights, total), losses, loss);
  });
}

void binary_cross_entropy_backward(Context& context, const Operand& logits, const Operand& targets,
                                   const Operand& weights, const Operand& dloss, Gradient dlogits, Gradient dtargets) {
  if (!dlogits && !dtargets) return;
  dispatch_floating("cross_entropy", logits.dtype, [&]<class T>(Type<T>) {
    using S = Accumulator<T>;
    const Index rows = logits.shape[0], count = logits.elements();
    const Tensor total = total_of<S>(context, weights);
    launch(context, "binary_cross_entropy_backward", grid_for(count), binary_cross_entropy_backward_kernel<T>, count,
           rows == 0 ? 0 : count / rows, logits.as<T>(), targets.as<T>(), shares<S>(rows, weights, total),
           dloss.as<S>(), dlogits.to.as<T>(), dlogits.accumulate, dtargets.to.as<T>(), dtargets.accumulate);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
