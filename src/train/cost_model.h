#pragma once

#include "graft/train/frozen.h"

namespace graft::train {

/// What machines of a kind reach, as constants: the same run decides the same wherever and whenever it starts. The
/// decision compares figures that lie far apart, so a factor of two in one of them seldom matters.
struct Speed {
  double operations;              ///< a second, floating-point, in the forward of a convolutional network
  double memory_read = 5e9;       ///< bytes a second: gathering rows and bringing them to the network
  double file_read = 1e9;         ///< bytes a second, of a solid-state disk
  double file_write = 5e8;        ///< bytes a second, synced
  double photo_first = 2e-3;      ///< seconds to read, decode and resize a photo
  double photo_again = 1e-4;      ///< seconds to make the network's input of a photo that was read before
  double photo_augmented = 5e-4;  ///< the same, changed by augmentation
};

/// Whether to go on from values of `before` that are kept in a file, rather than from the photos.
bool pays_to_start_from(const FrozenPart& before, const Speed& speed);

Speed speed_of(Device device, DType dtype);

}  // namespace graft::train
