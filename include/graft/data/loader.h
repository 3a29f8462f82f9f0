#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "graft/core/preprocessing.h"
#include "graft/core/tensor.h"
#include "graft/data/augment.h"
#include "graft/data/folder.h"

namespace graft::data {

/// How photos become batches.
struct LoaderOptions {
  Preprocessing preprocessing;
  Index batch = 32;        ///< photos a batch; the last one of an epoch may be shorter
  bool shuffle = true;     ///< a new order each epoch, by seed
  std::uint64_t seed = 0;  ///< of the order and of the augmentation
  Augmentation augmentation;
  Index views = 0;     ///< versions of each photo: epoch e augments as epoch e mod views does; 0: anew in each epoch
  int workers = 0;     ///< threads that decode; 0: as many as kernels use (`set_threads`), but no more than 4
  Index prefetch = 4;  ///< how many batches may be ready or in work before they are asked for
  /// Leaves photos that are u8 once they are resized and augmented (no augmentation, nor Resampling::bilinear) as they
  /// are, for `ops::preprocess` on a device: a quarter of the bytes to prepare and to copy there.
  bool keep_bytes = false;
  std::size_t cache_bytes = std::size_t{1}
                            << 30;  ///< for photos decoded and resized; those that find no room are decoded each epoch
};

struct Batch {
  Tensor images;               ///< f32 [N, height, width, 3], preprocessed; or u8, see LoaderOptions::keep_bytes
  Tensor labels;               ///< i64 [N]
  std::vector<Index> indices;  ///< which photos of the data set these are
};

/// Decodes, resizes, augments and preprocesses photos in threads of its own, ahead of whoever asks for them. The same
/// seed gives the same batches, bit for bit, whatever the number of workers. It may be destroyed at any time; it waits
/// only for photos being decoded.
///
///     for (std::uint64_t epoch = 0; epoch < 10; ++epoch) {
///       loader.start_epoch(epoch);
///       while (auto batch = loader.next()) train_on(*batch);
///     }
///
/// One thread at a time may call it.
class Loader {
 public:
  /// Throws Error if there is no photo, or batch or prefetch is below 1 or workers below 0.
  Loader(ImageFolder photos, LoaderOptions options);
  /// The same for photos that others use too: the list of a large data set need not be there twice.
  Loader(std::shared_ptr<const ImageFolder> photos, LoaderOptions options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Begins an epoch, and drops what is left of the one before.
  void start_epoch(std::uint64_t epoch);
  /// The next batch, or nothing when the epoch is over (or none was started). Throws Error naming the file if a photo
  /// of the batch cannot be read; the epoch is then over.
  std::optional<Batch> next();

  const ImageFolder& photos() const;
  /// Batches in an epoch.
  Index batches() const;
  /// What the cache holds now.
  std::size_t cached_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace graft::data
