#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/tensor.h"

namespace graft {
struct Operand;
struct UpdateRow;
}  // namespace graft

namespace graft::optim {

enum class Algorithm : std::uint8_t { sgd, adam, adamw };

std::string_view name(Algorithm algorithm);
/// Reads `sgd`, `adam`, `adamw`. Throws Error for anything else.
Algorithm algorithm_from_name(std::string_view name);

/// The update of a parameter w with gradient g at rate r, as PyTorch defines it:
///   sgd    g += decay w;  v = momentum v + g;  w -= r v, or with Nesterov  w -= r (g + momentum v)
///   adam   g += decay w;  m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2;
///          w -= r m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + epsilon)   (Kingma and Ba 2015)
///   adamw  the same, but decay acts on w alone, before: w -= r decay w        (Loshchilov and Hutter 2019)
struct OptimizerOptions {
  Algorithm algorithm = Algorithm::adam;
  double learning_rate = 1e-3;
  double weight_decay = 0;
  double momentum = 0;    ///< sgd
  bool nesterov = false;  ///< sgd
  double beta1 = 0.9;     ///< adam, adamw
  double beta2 = 0.999;
  double epsilon = 1e-8;
  /// Gradients are scaled down so that the norm of all of them together stays below this; 0 leaves them alone.
  double clip_norm = 0;
  /// For f16, whose gradients vanish below 6e-8: the loss is multiplied by `loss_scale()` before backward, and a step
  /// divides the gradients by it. A step with a gradient that is not finite is left out, and halves the scale.
  bool loss_scaling = false;
};

/// A tensor to be optimised, f32 or f64, and the name that its state is saved under.
struct NamedTensor {
  std::string name;
  Tensor value;
};

/// Parameters that share a rate and a decay. What is not given is the optimizer's.
struct Group {
  std::vector<NamedTensor> parameters;
  std::optional<double> learning_rate = {};
  std::optional<double> weight_decay = {};
};

/// What became of the steps so far.
struct StepOutcome {
  double gradient_norm = 0;  ///< of the last step, where it was computed: with clipping, loss scaling or a check
  Index skipped = 0;         ///< steps left out because a gradient was not finite
  /// The first checked step whose loss or gradients were not finite, from 0 for the first one after `set_state`.
  std::optional<Index> failed = {};
};

/// Changes parameters in place by their gradients.
///
/// ```
/// optim::Optimizer optimizer({.learning_rate = 1e-2}, {{.parameters = {{"w", w}}}});
/// optimizer.zero_grad();
/// autograd::backward(loss);
/// optimizer.step();
/// ```
class Optimizer {
 public:
  /// Throws Error if a number is out of range, a parameter is neither f32 nor f64, a name comes twice, or parameters
  /// are on several devices.
  Optimizer(const OptimizerOptions& options, std::vector<Group> groups);

  /// Updates every parameter that has a gradient, where it is. Throws Error if a gradient's type or device is not its
  /// parameter's.
  void step();

  /// What step() does, in parts that fit around a Graph: `prepare` and `launch` are recorded, `advance` comes before
  /// each replay. Kernels read rates and counts from the Step's memory when they run.
  struct Step {
    struct Part {
      std::vector<std::size_t> groups;      ///< of each tensor
      std::vector<NamedTensor> parameters;  ///< of one type
      std::vector<Tensor> gradients;        ///< keeps them where the table says they are
      Tensor table;
      Index chunks = 0;
    };
    std::vector<Part> parts;
  };
  /// A step for the parameters that have a gradient now.
  Step prepare() const;
  /// Counts the step, and brings its numbers to the device: by `upload(to, from)`, a copy of `to.bytes()` bytes in the
  /// Context's stream, if it is given.
  void advance(Step& step, const std::function<void(const Tensor& to, const void* from)>& upload = {});
  /// Gives the step's kernels to the device. With a `loss` the step is checked: if the loss or a gradient is not
  /// finite, it and all later steps leave everything as it is, until somebody asks for the `outcome`. With loss scaling
  /// that is so once a scale of 1 does not help.
  void launch(const Step& step, const Tensor& loss = {});
  /// A step on the CPU whose gradients come one by one and need not be kept: first `begin`, then an `update` for each.
  /// If the loss is not finite, updates leave everything as it is; if a gradient is not, that one and those after it
  /// do, so that parameters whose gradient came before have changed. `outcome` tells. Not with clipping or loss
  /// scaling, which want all gradients at once.
  void begin(const Tensor& loss);
  /// Throws Error if there is no such parameter, or the gradient is not like it.
  void update(const std::string& parameter, const Tensor& gradient);
  /// Waits for the device.
  StepOutcome outcome() const;
  /// What to multiply the loss by, an f64 scalar that lives where the parameters are; 1 without loss scaling.
  Tensor loss_scale() const { return control_.rows(0, 1).reshaped({}); }
  /// Forgets all gradients.
  void zero_grad();

  /// The learning rate for groups that have none of their own.
  void set_learning_rate(double rate) { options_.learning_rate = rate; }
  /// What every group's rate is multiplied by from now on: see `factor(Schedule, step)`.
  void set_factor(double factor) { factor_ = factor; }
  /// A group's rate, the factor included.
  double learning_rate(std::size_t group = 0) const;
  const std::vector<Group>& groups() const { return groups_; }

  /// The Euclidean norm of all gradients together, summed in f64 in an order that does not depend on the threads. Waits
  /// for a device that they are on.
  double gradient_norm() const;

  /// What it remembers between steps, by parameter: `NAME/momentum`, or `NAME/first_moment` and `NAME/second_moment`,
  /// and `NAME/steps` (i64, on the CPU); with loss scaling also `loss_scaling`. The others are on the parameter's
  /// device. The tensors are its own: a step changes them.
  std::map<std::string, Tensor> state() const;
  /// Takes over what `state` returned. Throws Error if an entry is missing, unknown, or of another shape or type.
  void set_state(const std::map<std::string, Tensor>& state);

 private:
  struct State {
    Tensor first;   ///< momentum, or first moment; undefined where the algorithm has none
    Tensor second;  ///< second moment
    Tensor steps;   ///< i64 scalar
  };
  Device device() const { return control_.device(); }
  UpdateRow next_row(std::size_t group, const NamedTensor& parameter, UpdateRow row);
  void apply(const Step::Part& part, const Operand& control) const;
  void sum_squares(const Step& step, const Tensor& sum) const;

  OptimizerOptions options_;
  std::vector<Group> groups_;
  std::map<std::string, State> states_;
  std::map<DType, Tensor> tables_;  ///< the rows of a step; older than any recording, whose kernels share its memory
  std::map<std::string, Step::Part> single_;  ///< a part for each parameter that was updated by itself
  double factor_ = 1;
  Tensor control_;  ///< f64: see StepControl in kernels/optimizer.h
};

}  // namespace graft::optim
