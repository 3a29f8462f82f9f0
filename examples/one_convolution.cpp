// One convolution on the emulated device, to be looked at in a debugger: docs/debugging-a-kernel.md. The kernel's file
// is compiled into this program without optimisation.
#include <cstdio>

#include "graft/core/error.h"
#include "graft/ops/conv2d.h"

int main() try {
  const graft::Device device = graft::Device::parse("emulated");
  // 3x3, from 4 channels to 32. Pixel p holds p + c / 10 in channel c, so that one sees in a tile where a number is from.
  constexpr graft::Index kSide = 12, kIn = 4, kOut = 32;
  graft::Tensor image = graft::Tensor::empty({1, kSide, kSide, kIn}), filters = graft::Tensor::empty({kOut, 3, 3, kIn});
  for (graft::Index i = 0; i < image.elements(); ++i)
    image.mutable_data<float>()[i] = static_cast<float>(i / kIn) + static_cast<float>(i % kIn) / 10;
  filters.fill(1);
  const graft::Tensor y = graft::ops::conv2d(image.to(device), filters.to(device), {.padding = graft::kSame});
  std::printf("sum of the first window: %g\n", static_cast<double>(y.to(graft::Device{}).data<float>()[0]));
} catch (const graft::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
