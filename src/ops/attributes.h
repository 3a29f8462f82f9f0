#pragma once

#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"

#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"

// What ops that share a kernel tell it.
namespace graft::ops {

/// Throws Error if x [N, H, W, Ci], w and the options do not fit.
ConvGeometry conv_geometry(const Conv2dOptions& options, const Shape& x, const Shape& w);

BatchNormAttributes batch_norm_attributes(const BatchNormOptions& options);

}  // namespace graft::ops
