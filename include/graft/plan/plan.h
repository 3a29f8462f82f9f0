#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graft/nn/network.h"
#include "graft/plan/weight_cache.h"

/// Networks compiled for one shape of input: the same ops as everywhere, fewer of them, in memory that is planned.
namespace graft::plan {

class Executor;

struct CompileOptions {
  DType dtype = DType::f32;               ///< of activations
  std::vector<std::string> outputs = {};  ///< nodes whose values are wanted; empty for the network's output
  /// Also what a final softmax is computed from, or the output itself: the last of a run's results.
  bool logits = false;
  std::map<std::string, Spec> given = {};  ///< nodes whose values come from outside: what only they need is left out
  /// On a device, record the second run and replay it from then on. Not for plans that run inside another recording.
  bool record = true;
  /// Where folded and packed weights are kept; null for nowhere. Must be that of the network's weights.
  std::shared_ptr<WeightCache> cache = {};
  /// Bytes of the processor's last cache, where a batch may go through the first layers a few images at a time so that
  /// their values stay there; nothing for what this machine has, 0 for whole batches.
  std::optional<std::size_t> last_cache = {};
};

/// What is left of the network's layers: one op call.
struct Step {
  std::string op;          ///< `conv2d`
  std::string attributes;  ///< `stride 1x1, bias, relu`
  bool backward = false;
  std::vector<std::string> layers;  ///< that it computes, in their order
  std::vector<Spec> inputs;         ///< weights too
  Spec output;
  double operations = 0;  ///< floating-point
  double bytes = 0;       ///< that it reads and writes at least
  Index rounds = 1;       ///< in which it takes the batch, a part of the images in each
};

/// What is told of each step that was run, and how long it took.
using Observe = std::function<void(const Step&, double seconds)>;

/// A network compiled for inference with inputs of one shape.
///
/// Batch-norms with moving statistics become part of the convolution before them, and so do activations, additions and
/// zeros around an image; parts of a concatenation are computed where they go; what nobody asks for is left out; on a
/// CPU the first layers take so many images of a batch at a time as its caches hold; intermediate values share one
/// stretch of memory. Weights stay the network's: if they change, the next run uses the new ones. One Plan may be run
/// by many threads at once, but not while the network is trained.
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
  std::vector<Tensor> run(const std::map<std::string, Tensor>& given, const Observe& observe) const;

  const std::vector<Step>& steps() const;
  /// Bytes of memory for intermediate values that a run takes.
  std::size_t memory() const;
  /// The most bytes that are alive at one step: what no plan of this order could do without.
  std::size_t least_memory() const;

 private:
  friend Plan compile(const nn::Network& network, const Shape& input, const CompileOptions& options);
  explicit Plan(std::unique_ptr<Executor> executor);
  std::unique_ptr<Executor> executor_;
};

/// Compiles a network, whose parameters must have values, for inputs of the shape `[N, ...]`. Throws Error as
/// Network::lower does.
Plan compile(const nn::Network& network, const Shape& input, const CompileOptions& options = {});

/// Takes the gradient of a parameter, `conv1/weight`, which lies in the plan's memory and is gone when this returns.
using HandOver = std::function<void(const std::string& parameter, const Tensor& gradient)>;

struct TrainingOptions {
  DType dtype = DType::f32;    ///< of activations
  double label_smoothing = 0;  ///< of the loss: see ops::softmax_cross_entropy
  bool weights = false;        ///< whether examples count differently
  /// Hands each parameter's gradient over as soon as it is complete, while the backward goes on: then gradients need
  /// not all be there at once. Nothing of the step reads the parameter after that, so it may be updated.
  bool hand_over = false;
  std::map<std::string, Spec> given = {};  ///< as in CompileOptions
  /// Bytes that values may take; 0 for as many as there are. Where they would take more, some that are cheap to compute
  /// (activations, norms, sums) are not kept for the backward but computed again, as many as it needs, the largest
  /// first. The numbers stay the same, on a GPU but for rounding.
  std::size_t memory_limit = 0;
};

/// A network compiled for training steps with batches of one shape: forward, cross-entropy and backward as one list.
///
/// What is frozen is compiled as for inference, and has neither a backward nor anything kept for one. Values are kept
/// as long as a backward reads them and no longer; a gradient lies where the one that it is computed from did, where
/// the op allows it. The numbers are those of Network::run and autograd::backward, but for norms that are folded.
class TrainingPlan {
 public:
  ~TrainingPlan();
  TrainingPlan(TrainingPlan&&) noexcept;
  TrainingPlan& operator=(TrainingPlan&&) noexcept;

  struct Batch {
    std::map<std::string, Tensor> given;  ///< the network's input, or values to start from
    Tensor labels;                        ///< i64 [N]
    Tensor weights = {};                  ///< f32 [N], if the plan has them
    Tensor seed = {};                     ///< d(loss)/d(loss), a scalar of the loss's type; undefined for 1
    std::function<void(const Tensor& loss)> after_loss = {};  ///< called between forward and backward
    HandOver hand_over = {};                                  ///< for a plan that hands over
  };
  struct Result {
    Tensor loss, logits;
  };
  /// Computes the loss and its gradient with respect to each trained parameter, which is handed over, or left in
  /// `Parameter::value.grad()`: tensors that the next run overwrites. Updates the statistics that the network updates.
  Result run(const Batch& batch, const Observe& observe = {}) const;

  const std::vector<Step>& steps() const;
  /// As in Plan; gradients of parameters not counted.
  std::size_t memory() const;
  std::size_t least_memory() const;

 private:
  friend TrainingPlan compile_training(const nn::Network& network, const Shape& input, const TrainingOptions& options);
  explicit TrainingPlan(std::unique_ptr<Executor> executor);
  std::unique_ptr<Executor> executor_;
};

/// Compiles a network for training as its layers are set now: which train, which statistics they use.
///
/// input  shape of the network's input, `[N, ...]`; if values to start from are given, only its N counts
/// throws Error as Network::lower does, or if values take more than the memory limit even so
TrainingPlan compile_training(const nn::Network& network, const Shape& input, const TrainingOptions& options = {});

/// A network's plans for inference, each compiled when its shapes come; the four that ran last are kept. Many threads
/// may use one at once, but not while the network is trained.
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
