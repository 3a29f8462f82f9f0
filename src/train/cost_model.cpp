#include "train/cost_model.h"

namespace graft::train {

// On a CPU two cores with AVX2 reach some 100 GFLOP/s in ResNet50's forward; a data-centre GPU reaches some 10 TFLOP/s
// in f32, and about four times as much in half precision. On a CPU few have products of halves, so they count alike.
Speed speed_of(Device device, DType dtype) {
  if (device.kind == Device::Kind::cuda) return {.operations = size_of(dtype) <= 2 ? 4e13 : 1e13};
  return {.operations = dtype == DType::f64 ? 5e10 : 1e11};
}

bool pays_to_start_from(const FrozenPart& before, const Speed& speed) {
  return static_cast<double>(before.bytes) / speed.file_read < speed.photo_first + before.operations / speed.operations;
}

}  // namespace graft::train
