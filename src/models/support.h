#pragma once

#include "graft/models/models.h"
#include "graft/nn/layers.h"

#include "core/format.h"

namespace graft::models {

using Node = nn::Builder::Node;

/// A builder for a network's usual size, or the one that the options ask for. Throws Error below `smallest` pixels.
inline nn::Builder start(std::string_view name, const Options& o, Index usual, Index smallest) {
  const Index height = o.height > 0 ? o.height : usual;
  const Index width = o.width > 0 ? o.width : usual;
  check(height >= smallest && width >= smallest, "[{}] images must be at least {}x{}, got {}x{}", name, smallest,
        smallest, height, width);
  check(!o.include_top || o.classes > 0, "[{}] the top needs at least one class, got {}", name, o.classes);
  return nn::Builder({.height = height, .width = width, .name = std::string(name)});
}

/// What a network without its top ends in.
inline Node finish_without_top(nn::Builder& b, const Options& o, Node x, std::string_view average_name,
                               std::string_view max_name) {
  if (o.pooling == Pooling::average) x = b.add(average_name, nn::GlobalAveragePool(), x);
  if (o.pooling == Pooling::max) x = b.add(max_name, nn::GlobalMaxPool(), x);
  b.features(x);
  return x;
}

/// Gives a finished network its preprocessing at the size that it was built for.
inline nn::Network with_preprocessing(nn::Network network, Preprocessing preprocessing) {
  preprocessing.height = network.preprocessing.height;
  preprocessing.width = network.preprocessing.width;
  network.preprocessing = preprocessing;
  return network;
}

}  // namespace graft::models
