#pragma once

#include <map>
#include <optional>

#include "graft/core/graph.h"
#include "graft/plan/plan.h"
#include "graft/train/trainer.h"

#include "core/uploader.h"
#include "train/profile.h"

namespace graft::train {

/// Runs the steps of training: forward, loss, backward, the check that all is finite, the update, and the counts.
///
/// Each shape of batch has a plan of its own, compiled when it comes for the first time. On a device nobody waits for a
/// step: a shape that comes for the second time is recorded, and replayed from then on. What changes from step to step
/// lies in the device's memory: the batch, rates and step counts, the state of the random numbers. Plan and recording
/// belong to what they were made for: the batch's shapes, the network's layers and how they are joined, which of them
/// are trainable and which statistics they use, where the parameters are, and the switches of the Context.
class StepRunner {
 public:
  StepRunner(nn::Network& network, optim::Optimizer& optimizer, const TrainOptions& options);

  /// A step that draws its random numbers from `generator`. `profile` may be null.
  void run(const Examples& examples, Generator generator, Metrics& metrics, Profile* profile);

  /// The loss of a batch whose logits are there.
  Tensor loss(const Tensor& logits, const Tensor& labels, const Tensor& weights) const;
  /// What each example of the batch counts; undefined if all count the same.
  Tensor weights_of(const Examples& examples) const;

 private:
  struct Variant {
    std::optional<plan::TrainingPlan> plan;
    std::vector<std::shared_ptr<const nn::Layer>> layers;  ///< kept, so that no other layer gets an address of the key
    Examples inputs;
    Tensor weights;
    bool seen = false;
    optim::Optimizer::Step step;
    std::optional<Graph> recording;
  };
  std::string key_of(const Examples& examples) const;
  void bring(const Examples& examples, Generator generator, Variant& variant);
  void compile(Variant& variant, const std::map<std::string, Tensor>& values);
  void compute(Variant& variant, Metrics& metrics, Profile* profile, bool recorded);

  nn::Network& network_;
  optim::Optimizer& optimizer_;
  const TrainOptions& options_;
  bool one_by_one_;  ///< parameters are updated as their gradients come
  Uploader uploader_;
  Tensor random_state_;
  std::map<std::string, Variant> variants_;
};

}  // namespace graft::train
