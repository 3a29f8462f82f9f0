#include "graft/train/metrics.h"

#include "autograd/on_device.h"
#include "core/format.h"
#include "kernels/predictions.h"

namespace graft::train {

void Metrics::add(const Tensor& logits, const Tensor& labels, const Tensor& loss) {
  check(logits.shape().rank() == 2 && labels.shape() == Shape{logits.shape()[0]},
        "[metrics] expected logits [N, C] and labels [N], got {} and {}", logits.shape(), labels.shape());
  const Index classes = logits.shape()[1];
  if (!counts_.defined()) {
    classes_ = classes;
    counts_ = Tensor::zeros({kernels::kConfusion + classes * classes}, DType::i64, logits.device());
    loss_sum_ = Tensor::zeros({}, DType::f64, logits.device());
  }
  check(classes == classes_, "[metrics] expected {} classes, got {}", classes_, classes);
  Context& context = Context::current();
  const autograd::OnDevice on(context, logits.device());
  kernels::count_predictions(context, logits, labels.to(logits.device()), loss, counts_, loss_sum_);
}

void Metrics::reset() {
  if (!counts_.defined()) return;
  counts_.fill(0);
  loss_sum_.fill(0);
}

Index Metrics::counted(Index what) const {
  return counts_.defined() ? counts_.rows(what, 1).to(Device{}).data<std::int64_t>()[0] : 0;
}

double Metrics::share(double sum) const {
  const Index all = count();
  return all == 0 ? 0 : sum / static_cast<double>(all);
}

Index Metrics::count() const { return counted(kernels::kExamples); }
double Metrics::loss() const { return loss_sum_.defined() ? share(loss_sum_.item()) : 0; }
double Metrics::top1() const { return share(static_cast<double>(counted(kernels::kTop1))); }
double Metrics::top5() const { return share(static_cast<double>(counted(kernels::kTop5))); }

std::vector<std::vector<Index>> Metrics::confusion() const {
  std::vector<std::vector<Index>> matrix;
  if (!counts_.defined()) return matrix;
  const Tensor counts = counts_.to(Device{});
  for (Index label = 0; label < classes_; ++label) {
    const auto* row = counts.data<std::int64_t>() + kernels::kConfusion + label * classes_;
    matrix.emplace_back(row, row + classes_);
  }
  return matrix;
}

}  // namespace graft::train
