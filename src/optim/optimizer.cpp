#include "graft/optim/optimizer.h"

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

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

// The largest power of two that keeps a loss below the largest f16, and how PyTorch's GradScaler lets it grow.
constexpr double kFirstLossScale = 65536;
constexpr double kGrowthInterval = 2000;

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
  const PurposeScope purpose(Purpose::optimizer);
  const bool moments = options_.algorithm != Algorithm::sgd;
  std::optional<Device> device;
  std::map<DType, Index> counts;
  for (const Group& group : groups_) {
    OptimizerOptions own = options_;
    own.learning_rate = group.learning_rate.value_or(own.learning_rate);
    own.weight_decay = group.weight_decay.value_or(own.weight_decay);
    check_options(own);
    for (const auto& [key, value] : group.parameters) {
      check(value.dtype() == DType::f32 || value.dtype() == DType::f64,
            "[optimizer] parameters are f32 or f64, '{}' is {}", key, value.dtype());
      if (!device) device = value.device();
      check(*device == value.device(), "[optimizer] parameters are on one device, '{}' is on {}, others on {}", key,
            value.device(), *device);
      State state{.first = {}, .second = {}, .steps = Tensor::zeros({}, DType::i64)};
      if (moments || options_.momentum > 0) state.first = Tensor::zeros(value.shape(), value.dtype(), value.device());
      if (moments) state.second = Tensor::zeros(value.shape(), value.dtype(), value.device());
      check(states_.emplace(key, state).second, "[optimizer] parameter '{}' is given twice", key);
      ++counts[value.dtype()];
    }
  }
  for (const auto& [dtype, count] : counts)
    tables_[dtype] = Tensor::empty({count * static_cast<Index>(sizeof(UpdateRow))}, DType::u8, *device);
  StepControl control;
  if (options_.loss_scaling) control.loss_scale = kFirstLossScale;
  control_ = Tensor::from_bytes({kStepControlNumbers}, DType::f64, std::as_bytes(std::span(&control, 1)))
                 .to(device.value_or(Device{}));
}

double Optimizer::learning_rate(std::size_t group) const {
  return groups_.at(group).learning_rate.value_or(options_.learning_rate) * factor_;
}

void Optimizer::zero_grad() {
  for (Group& group : groups_) {
    for (NamedTensor& parameter : group.parameters) parameter.value.clear_grad();
  }
}

namespace {

UpdateTable table_of(const Optimizer::Step::Part& part) {
  return {.rows = static_cast<const UpdateRow*>(part.table.raw()),
          .count = static_cast<Index>(part.parameters.size()),
          .chunks = part.chunks,
          .dtype = part.parameters.front().value.dtype()};
}

Index chunks_of(const Tensor& tensor) { return (tensor.elements() + UpdateTable::kChunk - 1) / UpdateTable::kChunk; }

// A row a tensor that says where its gradient is and which chunks are its own: all that a sum of squares reads.
std::vector<UpdateRow> rows_of(const Optimizer::Step::Part& part) {
  std::vector<UpdateRow> rows;
  Index chunk = 0;
  for (const Tensor& gradient : part.gradients) {
    rows.push_back({.gradient = gradient.raw(), .elements = gradient.elements(), .first_chunk = chunk});
    chunk += chunks_of(gradient);
  }
  return rows;
}

// Straight from the host's memory, which the device has read when this returns.
void upload_now(const Tensor& to, const void* from) {
  Tensor(to).copy_from(Tensor::from_bytes(to.shape(), to.dtype(), {static_cast<const std::byte*>(from), to.bytes()}));
}

}  // namespace

Optimizer::Step Optimizer::prepare() const {
  Step step;
  for (const DType dtype : {DType::f32, DType::f64}) {
    Step::Part part;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      for (const NamedTensor& parameter : groups_[i].parameters) {
        const Tensor& weight = parameter.value;
        const Tensor gradient = weight.grad();
        if (weight.dtype() != dtype || !gradient.defined()) continue;
        check(gradient.dtype() == dtype, "[optimizer] the gradient of '{}' is {}, expected {}", parameter.name,
              gradient.dtype(), dtype);
        check(gradient.device() == weight.device(), "[optimizer] the gradient of '{}' is on {}, expected {}",
              parameter.name, gradient.device(), weight.device());
        part.groups.push_back(i);
        part.parameters.push_back(parameter);
        part.gradients.push_back(gradient);
        part.chunks += chunks_of(weight);
      }
    }
    if (part.parameters.empty()) continue;
    part.table = tables_.at(dtype).rows(0, static_cast<Index>(part.parameters.size() * sizeof(UpdateRow)));
    step.parts.push_back(std::move(part));
  }
  return step;
}

// Counts a step of a parameter, and completes its row with what the step needs.
UpdateRow Optimizer::next_row(std::size_t group, const NamedTensor& parameter, UpdateRow row) {
  Tensor weight = parameter.value;
  State& state = states_.at(parameter.name);
  const auto steps = static_cast<double>(++*state.steps.mutable_data<std::int64_t>());
  const Storage::Rounded* const rounded = weight.storage()->rounded();
  row.weight = weight.raw();
  if (state.first.defined()) row.first = state.first.raw();
  if (state.second.defined()) row.second = state.second.raw();
  if (rounded != nullptr) {
    row.rounded = rounded->copy->data();
    row.rounded_dtype = rounded->dtype;
  }
  row.rate = learning_rate(group);
  row.decay = groups_[group].weight_decay.value_or(options_.weight_decay);
  row.correction1 = 1 - std::pow(options_.beta1, steps);
  row.correction2 = 1 - std::pow(options_.beta2, steps);
  const auto copy = rounded != nullptr ? *rounded : Storage::Rounded{};
  weight.bump_version();
  if (copy.copy) weight.storage()->keep_rounded(copy.copy, copy.dtype);
  return row;
}

