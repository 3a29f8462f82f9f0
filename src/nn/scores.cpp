#include "nn/scores.h"

#include "graft/ops/activation.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/global_pool.h"
#include "graft/ops/layer_norm.h"
#include "graft/ops/linear.h"
#include "graft/ops/pool.h"
#include "graft/ops/shape.h"

#include "core/format.h"

namespace graft::nn {
namespace {

// Whether the first result has numbers of the first input, or means of them, and nothing else.
bool hands_on(const Op& op) {
  const auto is = [&]<class... Ops>() { return ((dynamic_cast<const Ops*>(&op) != nullptr) || ...); };
  return op.is_view() || is.operator()<ops::AveragePool, ops::GlobalAveragePool, ops::GlobalMaxPool, ops::MaxPool,
                                       ops::Permute, ops::Slice>();
}

// What an op does last, where that makes no scores; else empty.
std::string_view last_of(const Op& op) {
  Activation last = Activation::linear;
  if (const auto* activate = dynamic_cast<const ops::Activate*>(&op)) last = activate->function;
  if (const auto* linear = dynamic_cast<const ops::Linear*>(&op)) last = linear->activation;
  if (const auto* conv = dynamic_cast<const ops::Conv2d*>(&op)) last = conv->options.activation;
  if (last != Activation::linear) return graft::name(last);
  return dynamic_cast<const ops::LayerNorm*>(&op) != nullptr ? op.name() : std::string_view();
}

}  // namespace

void check_gives_scores(std::string_view who, const Network& network, const Program& program) {
  if (program.logits() != program.output) return;
  const Program::Call* call = program.producer(program.output);
  while (call != nullptr && hands_on(*call->op)) call = program.producer(call->inputs.front());
  const std::string_view last = call == nullptr ? "its input" : last_of(*call->op);
  check(
      last.empty(),
      "[{}] '{}' ends in {}: expected scores of classes or their softmax; train a head on it with 'graft finetune', or "
      "read its values with 'graft features'",
      who, network.name, last);
}

}  // namespace graft::nn
