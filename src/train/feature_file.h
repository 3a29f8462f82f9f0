#pragma once

#include <filesystem>

#include "train/feature_store.h"

namespace graft::train {

/// What a file of features holds. Whoever opens one knows all of it beforehand, so nothing is taken from the file:
/// it is the file that was expected, byte for byte up to the rows, or it is not used.
struct FeatureLayout {
  std::string facts;                                 ///< what the values were computed from, and how
  std::vector<std::pair<std::string, Spec>> values;  ///< of one row, `[1, ...]`, in their order in it
  Index rows = 0;

  std::size_t row_bytes() const;
  std::uint64_t file_bytes() const;
};

/// The folder of such files: each is named by a hash of its facts.
///
///     16 bytes "graft features 1" | bytes of the header, u64 | the header, JSON | a digest of each row, u64 | rows
///
/// Numbers are little-endian; digests begin at a multiple of 64 bytes, rows at one of 4096. A file is reserved whole,
/// written beside its name, synced and renamed. Whoever uses one holds a lock on it, so that it is told from those
/// that may be removed, and a file whose writer was killed from one that is being written.
class FeatureFolder {
 public:
  explicit FeatureFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::filesystem::path path_of(const FeatureLayout& layout) const;
  /// Whether there is a file for it; nothing is said about its content.
  bool holds(const FeatureLayout& layout) const;
  /// The rows of a file, each checked against its digest when it is read; from then on one that changed throws Error.
  /// Counts as a use. Throws Error, saying what is wrong, if the file is not that of the layout from end to end.
  std::shared_ptr<const FeatureStore> open(const FeatureLayout& layout) const;
  /// Makes room: removes files whose writer was killed, and of those nobody uses the ones longest unused, until
  /// `bytes` more make no more than `limit`.
  void make_room(std::uint64_t bytes, std::uint64_t limit) const;
  /// Bytes that a file may take: `limit`, but no more than half of what is free on the disk.
  std::uint64_t allowance(std::uint64_t limit) const;

 private:
  std::filesystem::path folder_;
};

/// A file in the making. Unless `finish` is reached, nothing stays.
class FeatureWriter {
 public:
  /// Makes the folder and reserves the bytes. Throws Error if the disk has too few.
  FeatureWriter(const FeatureFolder& folder, FeatureLayout layout);
  ~FeatureWriter();
  FeatureWriter(const FeatureWriter&) = delete;
  FeatureWriter& operator=(const FeatureWriter&) = delete;

  /// Values of the layout in their order, one row of each for each of `rows`.
  void put(std::span<const Index> rows, std::span<const Tensor> values);
  /// Throws Error unless every row was put.
  void finish();

 private:
  FeatureLayout layout_;
  std::filesystem::path target_, path_;
  std::uint64_t rows_at_;
  int descriptor_ = -1;
  std::vector<std::uint64_t> digests_;
  std::vector<char> is_there_;
};

}  // namespace graft::train
