#include "graft/optim/optimizer.h"

#include <cmath>

#include "autograd/on_device.h"
#include "core/format.h"
#include "kernels/optimizer.h"

namespace graft::optim {

std::string_view name(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::sgd:
      return "sgd";
    case Algorithm::adam:
      return "adam";
    case Algorithm::adamw:
      return "adamw";
  }
  return {};
}

Algorithm algorithm_from_name(std::string_view text) {
  for (const auto algorithm : {Algorithm::sgd, Algorithm::adam, Algorithm::adamw}) {
    if (name(algorithm) == text) return algorithm;
  }
  fail("[optimizer] expected sgd, adam or adamw, got '{}'", text);
}

namespace {

void check_options(const OptimizerOptions& o) {
  const auto not_negative = [](std::string_view what, double value) {
    check(std::isfinite(value) && value >= 0, "[optimizer] {} must be a number of 0 or more, got {}", what, value);
  };
  const auto share = [](std::string_view what, double value) {
    check(value >= 0 && value < 1, "[optimizer] {} must be in [0, 1), got {}", what, value);
  };
  not_negative("learning rate", o.learning_rate);
  not_negative("weight decay", o.weight_decay);
  not_negative("momentum", o.momentum);
  not_negative("epsilon", o.epsilon);
  not_negative("the norm to clip at", o.clip_norm);
  share("beta1", o.beta1);
  share("beta2", o.beta2);
  check(!o.nesterov || o.momentum > 0, "[optimizer] Nesterov's step needs a momentum above 0");
}

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, std::vector<Group> groups)
    : options_(options), groups_(std::move(groups)) {
  check_options(options_);
  const bool moments = options_.algorithm != Algorithm::sgd;
  for (const Group& group : groups_) {
    OptimizerOptions own = options_;
    own.learning_rate = group.learning_rate.value_or(own.learning_rate);
    own.weight_decay = group.weight_decay.value_or(own.weight_decay);
    check_options(own);
    for (const auto& [key, value] : group.parameters) {
      check(value.dtype() == DType::f32 || value.dtype() == DType::f64,
            "[optimizer] parameters are f32 or f64, '{}' is {}", key, value.dtype());
      State state{.first = {}, .second = {}, .steps = Tensor::zeros({}, DType::i64)};
      if (moments || options_.momentum > 0) state.first = Tensor::zeros(value.shape(), value.dtype(), value.device());
      if (moments) state.second = Tensor::zeros(value.shape(), value.dtype(), value.device());
      check(states_.emplace(key, state).second, "[optimizer] parameter '{}' is given twice", key);
    }
  }
}

double Optimizer::learning_rate(std::size_t group) const {
  return groups_.at(group).learning_rate.value_or(options_.learning_rate) * factor_;
}

void Optimizer::zero_grad() {
  for (Group& group : groups_) {
    for (NamedTensor& parameter : group.parameters) parameter.value.clear_grad();
  }
}

double Optimizer::gradient_norm() const {
  Tensor sum = Tensor::zeros({}, DType::f64);  // on the device of the gradients, which are rarely on several
  double elsewhere = 0;
  for (const Group& group : groups_) {
    for (const NamedTensor& parameter : group.parameters) {
      const Tensor gradient = parameter.value.grad();
      if (!gradient.defined()) continue;
      if (gradient.device() != sum.device()) {
        elsewhere += sum.item();
        sum = Tensor::zeros({}, DType::f64, gradient.device());
      }
      const autograd::OnDevice on(Context::current(), gradient.device());
      kernels::sum_squares(Context::current(), gradient, sum);
    }
  }
  return std::sqrt(elsewhere + sum.item());
}

void Optimizer::step() {
  double scale = 1;
  if (options_.clip_norm > 0) scale = std::min(1.0, options_.clip_norm / (gradient_norm() + 1e-6));
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    for (const NamedTensor& parameter : groups_[i].parameters) {
      if (parameter.value.grad().defined()) update(i, parameter, scale);
    }
  }
}

void Optimizer::update(std::size_t group, const NamedTensor& parameter, double scale) {
  Tensor weight = parameter.value;
  const Tensor gradient = weight.grad();
  check(gradient.dtype() == weight.dtype(), "[optimizer] the gradient of '{}' is {}, expected {}", parameter.name,
        gradient.dtype(), weight.dtype());
  check(gradient.device() == weight.device(), "[optimizer] the gradient of '{}' is on {}, expected {}", parameter.name,
        gradient.device(), weight.device());
  State& state = states_.at(parameter.name);
  const auto steps = static_cast<double>(++*state.steps.mutable_data<std::int64_t>());
  const double rate = learning_rate(group);
  const double decay = groups_[group].weight_decay.value_or(options_.weight_decay);
  const Operand first = state.first.defined() ? Operand(state.first) : Operand{};
  Context& context = Context::current();
  const autograd::OnDevice on(context, weight.device());
  if (options_.algorithm == Algorithm::sgd) {
    kernels::sgd_update(context, {rate, decay, options_.momentum, options_.nesterov, scale}, gradient, weight, first);
  } else {
    const AdamUpdate numbers{.rate = rate,
                             .decay = decay,
                             .decoupled = options_.algorithm == Algorithm::adamw,
                             .beta1 = options_.beta1,
                             .beta2 = options_.beta2,
                             .epsilon = options_.epsilon,
                             .correction1 = 1 - std::pow(options_.beta1, steps),
                             .correction2 = 1 - std::pow(options_.beta2, steps),
                             .gradient_scale = scale};
    kernels::adam_update(context, numbers, gradient, weight, first, state.second);
  }
  weight.bump_version();
}

std::map<std::string, Tensor> Optimizer::state() const {
  const bool moments = options_.algorithm != Algorithm::sgd;
  std::map<std::string, Tensor> all;
  for (const auto& [key, state] : states_) {
    if (state.first.defined()) all[key + (moments ? "/first_moment" : "/momentum")] = state.first;
    if (state.second.defined()) all[key + "/second_moment"] = state.second;
    all[key + "/steps"] = state.steps;
  }
  return all;
}

void Optimizer::set_state(const std::map<std::string, Tensor>& given) {
  const std::map<std::string, Tensor> own = state();
  for (const auto& [key, value] : given)
    check(own.contains(key), "[optimizer] the state has an entry '{}' that this optimizer does not know", key);
  for (const auto& [key, value] : own) {
    const auto found = given.find(key);
    check(found != given.end(), "[optimizer] the state has no entry '{}'", key);
    check(found->second.spec() == value.spec(), "[optimizer] expected '{}' as {} {}, got {} {}", key, value.dtype(),
          value.shape(), found->second.dtype(), found->second.shape());
  }
  for (const auto& [key, value] : own) Tensor(value).copy_from(given.at(key));
}

}  // namespace graft::optim
