#include "kernels/batch_norm.h"

#include <bit>
#include <cmath>

#include "cpu/onednn/engine.h"

namespace graft::kernels::onednn {
namespace {

using dnnl::normalization_flags;
using dnnl::prop_kind;

struct Plan {
  Step step;
  memory::desc x, channel, workspace;
  Reorder image;  // of dx: adds a gradient to what is there
};

PlanCache<Plan>& plans() {
  static PlanCache<Plan> cache;
  return cache;
}

// Rows of channels as an image of one column: a batch norm does not care where its rows are.
memory::desc rows(const Operand& x) {
  if (x.shape.rank() == 4) return image(x);
  return {{x.shape.rows(), x.shape.channels(), 1, 1}, type(x.dtype), {x.pitch, 1, x.pitch, x.pitch}};
}

dnnl::batch_normalization_forward::primitive_desc forward_description(prop_kind kind, const memory::desc& x,
                                                                      double epsilon, normalization_flags flags) {
  return {dnnl::batch_normalization_forward::desc(kind, x, static_cast<float>(epsilon), flags), attributes(), engine()};
}

bool usable(const Operand& x) { return x && computes(x.dtype) && x.elements() > 0; }

Key key(Index kind, const BatchNormAttributes& a, const Operand& x, const Operand& y, normalization_flags flags) {
  Key key{kind, static_cast<Index>(std::bit_cast<std::int64_t>(a.epsilon)), static_cast<Index>(flags)};
  key.insert(key.end(), x.shape.begin(), x.shape.end());
  append(key, x);
  append(key, y);
  return key;
}

// oneDNN fuses relu alone, and no residual.
std::shared_ptr<const Plan> forward_plan(bool batch, const BatchNormAttributes& a, const Operand& x,
                                         const Operand& gamma, const Operand& beta, const Operand& residual,
                                         const Operand& y) {
  if (!usable(x) || residual || x.pitch != y.pitch ||
      (a.activation != Activation::linear && a.activation != Activation::relu))
    return nullptr;
  normalization_flags flags = batch ? normalization_flags::none : normalization_flags::use_global_stats;
  if (gamma) flags |= normalization_flags::use_scale;
  if (beta) flags |= normalization_flags::use_shift;
  if (a.activation == Activation::relu) flags |= normalization_flags::fuse_norm_relu;
  return plans().get(key(batch, a, x, y, flags), [&]() -> std::shared_ptr<const Plan> {
    const auto description = forward_description(batch ? prop_kind::forward_training : prop_kind::forward_inference,
                                                 rows(x), a.epsilon, flags);
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description),
                                             rows(x),
                                             dense({x.shape.channels()}, memory::data_type::f32),
                                             description.workspace_desc(),
                                             {}});
  });
}

std::shared_ptr<const Plan> backward_plan(const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                          const Operand& dz, const BatchNormGradients& to) {
  if (!usable(x) || !to.x || x.pitch != dz.pitch || x.pitch != to.x.to.pitch) return nullptr;
  normalization_flags flags = normalization_flags::none;
  if (gamma) flags |= normalization_flags::use_scale;
  if (to.beta) flags |= normalization_flags::use_shift;
  Key id = key(2, a, x, dz, flags);
  id.push_back(to.x.accumulate);
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    const memory::desc desc = rows(x);
    const auto hint = forward_description(prop_kind::forward_training, desc, a.epsilon, flags);
    const dnnl::batch_normalization_backward::desc backward(prop_kind::backward, desc, desc,
                                                            static_cast<float>(a.epsilon), flags);
    const dnnl::batch_normalization_backward::primitive_desc description(backward, attributes(), engine(), hint);
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description),
                                             desc,
                                             dense({x.shape.channels()}, memory::data_type::f32),
                                             {},
                                             Reorder(desc, desc, to.x.accumulate)});
  });
}

void backward(const Plan& plan, const Operand& x, const Operand& gamma, const Operand& mean, const void* variance,
              const Operand& dz, const BatchNormGradients& to) {
  Tensor sum;
  const Tensor scale = Tensor::empty(mean.shape), shift = Tensor::empty(mean.shape);
  const dnnl::memory dx = plan.image.unpacked(to.x.to.data, sum);
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(plan.x, x.data)},
                                                  {DNNL_ARG_MEAN, at(plan.channel, mean.data)},
                                                  {DNNL_ARG_VARIANCE, at(plan.channel, variance)},
                                                  {DNNL_ARG_DIFF_DST, at(plan.x, dz.data)},
                                                  {DNNL_ARG_DIFF_SRC, dx},
                                                  {DNNL_ARG_DIFF_SCALE, at(plan.channel, scale.raw())},
                                                  {DNNL_ARG_DIFF_SHIFT, at(plan.channel, shift.raw())}};
  if (gamma) arguments.emplace(DNNL_ARG_SCALE, at(plan.channel, gamma.data));
  if (to.beta) arguments.emplace(DNNL_ARG_SHIFT, at(plan.channel, shift.raw()));  // counted as an input, never read
  plan.step.run(std::move(arguments));
  plan.image.finish(dx, to.x.to.data);
  const auto put = [&](const Tensor& from, const Gradient& gradient) {
    for (Index c = 0; gradient && c < from.elements(); ++c) {
      float& target = gradient.to.as<float>()[c];
      target = (gradient.accumulate ? target : 0.f) + from.data<float>()[c];
    }
  };
  put(scale, to.gamma);
  put(shift, to.beta);
}

}  // namespace

