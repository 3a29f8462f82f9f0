#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "graft/nn/network.h"

/// Networks compiled for one shape of input: the same ops as everywhere, fewer of them, in memory that is planned.
namespace graft::plan {

struct CompileOptions {
  DType dtype = DType::f32;               ///< of activations
  std::vector<std::string> outputs = {};  ///< nodes whose values are wanted; empty for the network's output
  /// Also what a final softmax is computed from, or the output itself: the last of a run's results.
  bool logits = false;
  std::map<std::string, Spec> given = {};  ///< nodes whose values come from outside: what only they need is left out
};

/// What is left of the network's layers: one op call.
struct Step {
  std::string op;                   ///< `conv2d`
  std::string attributes;           ///< `stride 1x1, bias, relu`
  std::vector<std::string> layers;  ///< that it computes, in their order
  std::vector<Spec> inputs;         ///< weights too
  Spec output;
  double operations = 0;  ///< floating-point
  double bytes = 0;       ///< that it reads and writes at least
};

/// A network compiled for inference with inputs of one shape.
///
/// Batch-norms with moving statistics become part of the convolution before them, and so do activations, additions and
/// zeros around an image; parts of a concatenation are computed where they go; what nobody asks for is left out;
/// intermediate values share one stretch of memory. Weights stay the network's: if they change, the next run uses the
/// new ones. One Plan may be run by many threads at once, but not while the network is trained.
class Plan {
 public:
  ~Plan();
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;

  /// The values of `CompileOptions::outputs`, in their order, and the logits if they are asked for. Copies what is
  /// given to the network's device.
  ///
  /// Throws Error if something that is needed is not given, or has another shape or type than the plan was made for.
  std::vector<Tensor> run(const Tensor& input) const;
  std::vector<Tensor> run(const std::map<std::string, Tensor>& given) const;
  /// The same, and calls `observe(step, seconds)` after each step.
  using Observe = std::function<void(const Step&, double seconds)>;
  std::vector<Tensor> run(const std::map<std::string, Tensor>& given, const Observe& observe) const;

  const std::vector<Step>& steps() const;
  /// Bytes of memory for intermediate values that a run takes.
  std::size_t memory() const;
  /// The most bytes that are alive at one step: what no plan of this order could do without.
  std::size_t least_memory() const;

 private:
  friend Plan compile(const nn::Network& network, const Shape& input, const CompileOptions& options);
  class Impl;
  explicit Plan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Compiles a network, whose parameters must have values, for inputs of the shape `[N, ...]`. Throws Error as
/// Network::lower does.
Plan compile(const nn::Network& network, const Shape& input, const CompileOptions& options = {});

/// A network's plans for inference, each compiled when its shapes come for the first time. Many threads may use one at
/// once, but not while the network is trained.
class Inference {
 public:
  /// Shares the network's parameters; what is done to its layers later is not noticed. `options.given` stays empty.
  explicit Inference(const nn::Network& network, const CompileOptions& options = {});
  ~Inference();
  Inference(Inference&&) noexcept;
  Inference& operator=(Inference&&) noexcept;

  const nn::Network& network() const;
  /// As Plan::run. What is given may be the network's input or values of other nodes to start from.
  std::vector<Tensor> run(const Tensor& input) const;
  std::vector<Tensor> run(const std::map<std::string, Tensor>& given) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graft::plan
