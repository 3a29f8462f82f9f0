// One convolution on the emulated device, to be looked at in a debugger: docs/debugging-a-kernel.md. The kernel's file
// is compiled into this program without optimisation.
#include <cstdio>

#include "graft/core/error.h"
#include "graft/ops/conv2d.h"

int main() try {
  const graft::Device device = graft::Device::parse("emulated");
  // 3x3, one channel to 32. A pixel holds its own number, so that one sees in a tile where a number is from.
  constexpr graft::Index kSide = 10, kFilters = 32;
  graft::Tensor image = graft::Tensor::empty({1, kSide, kSide, 1});
  for (graft::Index i = 0; i < image.elements(); ++i) image.mutable_data<float>()[i] = static_cast<float>(i);
  const graft::Tensor filters = graft::Tensor::full({kFilters, 3, 3, 1}, 1);
  const graft::Tensor y = graft::ops::conv2d(image.to(device), filters.to(device), {.padding = graft::kSame});
  std::printf("around pixel 0: %g\n", static_cast<double>(y.to(graft::Device{}).data<float>()[0]));
} catch (const graft::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
