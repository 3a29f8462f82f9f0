#include "graft/train/metrics.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"

namespace graft::train {

void Metrics::add(const Tensor& logits, const Tensor& labels, double loss) {
  check(logits.shape().rank() == 2 && labels.shape() == Shape{logits.shape()[0]},
        "[metrics] expected logits [N, C] and labels [N], got {} and {}", logits.shape(), labels.shape());
  const Index rows = logits.shape()[0], classes = logits.shape()[1];
  if (confusion_.empty())
    confusion_.assign(static_cast<std::size_t>(classes), std::vector<Index>(static_cast<std::size_t>(classes)));
  check(static_cast<Index>(confusion_.size()) == classes, "[metrics] expected {} classes, got {}", confusion_.size(),
        classes);
  const Tensor scores = logits.to(Device{}).to(DType::f64);
  for (Index row = 0; row < rows; ++row) {
    const double* score = scores.data<double>() + row * classes;
    const Index label = labels.data<std::int64_t>()[row];
    check(label >= 0 && label < classes, "[metrics] label {} of row {} is not one of {} classes", label, row, classes);
    Index above = 0, best = 0;
    for (Index c = 0; c < classes; ++c) {
      above += score[c] > score[label] || (score[c] == score[label] && c < label);
      if (score[c] > score[best]) best = c;
    }
    top1_ += above == 0;
    top5_ += above < 5;
    ++confusion_[static_cast<std::size_t>(label)][static_cast<std::size_t>(best)];
  }
  count_ += rows;
  loss_ += loss * static_cast<double>(rows);
}

}  // namespace graft::train
