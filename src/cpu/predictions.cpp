#include "kernels/predictions.h"

#include "core/dtype_dispatch.h"
#include "core/format.h"

namespace graft::kernels::cpu {

void count_predictions(Context&, const Operand& logits, const Operand& labels, const Operand& loss,
                       const Operand& counts, const Operand& loss_sum) {
  const Index rows = logits.shape[0], classes = logits.shape[1];
  auto* count = counts.as<std::int64_t>();
  dispatch_floating("count_predictions", logits.dtype, [&]<class T>(Type<T>) {
    for (Index row = 0; row < rows; ++row) {
      const T* score = logits.as<T>() + row * logits.pitch;
      const auto at = [score](Index c) { return convert<Accumulator<T>>(score[c]); };
      const Index label = labels.as<std::int64_t>()[row];
      check(label >= 0 && label < classes, "[predictions] label {} of row {} is not one of {} classes", label, row,
            classes);
      Index above = 0, best = classes;
      for (Index c = 0; c < classes; ++c) {
        above += !(at(c) < at(label) || (at(c) == at(label) && c >= label));  // a NaN may be anything
        if (best == classes ? at(c) == at(c) : at(c) > at(best)) best = c;
      }
      if (best == classes) best = 0;  // all are NaN
      count[kTop1] += above == 0;
      count[kTop5] += above < 5;
      ++count[kConfusion + label * classes + best];
    }
  });
  count[kExamples] += rows;
  const double mean = loss.dtype == DType::f64 ? *loss.as<double>() : *loss.as<float>();
  *loss_sum.as<double>() += mean * static_cast<double>(rows);
}

}  // namespace graft::kernels::cpu
