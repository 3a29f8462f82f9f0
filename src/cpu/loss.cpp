#include "kernels/loss.h"

#include <vector>

#include "core/format.h"
#include "cpu/rows.h"

namespace graft::kernels::cpu {
namespace {

using graft::cpu::for_each_row;

// Calls body with the type of the logits; losses and weights are kept in its accumulator.
template <class Body>
void with_type(const Operand& logits, const Body& body) {
  dispatch_floating("cross_entropy", logits.dtype, body);
}

template <class Sum>
Sum weight_of(const Operand& weights, Index row) {
  return weights ? weights.as<Sum>()[row] : Sum(1);
}

// The rows' weights divided by their sum: what each row's loss counts in the mean. All zero if nothing counts.
template <class Sum>
std::vector<Sum> shares(const Operand& weights, Index rows) {
  double total = 0;
  for (Index row = 0; row < rows; ++row) total += static_cast<double>(weight_of<Sum>(weights, row));
  std::vector<Sum> result(static_cast<std::size_t>(rows));
  for (Index row = 0; row < rows && total != 0; ++row) {
    result[static_cast<std::size_t>(row)] = static_cast<Sum>(static_cast<double>(weight_of<Sum>(weights, row)) / total);
  }
  return result;
}

// The labels as indices, checked. Those of rows that do not count are not looked at.
std::vector<Index> read_labels(const Operand& labels, const auto& share, Index classes) {
  std::vector<Index> result(share.size());
  dispatch(labels.dtype, [&]<class L>(Type<L>) {
    for (std::size_t row = 0; row < share.size(); ++row) {
      if (share[row] == 0) continue;
      result[row] = static_cast<Index>(labels.as<L>()[row]);
      check(result[row] >= 0 && result[row] < classes,
            "[softmax_cross_entropy] label {} of row {} is not among the {} classes", result[row], row, classes);
    }
  });
  return result;
}

// The mean, added up in the order of the rows.
template <class Sum>
void put_mean(const Operand& loss, const std::vector<Sum>& losses, const std::vector<Sum>& share) {
  double mean = 0;
  for (std::size_t row = 0; row < losses.size(); ++row)
    mean += static_cast<double>(losses[row]) * static_cast<double>(share[row]);
  *loss.as<Sum>() = static_cast<Sum>(mean);
}

template <class T, class Sum>
void put_one(T& to, Sum value, bool accumulate) {
  to = convert<T>(accumulate ? static_cast<Sum>(to) + value : value);
}

// [N, ...] as N rows.
Shape as_rows(const Shape& shape) { return {shape[0], shape[0] == 0 ? 0 : shape.elements() / shape[0]}; }

}  // namespace

// With q = (1 - s) onehot(label) + s / C: -sum of q log(softmax(x)) = log_sum - (1 - s) x[label] - s mean(x).
void softmax_cross_entropy_forward(Context&, double smoothing, const Operand& logits, const Operand& labels,
                                   const Operand& weights, const Operand& loss, const Operand& log_sums) {
  with_type(logits, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto share = shares<Sum>(weights, logits.shape[0]);
    const std::vector<Index> label = read_labels(labels, share, logits.shape[1]);
    std::vector<Sum> losses(share.size());
    for_each_row(logits.shape, [&](Index row, Index classes) {
      const auto r = static_cast<std::size_t>(row);
      if (share[r] == 0) {
        log_sums.as<Sum>()[row] = 0;
        return;
      }
      const T* x = logits.as<T>() + row * logits.pitch;
      const Sum log_sum = graft::cpu::log_sum_exp<Sum>(x, classes), s = static_cast<Sum>(smoothing);
      Sum expected = (Sum(1) - s) * static_cast<Sum>(x[label[r]]);
      if (s != 0) {
        Sum total = 0;
        for (Index c = 0; c < classes; ++c) total += static_cast<Sum>(x[c]);
        expected += s * total / static_cast<Sum>(classes);
      }
      log_sums.as<Sum>()[row] = log_sum;
      losses[r] = log_sum - expected;
    });
    put_mean(loss, losses, share);
  });
}

void softmax_cross_entropy_backward(Context&, double smoothing, const Operand& logits, const Operand& labels,
                                    const Operand& weights, const Operand& log_sums, const Operand& dloss,
                                    Gradient dlogits) {
  with_type(logits, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto share = shares<Sum>(weights, logits.shape[0]);
    const std::vector<Index> label = read_labels(labels, share, logits.shape[1]);
    for_each_row(logits.shape, [&](Index row, Index classes) {
      const auto r = static_cast<std::size_t>(row);
      const T* x = logits.as<T>() + row * logits.pitch;
      T* to = dlogits.to.as<T>() + row * dlogits.to.pitch;
      const Sum scale = share[r] * *dloss.as<Sum>(), log_sum = log_sums.as<Sum>()[row];
      const Sum everywhere = static_cast<Sum>(smoothing) / static_cast<Sum>(classes),
                extra = static_cast<Sum>(1 - smoothing);
      for (Index c = 0; c < classes; ++c) {
        const Sum target = everywhere + (c == label[r] ? extra : Sum(0));
        put_one(to[c], share[r] == 0 ? Sum(0) : scale * (std::exp(static_cast<Sum>(x[c]) - log_sum) - target),
                dlogits.accumulate);
      }
    });
  });
}

// -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = log(1 + exp(x)) - x t, where log(1 + exp(x)) = max(x, 0) + log(1 +
// exp(-|x|)) cannot overflow.
void binary_cross_entropy_forward(Context&, const Operand& logits, const Operand& targets, const Operand& weights,
                                  const Operand& loss) {
  with_type(logits, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto share = shares<Sum>(weights, logits.shape[0]);
    std::vector<Sum> losses(share.size());
    for_each_row(as_rows(logits.shape), [&](Index row, Index count) {
      const auto r = static_cast<std::size_t>(row);
      if (share[r] == 0) return;
      const T *x = logits.as<T>() + row * count, *t = targets.as<T>() + row * count;
      Sum total = 0;
      for (Index i = 0; i < count; ++i) {
        const Sum v = static_cast<Sum>(x[i]);
        total += std::max(v, Sum(0)) + std::log1p(std::exp(-std::abs(v))) - v * static_cast<Sum>(t[i]);
      }
      losses[r] = count == 0 ? Sum(0) : total / static_cast<Sum>(count);
    });
    put_mean(loss, losses, share);
  });
}

void binary_cross_entropy_backward(Context&, const Operand& logits, const Operand& targets, const Operand& weights,
                                   const Operand& dloss, Gradient dlogits, Gradient dtargets) {
  with_type(logits, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto share = shares<Sum>(weights, logits.shape[0]);
    for_each_row(as_rows(logits.shape), [&](Index row, Index count) {
      const bool counts = share[static_cast<std::size_t>(row)] != 0;
      const Sum scale = share[static_cast<std::size_t>(row)] * *dloss.as<Sum>() / static_cast<Sum>(count);
      for (Index i = row * count; i < (row + 1) * count; ++i) {
        const Sum x = static_cast<Sum>(logits.as<T>()[i]);
        if (dlogits) {
          const Sum error = Sum(1) / (Sum(1) + std::exp(-x)) - static_cast<Sum>(targets.as<T>()[i]);
          put_one(dlogits.to.as<T>()[i], counts ? scale * error : Sum(0), dlogits.accumulate);
        }
        if (dtargets) put_one(dtargets.to.as<T>()[i], counts ? -scale * x : Sum(0), dtargets.accumulate);
      }
    });
  });
}

}  // namespace graft::kernels::cpu
