#pragma once

#include <span>

#include "graft/core/preprocessing.h"
#include "graft/core/tensor.h"

namespace graft::data {

/// What a network sees of an image: resized and fitted to height x width, then y = (x - mean) / divisor per channel,
/// blue first if `bgr`.
///
/// image    [H, W, 3], RGB from 0 to 255, u8 or f32
/// returns  f32 [height, width, 3]
Tensor preprocess(const Tensor& image, const Preprocessing& preprocessing);

/// The same for several images, which may differ in size: f32 [N, height, width, 3].
Tensor preprocess(std::span<const Tensor> images, const Preprocessing& preprocessing);

/// The first half alone: [height, width, 3], f32 for Resampling::bilinear, else the image's dtype.
Tensor fit(const Tensor& image, const Preprocessing& preprocessing);

/// The second half alone, written into `out`: f32 of as many elements as the image [..., 3], u8 or f32. On a device
/// `ops::preprocess` does it.
void normalize_into(const Tensor& image, const Preprocessing& preprocessing, Tensor out);

}  // namespace graft::data
