#pragma once

#include "graft/train/trainer.h"

namespace graft::train {

struct SweepOptions {
  std::vector<std::string> layers = {};  ///< where to cut or to freeze, in any order; empty for `block_ends`
  /// False: a probe at each layer, a linear classifier on its value, averaged over the pixels or tokens of an image.
  /// True: a linear classifier on the features of the backbone, and all layers behind each layer trained with it.
  bool fine_tune = false;
  TrainOptions train = {};  ///< of every run; without augmentation, and `out` stays empty
};

/// What came of one layer.
struct Depth {
  std::string layer;
  Index width = 0;        ///< channels of the layer's value
  double operations = 0;  ///< floating-point, of the backbone up to the layer, for one photo
  Index trained = 0;      ///< weights that were trained
  Report report = {};
};

struct Sweep {
  bool fine_tune = false;
  std::vector<Depth> depths = {};  ///< in order of computation
  double seconds = 0;
  double frozen_seconds = 0;  ///< the part of them that computing what is frozen took
};

/// The ends of a backbone's blocks: of the nodes through which everything passes, the last one at each size of the
/// image, of tokens the last sum before each further attention and before the end, and the backbone's output if that is
/// a layer of units. Throws Error if the backbone has no such node.
std::vector<std::string> block_ends(const nn::Network& backbone);

/// How good a backbone's layers are for other classes, by depth: runs a Trainer for each layer, always from the same
/// weights. Each gives what `graft finetune --cut LAYER` gives (which takes no tokens), or with `fine_tune` what it
/// gives when all layers up to LAYER are frozen.
///
/// For probes the backbone runs once over the photos, whatever the number of layers, and the averaged values of all of
/// them are kept where those of any run are. For fine-tuning what is frozen is computed as in any run, from the values
/// of the layer before where that is quicker.
///
/// backbone  without a head; left as it was
/// throws    Error as Trainer does, and for a layer that is not in the backbone, or that is probed and gives neither
///           [N, H, W, C] nor [N, L, C] nor [N, C]
Sweep sweep(nn::Network& backbone, const data::ImageFolder& train, const data::ImageFolder& validation,
            const SweepOptions& options);

}  // namespace graft::train
