#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "graft/core/generator.h"
#include "graft/core/tensor.h"

namespace graft::data {

/// Random changes that leave what a photo shows the same. Zero and false switch one off.
struct Augmentation {
  bool flip = false;      ///< left and right swapped, with probability 1/2
  double rotate = 0;      ///< by up to this many degrees either way, 0 to 180
  double zoom = 0;        ///< magnified by 1 - zoom to 1 + zoom, 0 to 0.95
  double brightness = 0;  ///< -255 * brightness to 255 * brightness is added, 0 to 1
  double contrast = 0;    ///< distances from the channel's mean are multiplied by 1 - contrast to 1 + contrast, 0 to 1

  /// Reads `flip,rotate=15,zoom=0.1,brightness=0.2,contrast=0.2`, any of them in any order; an empty text is none of
  /// them. Throws Error naming the word that is unknown, lacks its number, comes twice or is out of range.
  static Augmentation parse(std::string_view text);
  /// What `parse` reads.
  std::string to_string() const;
  /// False if nothing is ever changed.
  bool any() const { return *this != Augmentation{}; }
  friend bool operator==(const Augmentation&, const Augmentation&) = default;
};

/// The random numbers of one photo in one epoch: they depend on nothing else, so not on which thread asks.
Generator augmentation_generator(std::uint64_t seed, std::uint64_t epoch, Index photo);

/// A randomly changed copy: flip, rotation and zoom about the centre as one bilinear sampling whose border pixels reach
/// outwards for ever; then brightness, then contrast (Keras's RandomBrightness and RandomContrast), each clipped to
/// 0 .. 255.
///
/// image    [H, W, C], u8 or f32, from 0 to 255
/// returns  f32, same shape
Tensor augment(const Tensor& image, const Augmentation& augmentation, Generator generator);

}  // namespace graft::data