bool batch_norm_batch_supports(const Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                               const Operand& beta, const Operand& residual, const ChannelStatistics&, const Operand& y,
                               const ChannelStatistics&) {
  return forward_plan(true, a, x, gamma, beta, residual, y) != nullptr;
}
void batch_norm_batch(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                      const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved) {
  const auto plan = forward_plan(true, a, x, gamma, beta, residual, y);
  const Tensor variance = Tensor::empty(moving.mean.shape);
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(plan->x, x.data)},
                                                  {DNNL_ARG_DST, at(plan->x, y.data)},
                                                  {DNNL_ARG_MEAN, at(plan->channel, saved.mean.data)},
                                                  {DNNL_ARG_VARIANCE, at(plan->channel, variance.raw())}};
  Tensor positive;  // which results relu kept: graft's backward reads that from y
  if (plan->workspace.get_size() > 0) {
    positive = Tensor::empty({static_cast<Index>(plan->workspace.get_size())}, DType::u8);
    arguments.emplace(DNNL_ARG_WORKSPACE, at(plan->workspace, positive.raw()));
  }
  if (gamma) arguments.emplace(DNNL_ARG_SCALE, at(plan->channel, gamma.data));
  if (beta) arguments.emplace(DNNL_ARG_SHIFT, at(plan->channel, beta.data));
  plan->step.run(std::move(arguments));

  const double count = static_cast<double>(x.shape.rows());
  for (Index c = 0; c < variance.elements(); ++c) {
    const double of_batch = static_cast<double>(variance.data<float>()[c]);
    saved.spread.as<float>()[c] = static_cast<float>(1 / std::sqrt(of_batch + a.epsilon));
    const auto blend = [&](float& statistic, double value) {
      statistic = static_cast<float>(a.momentum * static_cast<double>(statistic) + (1 - a.momentum) * value);
    };
    blend(moving.mean.as<float>()[c], static_cast<double>(saved.mean.as<float>()[c]));
    blend(moving.spread.as<float>()[c], a.unbiased ? of_batch * (count / (count - 1)) : of_batch);
  }
}

bool batch_norm_moving_supports(const Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                const Operand& beta, const Operand& residual, const ChannelStatistics&,
                                const Operand& y) {
  return forward_plan(false, a, x, gamma, beta, residual, y) != nullptr;
}
void batch_norm_moving(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                       const Operand& y) {
  const auto plan = forward_plan(false, a, x, gamma, beta, residual, y);
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(plan->x, x.data)},
                                                  {DNNL_ARG_DST, at(plan->x, y.data)},
                                                  {DNNL_ARG_MEAN, at(plan->channel, moving.mean.data)},
                                                  {DNNL_ARG_VARIANCE, at(plan->channel, moving.spread.data)}};
  if (gamma) arguments.emplace(DNNL_ARG_SCALE, at(plan->channel, gamma.data));
  if (beta) arguments.emplace(DNNL_ARG_SHIFT, at(plan->channel, beta.data));
  plan->step.run(std::move(arguments));
}

bool batch_norm_batch_backward_supports(const Context&, const BatchNormAttributes& a, const Operand& x,
                                        const Operand& gamma, const Operand&, const ChannelStatistics&,
                                        const Operand& dz, const BatchNormGradients& to) {
  return a.activation == Activation::linear && backward_plan(a, x, gamma, dz, to) != nullptr;
}
void batch_norm_batch_backward(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                               const Operand&, const ChannelStatistics& saved, const Operand& dz,
                               const BatchNormGradients& to) {
  const Tensor variance = Tensor::empty(saved.mean.shape);
  for (Index c = 0; c < variance.elements(); ++c) {
    const double inverse = static_cast<double>(saved.spread.as<float>()[c]);
    static_cast<float*>(variance.raw())[c] = static_cast<float>(1 / (inverse * inverse) - a.epsilon);
  }
  backward(*backward_plan(a, x, gamma, dz, to), x, gamma, saved.mean, variance.raw(), dz, to);
}

}  // namespace graft::kernels::onednn
