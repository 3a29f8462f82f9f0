#include "graft/data/preprocess.h"

#include "graft/data/resize.h"

#include "core/format.h"
#include "kernels/preprocess.h"

namespace graft::data {
namespace {

template <class T>
void normalize(const T* in, Index pixels, const Preprocessing& p, float* out) {
  const int order[3] = {p.bgr ? 2 : 0, 1, p.bgr ? 0 : 2};
  for (Index i = 0; i < pixels; ++i, in += 3, out += 3) {
    for (std::size_t c = 0; c < 3; ++c) out[c] = normalized(in[order[c]], p.mean[c], p.divisor[c]);
  }
}

void check_image(const Tensor& image) {
  check((image.dtype() == DType::u8 || image.dtype() == DType::f32) && image.shape().rank() >= 1 &&
            image.shape().channels() == 3,
        "[preprocess] expected an image [H, W, 3] of u8 or f32, got {} {}", image.dtype(), image.shape());
}

}  // namespace

Tensor fit(const Tensor& image, const Preprocessing& p) {
  check_image(image);
  return resize(image, p.height, p.width, p.resampling, p.fit, p.background);
}

void normalize_into(const Tensor& image, const Preprocessing& p, Tensor out) {
  check_image(image);
  check(out.dtype() == DType::f32 && out.elements() == image.elements(),
        "[preprocess] expected room for f32 {}, got {} {}", image.shape(), out.dtype(), out.shape());
  const Index pixels = image.shape().rows();
  if (image.dtype() == DType::u8)
    normalize(image.data<std::uint8_t>(), pixels, p, out.mutable_data<float>());
  else
    normalize(image.data<float>(), pixels, p, out.mutable_data<float>());
}

Tensor preprocess(const Tensor& image, const Preprocessing& preprocessing) {
  Tensor result = Tensor::empty({preprocessing.height, preprocessing.width, 3});
  normalize_into(fit(image, preprocessing), preprocessing, result);
  return result;
}

Tensor preprocess(std::span<const Tensor> images, const Preprocessing& preprocessing) {
  Tensor result = Tensor::empty({static_cast<Index>(images.size()), preprocessing.height, preprocessing.width, 3});
  for (std::size_t i = 0; i < images.size(); ++i) {
    normalize_into(fit(images[i], preprocessing), preprocessing, result.rows(static_cast<Index>(i), 1));
  }
  return result;
}

}  // namespace graft::data
