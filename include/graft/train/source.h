#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graft/data/loader.h"
#include "graft/nn/network.h"

namespace graft::train {

/// Labelled examples, as many as a batch: for each of some nodes its value [N, ...]. The network's input is a node too.
struct Examples {
  std::map<std::string, Tensor> values = {};
  Tensor labels = {};               ///< i64 [N]
  std::vector<Index> indices = {};  ///< which examples of the data set these are

  Index size() const { return static_cast<Index>(indices.size()); }
};

/// A data set in memory: for each of some nodes its value for every example, [size, ...].
struct Features {
  std::map<std::string, Tensor> values = {};
  std::vector<Index> labels = {};

  Index size() const { return static_cast<Index>(labels.size()); }
  std::size_t bytes() const;
};

/// Where examples come from, epoch by epoch. The same epoch gives the same batches.
class Source {
 public:
  virtual ~Source() = default;
  /// The class of each example; as many as there are examples.
  virtual const std::vector<Index>& labels() const = 0;
  /// Batches in an epoch.
  virtual Index batches() const = 0;
  /// Begins an epoch anew: what is random is that of its number.
  virtual void start_epoch(std::uint64_t epoch) = 0;
  /// The next batch, or nothing when the epoch is over.
  virtual std::optional<Examples> next() = 0;

  Index size() const { return static_cast<Index>(labels().size()); }
};

struct BatchOptions {
  Index batch = 32;  ///< examples a batch; the last one of an epoch may be shorter
  bool shuffle = false;
  std::uint64_t seed = 0;  ///< of the order
};

/// Photos as values of the node `input`, read by a data::Loader.
std::unique_ptr<Source> photo_source(data::ImageFolder photos, const data::LoaderOptions& options, std::string input);
std::unique_ptr<Source> photo_source(std::shared_ptr<const data::ImageFolder> photos,
                                     const data::LoaderOptions& options, std::string input);
/// Examples in memory: all of them, or those at `rows`. The order of an epoch is the one in which a data::Loader would
/// go through as many photos with the same seed.
std::unique_ptr<Source> memory_source(std::shared_ptr<const Features> features, const BatchOptions& options);
std::unique_ptr<Source> memory_source(std::shared_ptr<const Features> features, std::vector<Index> rows,
                                      const BatchOptions& options);

/// What a network computes from: floating values of the examples in `dtype`, photos left as bytes preprocessed as the
/// network asks, where it is.
std::map<std::string, Tensor> values_of(const Examples& examples, const nn::Network& network, DType dtype);

/// Runs a network on examples: values of its input node are its input, others are given.
nn::RunResult run(nn::Network& network, const Examples& examples, DType dtype, nn::RunOptions options = {});

}  // namespace graft::train
