#pragma once

#include "graft/core/preprocessing.h"
#include "graft/core/tensor.h"
#include "graft/data/image.h"

namespace graft::data {

/// An image of another size.
///
/// image    [H, W, C], u8 or f32, not empty
/// returns  [height, width, C]: f32 for Resampling::bilinear, else the image's dtype
///
/// `nearest`, `antialias` and `bicubic` equal PIL's NEAREST, BILINEAR and BICUBIC bit for bit (u8 as PIL's mode L or
/// RGB: fixed point, rounded between the passes; f32 as its mode F). `bilinear` is TensorFlow's and PyTorch's
/// interpolation with half-pixel centres and no antialiasing.
///
/// `Fit::crop` is torchvision's Resize of the shorter side followed by CenterCrop, `Fit::pad` is PIL's ImageOps.pad
/// with `background` (grey level background[0] unless C is 3).
///
/// Throws Error if the image is not of this kind or a size is below 1.
Tensor resize(const Tensor& image, Index height, Index width, Resampling resampling, Fit fit = Fit::squash,
              Color background = kWhite);

}  // namespace graft::data
