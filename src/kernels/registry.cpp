#include "kernels/registry.h"

#include <array>

#if GRAFT_HAS_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif

#include "core/format.h"
#include "kernels/attention.h"
#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"
#include "kernels/conv2d_batch_norm.h"
#include "kernels/depthwise_conv2d.h"
#include "kernels/dropout.h"
#include "kernels/elementwise.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/loss.h"
#include "kernels/matmul.h"
#include "kernels/optimizer.h"
#include "kernels/pool.h"
#include "kernels/predictions.h"
#include "kernels/preprocess.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "kernels/strided.h"

namespace graft::kernels {
namespace {

template <class... Args>
Entry entry(const Kernel<Args...>& kernel) {
  const auto has = [](const Engines<Args...>& engines) {
    return Entry::Engines{static_cast<bool>(engines.native), static_cast<bool>(engines.library),
                          static_cast<bool>(engines.vectorized)};
  };
  return {kernel.name, has(kernel.cpu), has(kernel.cuda), has(kernel.emulated)};
}

const std::array kEntries{
    // not constexpr: to the address sanitizer a function's address is no constant
    entry(attention_forward),
    entry(attention_backward),
    entry(batch_norm_batch),
    entry(batch_norm_moving),
    entry(batch_norm_batch_backward),
    entry(batch_norm_moving_backward),
    entry(conv2d_forward),
    entry(conv2d_backward_input),
    entry(conv2d_backward_weight),
    entry(conv2d_batch_norm),
    entry(depthwise_conv2d_forward),
    entry(depthwise_conv2d_backward_input),
    entry(depthwise_conv2d_backward_weight),
    entry(dropout_forward),
    entry(dropout_backward),
    entry(activation_forward),
    entry(activation_backward),
    entry(binary_forward),
    entry(binary_backward),
    entry(add_into),
    entry(cast),
    entry(layer_norm_forward),
    entry(layer_norm_backward_input),
    entry(layer_norm_backward_gamma),
    entry(linear_forward),
    entry(linear_backward_input),
    entry(linear_backward_weight),
    entry(softmax_cross_entropy_forward),
    entry(softmax_cross_entropy_backward),
    entry(binary_cross_entropy_forward),
    entry(binary_cross_entropy_backward),
    entry(matmul),
    entry(sgd_update),
    entry(adam_update),
    entry(sum_squares),
    entry(decide_step),
    entry(max_pool_forward),
    entry(max_pool_backward),
    entry(average_pool_forward),
    entry(average_pool_backward),
    entry(count_predictions),
    entry(preprocess),
    entry(sum_rows),
    entry(sum_to),
    entry(softmax_forward),
    entry(softmax_backward),
    entry(copy),
    entry(fill),
};

}  // namespace

std::span<const Entry> all() { return kEntries; }

Built built() {
  return {.onednn = GRAFT_HAS_ONEDNN,
          .vectorized = GRAFT_HAS_VECTORIZED,
          .cuda = GRAFT_HAS_CUDA,
          .cudnn = GRAFT_HAS_CUDNN,
          .emulated = GRAFT_HAS_EMULATED};
}

#if !GRAFT_HAS_VECTORIZED
std::string_view vectorized_isa() { return "none"; }
#endif

std::string onednn_version() {
#if GRAFT_HAS_ONEDNN
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("{}.{}.{}", v->major, v->minor, v->patch);
#else
  return {};
#endif
}

}  // namespace graft::kernels
