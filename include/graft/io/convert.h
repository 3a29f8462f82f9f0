#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "graft/io/weight_file.h"
#include "graft/models/models.h"

namespace graft::io {

/// What became of every tensor of a foreign file and of every parameter of the network it was put into.
struct ConversionReport {
  struct Match {
    std::string parameter;  ///< of the network: `conv1/weight`
    std::string source;     ///< in the file
  };
  std::vector<Match> matched;
  std::vector<std::string> missing;     ///< parameters that the file has no tensor for
  std::vector<std::string> unexpected;  ///< tensors of the file that the network has no place for
  std::vector<std::string> mismatched;  ///< sentences: parameter, expected shape, got shape, source
  std::vector<std::string> notes;       ///< how layers were found, what was assumed

  bool complete() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// The report for people: counts, then each gap on a line.
  std::string to_string() const;
};

struct ConvertOptions {
  /// A name of `models::make`; empty to read the model from the file: its architecture, or the names of its layers.
  std::string model = {};
  Index input_size = 0;                   ///< 0 for what the file says, or the model's usual size
  std::optional<double> alpha = {};       ///< MobileNet's width; empty to tell it from the weights
  std::filesystem::path map = {};         ///< a map file for layouts made by hand, see docs/importing.md
  std::string preprocessing = {};         ///< caffe, tf, torch or none; empty for the model's own
  std::vector<std::string> classes = {};  ///< names of the outputs
  /// Globs over parameters and tensors that may stay without a partner; a gap that none matches is an error.
  std::vector<std::string> allow_partial = {};
};

struct Conversion {
  nn::Network network;
  ConversionReport report;
};

/// Puts the weights of a Keras, PyTorch or safetensors file into one of graft's networks.
///
/// Layers are matched by name, by the names that older files use for them (ResNet's `res2a_branch2a`), by number in a
/// numbered family (InceptionV3's `conv2d_17`), or by order where a file has no names of its own; every shape must
/// agree. Layouts are turned into graft's. Throws Error, with the report in its message, if anything is left over on
/// either side that `allow_partial` does not name; or if a value is not finite.
Conversion convert(const std::filesystem::path& path, const ConvertOptions& options = {});

}  // namespace graft::io
