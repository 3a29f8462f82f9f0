#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/tensor.h"

namespace graft::io {

/// One variable of a layer, in the layout and element type of its file: a Keras convolution kernel is [Kh, Kw, in,
/// out], a PyTorch one [out, in, Kh, Kw].
struct WeightTensor {
  /// What the variable is. Keras files: `kernel`, `bias`, `gamma`, `beta`, `moving_mean`, `moving_variance`, whatever
  /// the era called them (`conv1_W_1:0`, `depthwise_kernel:0`, `running_std` which holds the variance); a variable that
  /// none of these rules know keeps its own name, or its number. PyTorch and safetensors files: the part of the key
  /// after the last dot.
  std::string name;
  Tensor value;
  /// Where it stands in the file: an HDF5 path, or the whole key.
  std::string source;
};

/// The variables of one layer, in the file's order (Keras: trainable ones first, then statistics).
struct WeightLayer {
  /// The layer's own name, or its `path` where several layers of the file have that name or the file does not say it.
  std::string name;
  /// Keras's class in snake case (`conv2d`, `batch_normalization`), as the file's groups or its architecture have it.
  /// May be empty.
  std::string type;
  /// The group that holds it, without the root that all layers share: `conv1`, `base/conv1` (in a nested model),
  /// `functional/layers/conv2d_1`.
  std::string path;
  /// In Keras 3 files the number of layers of the same type that come before it in the same model, in Keras's own
  /// order: the way to know a layer of a file that has no names. Else -1.
  int rank = -1;
  std::vector<WeightTensor> tensors;

  /// The tensor of that name, or null.
  const Tensor* find(std::string_view tensor) const;
};

/// What a foreign weight file holds, before anything is mapped onto a network. Only layers with tensors are listed;
/// optimizer state is left out.
///
/// The tensors are only to be read: two may share memory, as tied weights of a PyTorch file do.
struct WeightFile {
  /// `keras-legacy-weights`, `keras-legacy-model` (HDF5 before Keras 3), `keras-v3-weights` (.weights.h5),
  /// `keras-archive` (.keras), `pytorch`, `safetensors`, `graft` (a network that save_network wrote).
  std::string format;
  std::string keras_version;  ///< as the file says it, empty where it does not: before Keras 2, and in `.weights.h5`
  std::string model_config;   ///< the architecture as Keras's JSON, empty where the file holds weights alone
  /// Legacy Keras: the order of `layer_names`, in a nested model that of `weight_names`. Keras 3: the order of the
  /// architecture where the file holds it, else by path, counters as numbers. PyTorch: the order of the dict.
  /// Safetensors: the order of the elements.
  std::vector<WeightLayer> layers;

  /// The layer of that name, or null.
  const WeightLayer* find(std::string_view layer) const;
};

/// Reads the weights from a Keras HDF5 file (any era), a `.keras` archive, a PyTorch state dict (zip or the older
/// stream) or a safetensors file. What it is is seen from the content, never from the name. Nothing in it is executed,
/// and nothing it says about its own size is believed.
///
/// Throws Error naming file and object if it is none of these, is truncated or damaged, holds links to other places,
/// quantised weights, unknown filters, opcodes or globals, or is a Git LFS pointer.
WeightFile read_weights(const std::filesystem::path& path);

}  // namespace graft::io
