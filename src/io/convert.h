#pragma once

#include "graft/io/convert.h"

namespace graft::io {

/// A layer of the file and the layer of the network that it belongs to.
struct LayerMatch {
  const WeightLayer* from;
  std::string to;
};

/// A map file: rules that turn the paths of a file's layers into names of a network's.
struct WeightMap {
  struct Rule {
    std::string from;  ///< a regular expression over the whole path of a layer
    std::string to;    ///< a layer of the network; $1 stands for the first group
  };
  std::string model;
  std::optional<bool> include_top;
  std::vector<Rule> layers;
  std::vector<std::string> ignore;  ///< regular expressions over paths that are left out
  std::optional<Preprocessing> preprocessing;
};
WeightMap read_weight_map(const std::filesystem::path& path);
/// caffe, tf, torch or none, at a size.
Preprocessing preprocessing_by_name(std::string_view name, int size);

/// Pairs the layers of a file with those of a network. Layers that find no partner are left out; notes say how partners
/// were found.
std::vector<LayerMatch> match_layers(const nn::Network& network, const WeightFile& file, const WeightMap* map,
                                     std::vector<std::string>& notes);

/// The name of the model whose layers a file without architecture holds, or empty.
std::string detect_model(const WeightFile& file);

/// The layers of a network in the order of Keras's `model.layers`: by depth, the longest way to the output, and by the
/// order of a walk from the output where depths are equal.
std::vector<std::string> keras_order(const nn::Network& network);

/// Turns a tensor of a file into graft's layout for a parameter of a layer. `height` and `width` are the image's before
/// a Flatten in front of a linear layer, whose PyTorch weights expect channels first.
struct Placement {
  std::string parameter;  ///< weight, bias, gamma, ...; empty if the tensor is no parameter of such a layer
  Tensor value;
};
Placement place(const nn::Network& network, const nn::LayerEntry& layer, const WeightTensor& tensor,
                bool channels_first);

}  // namespace graft::io
