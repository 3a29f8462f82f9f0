#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "graft/core/tensor.h"

#include "io/hdf5_format.h"

namespace graft::io {

/// An HDF5 file opened for reading: the part of the format that weight files use, which is all that h5py writes unless
/// asked for more. Every address, size and count in the file is checked before it is used.
///
/// Not supported, and refused by name: soft, external and user-defined links, external and virtual datasets, filters
/// other than deflate, shuffle and fletcher32, the indexes of libver='latest' for many links, many attributes and
/// chunks, types shared between objects, and datasets that were not written in full. The C library is not used because
/// damaged files make it crash, hang or read beyond its buffers.
class Hdf5File {
 public:
  enum class Kind : std::uint8_t { none, group, dataset };
  struct Object {
    std::string path;  ///< from the root, without a leading slash
    Kind kind;
  };

  /// Throws Error if the file is not HDF5, is truncated or damaged.
  explicit Hdf5File(const std::filesystem::path& path);
  /// The same for a file that lies in memory. `name` stands in errors.
  Hdf5File(std::string name, std::vector<std::byte> image);

  const std::string& name() const { return name_; }
  /// What is at a path; `none` if there is nothing. The empty path is the root.
  Kind kind(const std::string& path) const;
  /// Everything below the root, parents before children, siblings by name with runs of digits compared as numbers
  /// (conv2d, conv2d_2, conv2d_10). Throws Error if a group can be reached in two ways or lies deeper than 64.
  std::vector<Object> objects() const;
  bool has_attribute(const std::string& object, const char* attribute) const;
  /// An attribute that is a text or a list of texts, whatever its encoding; any attribute without elements is the empty
  /// list. Nothing if it does not exist.
  std::optional<std::vector<std::string>> strings(const std::string& object, const char* attribute) const;
  /// The first of `strings`, or the empty text.
  std::string text(const std::string& object, const char* attribute) const;
  /// A dataset as f32, f64, f16, bf16 (Keras's opaque form), i32, i64 or u8. Throws Error for other types, for one
  /// whose shape and stored bytes disagree, and if its bytes are damaged.
  Tensor dataset(const std::string& path) const;

 private:
  using Address = std::uint64_t;
  using Header = std::vector<hdf5::Message>;
  struct Chunk {
    std::uint64_t bytes = 0;
    std::uint64_t skipped_filters = 0;  ///< a bit for each filter that was not applied
    std::vector<std::uint64_t> offset;  ///< of its first element
    Address address = 0;
  };

  // hdf5.cpp: from the superblock to objects
  void open();
  std::vector<std::byte> bytes(const std::string& what, Address address, std::uint64_t count) const;
  std::string at(const std::string& what, Address address) const;
  const Header& header(Address address) const;
  void read_header_1(Address address, Header& messages) const;
  void read_header_2(Address address, Header& messages) const;
  const std::vector<hdf5::Link>& links(Address group) const;
  void read_symbols(Address tree, Address heap, std::vector<hdf5::Link>& links) const;
  std::optional<Address> find(const std::string& path) const;
  Kind kind(Address address) const;
  void list(const std::string& group, Address address, int depth, std::set<Address>& seen,
            std::vector<Object>& objects) const;

  // hdf5_values.cpp: attributes and datasets
  std::optional<hdf5::Attribute> attribute(const std::string& object, const char* name) const;
  std::vector<std::string> varying_texts(const std::string& where, const hdf5::Attribute& attribute,
                                         std::size_t count) const;
  std::string global_heap_object(Address collection, std::uint64_t index, std::uint64_t length) const;
  Tensor read_whole(const std::string& where, const hdf5::Layout& layout, const std::vector<hdf5::Filter>& filters,
                    const Shape& shape, DType dtype) const;
  Tensor read_chunks(const std::string& where, const hdf5::Layout& layout, const std::vector<hdf5::Filter>& filters,
                     const Shape& shape, DType dtype) const;
  std::vector<Chunk> list_chunks(const std::string& where, Address tree, std::size_t axes) const;

  std::string name_;
  std::uint64_t size_ = 0;
  std::function<void(std::uint64_t offset, std::span<std::byte> into)> read_;
  std::uint64_t base_ = 0;  ///< what addresses count from: a block of the user's own may stand before
  Address root_ = 0;
  mutable std::map<Address, Header> headers_;
  mutable std::map<Address, std::vector<hdf5::Link>> links_;
};

}  // namespace graft::io