void Optimizer::advance(Step& step, const std::function<void(const Tensor& to, const void* from)>& upload) {
  for (Step::Part& part : step.parts) {
    std::vector<UpdateRow> rows = rows_of(part);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = next_row(part.groups[i], part.parameters[i], rows[i]);
    if (upload)
      upload(part.table, rows.data());
    else
      upload_now(part.table, rows.data());
  }
}

void Optimizer::sum_squares(const Step& step, const Tensor& sum) const {
  for (const Step::Part& part : step.parts) kernels::sum_squares(Context::current(), table_of(part), sum);
}

void Optimizer::launch(const Step& step, const Tensor& loss) {
  const autograd::OnDevice on(Context::current(), device());
  Context& context = Context::current();
  Operand control;
  if (loss.defined() || options_.clip_norm > 0 || options_.loss_scaling) {
    control = control_;
    const Tensor squares = Tensor::zeros({}, DType::f64, device());
    sum_squares(step, squares);
    kernels::decide_step(context,
                         {.clip_norm = options_.clip_norm,
                          .growth_interval = options_.loss_scaling ? kGrowthInterval : 0,
                          .stops = loss.defined()},
                         squares, loss.defined() ? Operand(loss) : Operand{}, control);
  }
  for (const Step::Part& part : step.parts) apply(part, control);
}

void Optimizer::apply(const Step::Part& part, const Operand& control) const {
  Context& context = Context::current();
  if (options_.algorithm == Algorithm::sgd)
    kernels::sgd_update(context, {options_.momentum, options_.nesterov}, table_of(part), control);
  else
    kernels::adam_update(context,
                         {options_.beta1, options_.beta2, options_.epsilon, options_.algorithm == Algorithm::adamw},
                         table_of(part), control);
}

void Optimizer::begin(const Tensor& loss) {
  check(device().kind == Device::Kind::cpu && options_.clip_norm == 0 && !options_.loss_scaling,
        "[optimizer] parameters are updated one by one on the CPU, without clipping and loss scaling");
  kernels::decide_step(Context::current(), {.stops = true}, Tensor::zeros({}, DType::f64), loss, control_);
}

void Optimizer::update(const std::string& name, const Tensor& gradient) {
  Step::Part& part = single_[name];
  for (std::size_t i = 0; i < groups_.size() && part.parameters.empty(); ++i) {
    for (const NamedTensor& parameter : groups_[i].parameters) {
      if (parameter.name != name) continue;
      part.groups = {i};
      part.parameters = {parameter};
      part.chunks = chunks_of(parameter.value);
      part.table = Tensor::empty({static_cast<Index>(sizeof(UpdateRow))}, DType::u8);
    }
  }
  check(!part.parameters.empty(), "[optimizer] there is no parameter '{}'", name);
  const Tensor& weight = part.parameters[0].value;
  check(gradient.spec() == weight.spec() && gradient.device() == weight.device(),
        "[optimizer] expected a gradient of '{}' as {} {} on {}, got {} {} on {}", name, weight.dtype(), weight.shape(),
        weight.device(), gradient.dtype(), gradient.shape(), gradient.device());
  part.gradients = {gradient};
  const UpdateRow row = next_row(part.groups[0], part.parameters[0], rows_of(part)[0]);
  upload_now(part.table, &row);
  const Tensor squares = Tensor::zeros({}, DType::f64);
  kernels::sum_squares(Context::current(), table_of(part), squares);
  auto& control = *static_cast<StepControl*>(control_.raw());
  if (!std::isfinite(squares.item())) {
    control.applies = 0;
    if (control.failed < 0) control.failed = control.steps - 1;
  }
  apply(part, control_);
  part.gradients.clear();
}

void Optimizer::step() {
  Step step = prepare();
  advance(step);
  launch(step);
}

StepOutcome Optimizer::outcome() const {
  const Tensor there = control_.to(Device{});
  const auto& control = *static_cast<const StepControl*>(there.raw());
  return {.gradient_norm = control.norm,
          .skipped = static_cast<Index>(control.skipped),
          .failed = control.failed >= 0 ? std::optional(static_cast<Index>(control.failed)) : std::nullopt};
}

double Optimizer::gradient_norm() const {
  const Step step = prepare();
  for (const Step::Part& part : step.parts) upload_now(part.table, rows_of(part).data());
  const autograd::OnDevice on(Context::current(), device());
  const Tensor sum = Tensor::zeros({}, DType::f64, device());
  sum_squares(step, sum);
  return std::sqrt(sum.item());
}

std::map<std::string, Tensor> Optimizer::state() const {
  const bool moments = options_.algorithm != Algorithm::sgd;
  std::map<std::string, Tensor> all;
  for (const auto& [key, state] : states_) {
    if (state.first.defined()) all[key + (moments ? "/first_moment" : "/momentum")] = state.first;
    if (state.second.defined()) all[key + "/second_moment"] = state.second;
    all[key + "/steps"] = state.steps;
  }
  if (options_.loss_scaling) all["loss_scaling"] = control_;
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
  constexpr Index kSteps = offsetof(StepControl, steps) / sizeof(double);
  control_.rows(kSteps, 1).fill(0);  // a step that fails is counted from here
}

}  // namespace graft::optim
