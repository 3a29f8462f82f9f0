#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "graft/core/tensor.h"

namespace graft::io {

/// An HDF5 file opened for reading through the C library, with what a weight file needs and no more. Soft, external and user-defined links, external and
/// virtual datasets, and filters other than deflate, shuffle and fletcher32 are refused; the library's own messages become graft::Error.
///
/// The C library is not thread-safe: as long as an Hdf5File lives, other threads that open one wait.
class Hdf5File {
 public:
  enum class Kind : std::uint8_t { none, group, dataset };
  struct Object {
    std::string path;  ///< from the root, without a leading slash
    Kind kind;
  };

  /// Throws Error if the file is not HDF5, is truncated or damaged, or if this build is without HDF5.
  explicit Hdf5File(const std::filesystem::path& path);
  /// The same for a file that lies in memory. `name` stands in errors.
  Hdf5File(std::string name, std::vector<std::byte> image);
  ~Hdf5File();
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;

  const std::string& name() const { return name_; }
  /// What is at a path; `none` if there is nothing. The empty path is the root.
  Kind kind(const std::string& path) const;
  /// Everything below the root, parents before children, siblings by name with trailing counters compared as numbers (conv2d, conv2d_2, conv2d_10).
  /// Throws Error if a group can be reached in two ways or lies deeper than 64.
  std::vector<Object> objects() const;
  bool has_attribute(const std::string& object, const char* attribute) const;
  /// An attribute that is a text or a list of texts, whatever its encoding; any attribute without elements is the empty list. Nothing if it does not exist.
  std::optional<std::vector<std::string>> strings(const std::string& object, const char* attribute) const;
  /// The first of `strings`, or the empty text.
  std::string text(const std::string& object, const char* attribute) const;
  /// A dataset as f32, f64, f16, bf16 (Keras's opaque form), i32, i64 or u8. Throws Error for other types, for one that declares more than it can hold
  /// given the bytes stored, and if its bytes are damaged.
  Tensor dataset(const std::string& path) const;

 private:
  bool exists(const std::string& path) const;
  void list(const std::string& group, int depth, std::set<std::uint64_t>& seen, std::vector<Object>& objects) const;

  std::unique_lock<std::recursive_mutex> lock_;
  std::string name_;
  std::uint64_t file_bytes_ = 0;
  std::int64_t file_ = -1;
};

}  // namespace graft::io
