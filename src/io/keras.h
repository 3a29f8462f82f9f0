#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graft/io/weight_file.h"

#include "io/hdf5.h"
#include "io/zip.h"

namespace graft::io {

/// The name of a variable of a legacy file, taken apart.
struct KerasVariable {
  std::string owner;  ///< the layer with its scopes, `seq/dense` of `seq/dense/kernel:0`; may be empty
  std::string
      variable;  ///< in today's words: `kernel` for `W` and `depthwise_kernel`, `moving_variance` for `running_std` ...
};

/// Takes apart the names of every Keras: `block1_conv1_W_1:0` (1), `conv1/kernel:0`, `bn/moving_mean_1:0` (2),
/// `seq/dense/kernel` (3).
KerasVariable parse_keras_variable(std::string_view weight_name);

/// Keras's own conversion of class names: `DepthwiseConv2D` becomes `depthwise_conv2d`.
std::string snake_case(std::string_view class_name);

/// What a model_config says of its layers, nested models included.
class KerasArchitecture {
 public:
  struct Layer {
    std::string name;
    std::string type;    ///< in snake case
    bool scale = true;   ///< of a batch_normalization: has gamma
    bool center = true;  ///< of a batch_normalization: has beta
    bool is_model = false;
    int position = 0;  ///< in the order of the architecture, counted through nested models
    std::vector<std::unique_ptr<Layer>> layers;

    /// The layer of that type with `rank` others of it before; null if there is none.
    const Layer* ranked(std::string_view layer_type, int rank) const;
  };

  /// An empty text is an architecture that says nothing. Throws Error if the text is not JSON or nests models deeper
  /// than 32; `where` stands in errors.
  KerasArchitecture(const std::string& where, const std::string& model_config);

  const Layer& root() const { return root_; }
  /// The layer of that name; null if there is none or there are several.
  const Layer* named(const std::string& name) const;

 private:
  Layer root_;
  std::map<std::string, const Layer*> by_name_;
};

/// Gives layers that share a name their path as name.
void make_names_unique(std::vector<WeightLayer>& layers);

/// Reads the legacy layout below `root` ("" or "model_weights").
std::vector<WeightLayer> read_keras_legacy(const Hdf5File& file, const std::string& root,
                                           const KerasArchitecture& architecture);
/// Reads Keras 3's layout: every group with `vars` below it is a layer.
std::vector<WeightLayer> read_keras_v3(const Hdf5File& file, const std::vector<Hdf5File::Object>& objects,
                                       const KerasArchitecture& architecture);
/// Reads an HDF5 file of either layout.
WeightFile read_keras_hdf5(const Hdf5File& file);
/// Reads a `.keras` archive.
WeightFile read_keras_archive(const ZipArchive& archive);

}  // namespace graft::io
