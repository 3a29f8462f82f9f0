#include "device/numeric.h"
#include "device/unroll.h"
#include "kernels/preprocess.h"
#include "runtime/launch.h"

// Each byte is read once and each number written once. Four pixels are twelve elements, the least that three vectors
// hold without cutting a pixel: a thread loads three words and stores three vectors of four numbers.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

constexpr int kGroup = 4, kChannels = 3, kElements = kGroup * kChannels;

template <class T>
__device__ T channel_of(const Preprocessing& p, const std::uint8_t* pixel, int c) {
  const auto i = static_cast<std::size_t>(c);
  return narrow<T>(normalized(pixel[p.bgr ? kChannels - 1 - c : c], p.mean[i], p.divisor[i]));
}

template <class T>
__global__ void preprocess_pixels_kernel(Preprocessing p, Index first_pixel, Index pixels, const std::uint8_t* images,
                                         Index pitch, T* y, Index y_pitch) {
  for (Index pixel = first_pixel + first_index(); pixel < pixels; pixel += index_stride()) {
    for (int c = 0; c < kChannels; ++c) y[pixel * y_pitch + c] = channel_of<T>(p, images + pixel * pitch, c);
  }
}

template <class T>
__global__ void preprocess_groups_kernel(Preprocessing p, Index groups, const std::uint8_t* images, T* y) {
  for (Index group = first_index(); group < groups; group += index_stride()) {
    std::uint8_t in[kElements];
    GRAFT_UNROLL
    for (int v = 0; v < kChannels; ++v) {
      const auto some = load<kGroup>(images + group * kElements + v * kGroup);
      GRAFT_UNROLL
      for (int i = 0; i < kGroup; ++i) in[v * kGroup + i] = some[i];
    }
    GRAFT_UNROLL
    for (int v = 0; v < kChannels; ++v) {
      Vector<T, kGroup> out;
      GRAFT_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        const int element = v * kGroup + i;
        out[i] = channel_of<T>(p, in + element / kChannels * kChannels, element % kChannels);
      }
      store(y + group * kElements + v * kGroup, out);
    }
  }
}

}  // namespace

void preprocess(Context& context, const Preprocessing& p, const Operand& images, const Operand& y) {
  dispatch_floating("preprocess", y.dtype, [&]<class T>(Type<T>) {
    const Index pixels = y.shape.rows();
    Index in_groups = 0;
    if constexpr (sizeof(T) * kGroup <= 16) {
      if (images.contiguous() && y.contiguous() && aligned<std::uint8_t>(images.data, kGroup, kGroup) &&
          aligned<T>(y.data, kGroup, kGroup)) {
        const Index groups = pixels / kGroup;
        launch(context, "preprocess", grid_for(groups), preprocess_groups_kernel<T>, p, groups,
               images.as<std::uint8_t>(), y.as<T>());
        in_groups = groups * kGroup;
      }
    }
    launch(context, "preprocess", grid_for(pixels - in_groups), preprocess_pixels_kernel<T>, p, in_groups, pixels,
           images.as<std::uint8_t>(), images.pitch, y.as<T>(), y.pitch);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
