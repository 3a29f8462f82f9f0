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
/// RGB: fixed point, columns first, rounded between the passes; f32 as its mode F). PIL from version 13 on begins with
/// the rows of some tall images; graft keeps to the order in which every earlier PIL prepared training images.
/// `bilinear` is TensorFlow's and PyTorch's interpolation with half-pixel centres and no antialiasing.
///
/// `Fit::crop` is torchvision's Resize of the shorter side followed by CenterCrop. `Fit::pad` is PIL's ImageOps.pad
/// with `background`; images that are not RGB take its first value.
///
/// Throws Error if the image is not of this kind or a size is below 1.
Tensor resize(const Tensor& image, Index height, Index width, Resampling resampling, Fit fit = Fit::squash,
              Color background = kWhite);

}  // namespace graft::data
