#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "graft/train/source.h"

namespace graft::train {

/// The part of a network that gives the same value for the same input throughout a run. A node belongs to it if
/// upstream and in it there is no trainable parameter, no statistic that updates, and no live dropout.
struct FrozenPart {
  std::vector<std::string> nodes = {};   ///< in order of computation, without the input
  std::vector<std::string> border = {};  ///< nodes of it, or the input, that the rest of the network reads
  std::size_t bytes = 0;                 ///< of the border's values, for one example
  double operations = 0;                 ///< floating-point operations of these nodes, for one example
  double repeated = 0;                   ///< of frozen nodes that are left out, which every step computes anew
  bool averaged = false;                 ///< the values are averaged over pixels or tokens, [N, C]: what probes read
};

/// Finds it for training with activations of `dtype`. Throws Error if all of the network is frozen.
FrozenPart frozen_part(nn::Network& network, DType dtype = DType::f32);

/// Its beginnings, in order of computation, each with one node more: where the network may be cut so that what comes
/// before is computed once and what comes behind in every step. The last is `frozen_part`; empty if nothing is frozen.
std::vector<FrozenPart> frozen_cuts(nn::Network& network, DType dtype = DType::f32);

/// Runs the frozen part once over a data set, in inference, and keeps the border's values in memory. `after_batch` is
/// told how many examples each batch had.
Features frozen_features(nn::Network& network, const FrozenPart& part, Source& source, DType dtype = DType::f32,
                         const std::function<void(Index examples)>& after_batch = {});

/// A hash (XXH3, 128 bits, in hexadecimal: what `xxh128sum` prints) of the bytes of every parameter and statistic that
/// training must not change: weights of layers that are not trainable, and moving statistics that do not update.
std::map<std::string, std::string> frozen_hashes(nn::Network& network);

/// Throws Error, naming the first parameter, if one of the hashes is not what the network's parameter has now.
void check_unchanged(nn::Network& network, const std::map<std::string, std::string>& hashes);

}  // namespace graft::train
