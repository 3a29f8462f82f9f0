#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/tensor.h"

// The messages of HDF5's file format that weight files use, decoded from bytes. Section numbers below are those of the
// HDF5 File Format Specification, version 3. All numbers are little-endian.
namespace graft::io::hdf5 {

/// The address that stands for "not there".
inline constexpr std::uint64_t kUndefined = ~std::uint64_t{0};

/// Reads numbers from a block of bytes; every step beyond the block's end is an Error.
class Cursor {
 public:
  /// `where` stands in errors: file, structure and offset.
  Cursor(std::string where, std::span<const std::byte> bytes) : where_(std::move(where)), bytes_(bytes) {}

  const std::string& where() const { return where_; }
  std::size_t left() const { return bytes_.size() - position_; }
  std::span<const std::byte> take(std::uint64_t count);
  std::uint64_t number(int bytes);
  std::string text(std::uint64_t count);
  void skip(std::uint64_t count) { take(count); }
  /// Throws Error unless the next bytes are these.
  void expect(std::string_view signature);

 private:
  std::string where_;
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
};

enum class MessageType : std::uint16_t {
  dataspace = 0x01,
  link_info = 0x02,
  datatype = 0x03,
  link = 0x06,
  external_files = 0x07,
  layout = 0x08,
  group_info = 0x0a,
  filters = 0x0b,
  attribute = 0x0c,
  continuation = 0x10,
  symbol_table = 0x11,
  attribute_info = 0x15,
};

/// One message of an object header (IV.A.1).
struct Message {
  MessageType type;
  bool shared = false;  ///< the body is a reference to a message elsewhere
  std::vector<std::byte> body;
};

/// A datatype (IV.A.2.d), as far as attributes and datasets of weight files need it.
struct Datatype {
  enum class Class : std::uint8_t { integer = 0, real = 1, text = 3, opaque = 5, varying = 9 };
  Class type = Class::opaque;
  std::uint32_t size = 0;  ///< of an element, in bytes
  bool big_endian = false;
  bool is_signed = false;
  bool space_padded = false;  ///< of a text: filled with spaces, not with zeros
  bool varying_text = false;
  /// Of a real: exponent and mantissa as bit position and width, and the exponent's bias.
  struct Real {
    std::uint64_t exponent_at = 0, exponent_bits = 0, mantissa_at = 0, mantissa_bits = 0, bias = 0;
    friend bool operator==(const Real&, const Real&) = default;
  } real;

  /// For errors: `signed 8-bit integers`.
  std::string describe() const;
};

/// The extents of a dataspace (IV.A.2.b). A null dataspace has no shape.
struct Dataspace {
  bool null = false;
  std::vector<Index> extents;
};

/// Where the elements of a dataset lie (IV.A.2.i).
struct Layout {
  enum class Class : std::uint8_t { compact = 0, contiguous = 1, chunked = 2 };
  Class type = Class::contiguous;
  std::vector<std::byte> compact;
  std::uint64_t address = kUndefined;  ///< of the elements, or of the tree of chunks
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> chunk;  ///< extents of a chunk, the element's size last
};

enum class Filter : std::uint16_t { deflate = 1, shuffle = 2, fletcher32 = 3 };

Datatype parse_datatype(Cursor& cursor);
Dataspace parse_dataspace(Cursor& cursor);
Layout parse_layout(Cursor& cursor);
/// The filters in the order in which they were applied. Throws Error naming any other.
std::vector<Filter> parse_filters(Cursor& cursor);

/// A link to an object (IV.A.2.g, III.C).
struct Link {
  enum class Class : std::uint8_t { hard = 0, soft = 1, external = 64, other = 255 };
  std::string name;
  Class type = Class::hard;
  std::uint64_t address = kUndefined;  ///< of the object, for hard links
};

Link parse_link(Cursor& cursor);

/// An attribute (IV.A.2.m), its data not yet decoded.
struct Attribute {
  std::string name;
  Datatype type;
  Dataspace space;
  std::vector<std::byte> data;
};

/// Decodes the name alone, then all.
std::string parse_attribute_name(Cursor cursor);
Attribute parse_attribute(Cursor& cursor);

/// The element type of graft for a datatype, and an Error that names the datatype if there is none. `bfloat16`: an
/// attribute says that opaque elements are.
DType element_type(const std::string& where, const Datatype& type, bool bfloat16);

/// Undoes deflate, shuffle or fletcher32. `bytes` is the expected size of the whole chunk, beyond which deflate does
/// not expand.
std::vector<std::byte> undo_filter(const std::string& where, Filter filter, std::vector<std::byte> stored,
                                   std::size_t bytes, std::size_t element_bytes);

}  // namespace graft::io::hdf5
