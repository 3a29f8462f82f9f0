#include "kernels/preprocess.h"

#include "cpu/rows.h"

namespace graft::kernels::cpu {

using graft::cpu::for_each_row;

void preprocess(Context&, const Preprocessing& p, const Operand& images, const Operand& y) {
  dispatch_floating("preprocess", y.dtype, [&]<class T>(Type<T>) {
    for_each_row(y.shape, [&](Index pixel, Index) {
      const std::uint8_t* in = images.as<std::uint8_t>() + pixel * images.pitch;
      T* out = y.as<T>() + pixel * y.pitch;
      for (std::size_t c = 0; c < 3; ++c)
        out[c] = convert<T>(normalized(in[p.bgr ? 2 - c : c], p.mean[c], p.divisor[c]));
    });
  });
}

}  // namespace graft::kernels::cpu
