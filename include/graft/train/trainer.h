#pragma once

#include <filesystem>
#include <functional>
#include <utility>

#include "graft/data/augment.h"
#include "graft/optim/optimizer.h"
#include "graft/optim/schedule.h"
#include "graft/train/evaluate.h"
#include "graft/train/frozen.h"

namespace graft::train {

/// How progress is shown, on standard error.
enum class Progress : std::uint8_t {
  automatic,  ///< a bar on a terminal, lines elsewhere
  bar,
  lines,  ///< one line an epoch
  none,
};

struct TrainOptions {
  Index epochs = 10;
  Index batch = 32;
  optim::OptimizerOptions optimizer = {};
  /// Learning rates of layers by glob: `{{"conv5_*", 1e-5}}`. The first pattern that matches a layer counts.
  std::vector<std::pair<std::string, double>> learning_rate_of = {};
  /// Weight decays of layers, in the same way.
  std::vector<std::pair<std::string, double>> weight_decay_of = {};
  /// In steps. A `total` of 0 stands for the whole run, an `every` of 0 for a third of it.
  optim::Schedule schedule = {};
  double label_smoothing = 0;
  std::vector<double> class_weights = {};  ///< what an example of each class counts in the loss; empty: all count 1
  Index patience = 0;                      ///< stop after so many epochs without a better one; 0 never does
  std::uint64_t seed = 0;                  ///< of the order, the augmentation and dropout
  data::Augmentation augmentation = {};
  DType precision =
      DType::f32;  ///< of activations: f32, bf16, f16 (the loss is then scaled), or f64 if the parameters are
  std::size_t memory_limit = 0;  ///< of a step's values in bytes: see plan::TrainingOptions
  bool cache_features = true;    ///< compute what is frozen once, where nothing random stands before it and it pays
  std::size_t cache_bytes = std::size_t{2} << 30;  ///< of memory for cached features
  /// Where files of cached features are kept and found again; empty for memory alone. Values go there that find no room
  /// in memory, and others if writing them takes less time than computing them did.
  std::filesystem::path cache_folder = {};
  /// That all files in the folder may take, the ones longest unused are removed; a new one never takes more than half
  /// of what is free on the disk.
  std::uint64_t cache_file_bytes = std::uint64_t{32} << 30;
  /// With augmentation: so many versions of each training photo, for each of which what is frozen is computed once
  /// where that pays. Epoch e, from 0, uses version e mod views, which is what a run without them draws in epoch e mod
  /// views. 0: new ones in each epoch.
  Index views = 0;
  int workers = 0;  ///< threads that read photos; 0: see data::LoaderOptions

  std::filesystem::path out = {};  ///< where the run's files go; empty for none
  bool resume = false;  ///< continue the run in `out`; one that was killed before its first checkpoint starts anew
  double checkpoint_seconds = 10;  ///< between checkpoints, at least; one is written after the last epoch anyway
  bool profile = false;            ///< fills Report::profile
  /// On a device, record a step when its shape comes for the second time, and replay it from then on. An op of your own
  /// that reads device memory in its forward or backward cannot be recorded.
  bool record_steps = true;
  Progress progress = Progress::automatic;
  /// Called after each step with the epoch and the step in it, from 0. What it throws ends the run.
  std::function<void(Index epoch, Index step)> after_step = {};
};

/// The loss and the shares of an epoch.
struct Scores {
  double loss = 0;
  double top1 = 0;
  double top5 = 0;
};

struct EpochRecord {
  Index epoch = 0;           ///< from 1
  double learning_rate = 0;  ///< of the epoch's last step
  Scores train = {};         ///< while training: with dropout, on weights that were changing
  std::optional<Scores> validation = {};
  double seconds = 0;
  double images_per_second = 0;  ///< in training
};

struct Report {
  std::vector<EpochRecord> epochs = {};
  /// The epoch, from 1, with the highest validation accuracy and among those the lowest loss; without validation data
  /// the one with the lowest training loss. A loss that is not finite is higher than any other.
  Index best_epoch = 0;
  bool stopped_early = false;
  std::string features = {};  ///< what was decided about frozen features, in a line
  std::map<std::string, std::string> frozen_hashes = {};
  std::vector<std::vector<Index>> confusion = {};  ///< [label][prediction] on the validation data, after the last epoch
  std::string profile = {};
  double seconds = 0;         ///< of this start: computing what is frozen, and the epochs
  double frozen_seconds = 0;  ///< the part of them that computing what is frozen took

  /// Throws Error if there is no epoch.
  const EpochRecord& best() const;
};

/// Trains a network for classification by softmax cross-entropy.
///
/// Each step is a function of the seed, the number of the epoch and of the step, the weights and the optimizer's state
/// alone: a run that was killed anywhere continues from its checkpoint to the same weights, bit for bit.
///
/// Files in `options.out`, each written beside its target, synced and renamed:
///   checkpoint.safetensors  all that resuming needs
///   best.safetensors        the network after the best epoch, to run
///   last.safetensors        the network at the end
///   log.jsonl               a line an epoch
///   run.json                options, versions, data, hashes of what is frozen, layers, results, and a status: running,
///                           finished, stopped early, or diverged with the reason as `error`
class Trainer {
 public:
  /// Trains on photos; `validation` may be empty. What is frozen is computed once for all epochs where that is
  /// cheapest: see plan_caching.
  ///
  /// Throws Error for options that make no sense, classes that are not the network's, or if nothing is trainable.
  Trainer(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
          TrainOptions options);
  /// Trains on other data. `validation` may be null.
  Trainer(nn::Network& network, std::unique_ptr<Source> train, std::unique_ptr<Source> validation,
          TrainOptions options);
  ~Trainer();

  /// Trains to the end. The network is left with the weights of the last epoch.
  ///
  /// Throws Error, naming the layer, if a loss or a gradient is not finite, and if a frozen parameter changed. On a
  /// device that is noticed up to a second later. A step whose loss is not finite changes no weight; nor does one whose
  /// gradients are not, but on the CPU without clipping, where weights are updated as their gradients come. A run
  /// that diverged so after an epoch or more leaves best.safetensors, log.jsonl and run.json; it cannot be resumed.
  Report run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graft::train
