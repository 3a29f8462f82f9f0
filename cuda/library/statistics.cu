#include "library/statistics.h"
#include "runtime/launch.h"

namespace graft::library {
namespace {

__global__ void update_moving_kernel(Index channels, double epsilon, double momentum, double bias, const float* mean,
                                     const float* inverse_deviation, float* moving_mean, float* moving_variance) {
  for (Index c = cuda::first_index(); c < channels; c += cuda::index_stride()) {
    const double inverse = inverse_deviation[c];
    const double variance = 1 / (inverse * inverse) - epsilon;  // below zero by a rounding where all are equal
    moving_mean[c] = static_cast<float>(momentum * moving_mean[c] + (1 - momentum) * mean[c]);
    moving_variance[c] =
        static_cast<float>(momentum * moving_variance[c] + (1 - momentum) * bias * (variance > 0 ? variance : 0));
  }
}

}  // namespace

void update_moving(const Context& context, const BatchNormAttributes& attributes, Index rows,
                   const ChannelStatistics& saved, const ChannelStatistics& moving) {
  const auto count = static_cast<double>(rows);
  const Index channels = moving.mean.elements();
  cuda::launch(context, "batch_norm_update", cuda::grid_for(channels), update_moving_kernel, channels,
               attributes.epsilon, attributes.momentum, attributes.unbiased ? count / (count - 1) : 1.,
               saved.mean.as<float>(), saved.spread.as<float>(), moving.mean.as<float>(), moving.spread.as<float>());
}

}  // namespace graft::library
