#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/tensor.h"

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
  /// Throws Error if a number is out of range, a parameter is neither f32 nor f64, or a name comes twice.
  Optimizer(const OptimizerOptions& options, std::vector<Group> groups);

  /// Updates every parameter that has a gradient, where it is. Throws Error if a gradient's type or device is not its
  /// parameter's.
  void step();
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
  /// for a device that they are on, and so does a step that clips.
  double gradient_norm() const;

  /// What it remembers between steps, by parameter: `NAME/momentum`, or `NAME/first_moment` and `NAME/second_moment`,
  /// and `NAME/steps` (i64, on the CPU). The others are on the parameter's device. The tensors are its own: a step
  /// changes them.
  std::map<std::string, Tensor> state() const;
  /// Takes over what `state` returned. Throws Error if an entry is missing, unknown, or of another shape or type.
  void set_state(const std::map<std::string, Tensor>& state);

 private:
  struct State {
    Tensor first;   ///< momentum, or first moment; undefined where the algorithm has none
    Tensor second;  ///< second moment
    Tensor steps;   ///< i64 scalar
  };
  void update(std::size_t group, const NamedTensor& parameter, double scale);

  OptimizerOptions options_;
  std::vector<Group> groups_;
  std::map<std::string, State> states_;
  double factor_ = 1;
};

}  // namespace graft::optim
