#include "kernels/conv2d_batch_norm.h"

namespace graft::kernels::cpu {

void conv2d_batch_norm(Context& context, const ConvGeometry& g, const BatchNormAttributes& a,
                       const Conv2dBatchNormOperands& o) {
  kernels::conv2d_forward(context, g, o.x, o.w, o.bias, {}, Activation::linear, o.z);
  kernels::batch_norm_batch(context, a, o.z, o.gamma, o.beta, o.residual, o.moving, o.y, o.saved);
}

}  // namespace graft::kernels::cpu
