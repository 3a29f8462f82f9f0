#include "train/border.h"

#include <cstring>

#include "graft/ops/global_pool.h"

namespace graft::train {

Tensor averaged(const Tensor& value) {
  const Shape& shape = value.shape();
  if (shape.rank() == 2) return value;
  return ops::global_average_pool(shape.rank() == 4 ? value : value.reshaped({shape[0], shape[1], 1, shape[2]}));
}

void FeatureRows::put(std::span<const Index> rows, std::span<const Tensor> values) {
  for (std::size_t node = 0; node < nodes_.size(); ++node) {
    const Tensor& value = values[node];
    Tensor& all = features_.values[nodes_[node]];
    if (!all.defined()) {
      const PurposeScope purpose(Purpose::features);
      all = Tensor::empty(value.shape().with(0, rows_), value.dtype());
    }
    const std::size_t bytes = value.bytes() / rows.size();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(static_cast<std::byte*>(all.raw()) + static_cast<std::size_t>(rows[i]) * bytes,
                  static_cast<const std::byte*>(value.raw()) + i * bytes, bytes);
    }
  }
}

}  // namespace graft::train
