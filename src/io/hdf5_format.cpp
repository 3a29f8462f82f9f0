#include "io/hdf5_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <zlib.h>

#include "core/format.h"

namespace graft::io::hdf5 {
namespace {

std::uint64_t padded(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

std::string upto_zero(std::string text) {
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

struct AttributeHead {
  std::uint64_t version, name_bytes, type_bytes, space_bytes;
};

AttributeHead parse_attribute_head(Cursor& cursor) {
  AttributeHead head{};
  head.version = cursor.number(1);
  check(head.version >= 1 && head.version <= 3, "{}: expected an attribute of version 1 to 3, got {}", cursor.where(),
        head.version);
  const std::uint64_t flags = cursor.number(1);
  check(head.version == 1 || flags == 0,
        "{}: the attribute's type is shared with other objects, which is not supported", cursor.where());
  head.name_bytes = cursor.number(2);
  head.type_bytes = cursor.number(2);
  head.space_bytes = cursor.number(2);
  if (head.version == 3) cursor.skip(1);  // character set
  return head;
}

std::vector<std::byte> inflate_bytes(const std::string& where, const std::vector<std::byte>& stored,
                                     std::size_t bytes) {
  std::vector<std::byte> expanded(bytes);
  uLongf size = bytes;
  const int result = uncompress(reinterpret_cast<Bytef*>(expanded.data()), &size,
                                reinterpret_cast<const Bytef*>(stored.data()), stored.size());
  check(result == Z_OK, "{}: {} compressed bytes do not expand to {}: {}", where, stored.size(), bytes, zError(result));
  expanded.resize(size);
  return expanded;
}

// Shuffle stores the first byte of every element, then the second of every element, and so on. Bytes beyond the last
// whole element stay where they are.
std::vector<std::byte> unshuffle(const std::vector<std::byte>& stored, std::size_t element_bytes) {
  std::vector<std::byte> elements = stored;
  const std::size_t count = stored.size() / element_bytes;
  for (std::size_t b = 0; b < element_bytes; ++b) {
    for (std::size_t i = 0; i < count; ++i) elements[i * element_bytes + b] = stored[b * count + i];
  }
  return elements;
}

// The checksum of HDF5: Fletcher's over big-endian 16-bit words, the sums kept modulo 65535.
std::uint32_t fletcher32(std::span<const std::byte> bytes) {
  std::uint32_t a = 0, b = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const auto high = std::to_integer<std::uint32_t>(bytes[i]);
    const auto low = i + 1 < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i + 1]) : 0u;
    a = (a + (high << 8 | low)) % 65535;
    b = (b + a) % 65535;
  }
  return b << 16 | a;
}

// The library's way of reducing gives 65535 where the remainder is 0.
std::uint32_t reduced(std::uint32_t checksum) { return (checksum >> 16) % 65535 << 16 | (checksum & 65535) % 65535; }

}  // namespace

std::span<const std::byte> Cursor::take(std::uint64_t count) {
  check(count <= left(), "{}: {} more bytes expected, {} are left", where_, count, left());
  const auto taken = bytes_.subspan(position_, count);
  position_ += count;
  return taken;
}

std::uint64_t Cursor::number(int bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, take(static_cast<std::uint64_t>(bytes)).data(), static_cast<std::size_t>(bytes));
  return value;
}

std::string Cursor::text(std::uint64_t count) {
  const auto bytes = take(count);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void Cursor::expect(std::string_view signature) {
  check(text(signature.size()) == signature, "{}: expected the signature '{}'", where_, signature);
}

std::string Datatype::describe() const {
  switch (type) {
    case Class::integer:
      return fmt::format("{}signed {}-bit integers{}", is_signed ? "" : "un", 8 * size,
                         size == 1 ? " (quantised?)" : "");
    case Class::real:
      return fmt::format("{}-bit floats of an unknown form", 8 * size);
    case Class::text:
      return "text";
    case Class::opaque:
      return fmt::format("opaque elements of {} bits", 8 * size);
    case Class::varying:
      return "elements of varying length";
  }
  return fmt::format("elements of class {}", static_cast<int>(type));
}

Datatype parse_datatype(Cursor& cursor) {
  const std::uint64_t class_and_version = cursor.number(1);
  const std::uint64_t bits = cursor.number(3);
  Datatype type;
  type.type = static_cast<Datatype::Class>(class_and_version & 15);
  type.size = static_cast<std::uint32_t>(cursor.number(4));
  check(type.size > 0, "{}: a datatype has elements of no bytes", cursor.where());
  switch (type.type) {
    case Datatype::Class::integer:
      type.big_endian = (bits & 1) != 0;
      type.is_signed = (bits & 8) != 0;
      break;
    case Datatype::Class::real:
      type.big_endian = (bits & 1) != 0;
      cursor.skip(4);
      type.real = {cursor.number(1), cursor.number(1), cursor.number(1), cursor.number(1), cursor.number(4)};
      break;
    case Datatype::Class::text:
      type.space_padded = (bits & 15) == 2;
      break;
    case Datatype::Class::varying:
      type.varying_text = (bits & 15) == 1;
      break;
    case Datatype::Class::opaque:
      break;
  }
  return type;
}

Dataspace parse_dataspace(Cursor& cursor) {
  const std::uint64_t version = cursor.number(1);
  check(version == 1 || version == 2, "{}: expected a dataspace of version 1 or 2, got {}", cursor.where(), version);
  const std::uint64_t rank = cursor.number(1);
  cursor.skip(1);
  const std::uint64_t type = cursor.number(1);
  if (version == 1) cursor.skip(4);
  Dataspace space;
  space.null = version == 2 && type == 2;
  for (std::uint64_t axis = 0; axis < rank; ++axis) {
    const std::uint64_t extent = cursor.number(8);
    check(std::in_range<Index>(extent), "{}: an extent of {} is more than can be counted", cursor.where(), extent);
    space.extents.push_back(static_cast<Index>(extent));
  }
  return space;
}

Layout parse_layout(Cursor& cursor) {
  const std::uint64_t version = cursor.number(1);
  check(version == 3 || version == 4, "{}: expected a data layout of version 3 or 4, got {}", cursor.where(), version);
  const std::uint64_t type = cursor.number(1);
  check(type != 3, "{}: the dataset is virtual, its values are in other files", cursor.where());
  check(type <= 2, "{}: the data layout has an unknown class {}", cursor.where(), type);
  Layout layout;
  layout.type = static_cast<Layout::Class>(type);
  if (layout.type == Layout::Class::compact) {
    const auto data = cursor.take(cursor.number(2));
    layout.compact.assign(data.begin(), data.end());
    layout.bytes = data.size();
  } else if (layout.type == Layout::Class::contiguous) {
    layout.address = cursor.number(8);
    layout.bytes = layout.address == kUndefined ? (cursor.skip(8), 0) : cursor.number(8);
  } else {
    check(version == 3, "{}: the chunks are indexed as only libver='latest' writes: save the file again without it",
          cursor.where());
    const std::uint64_t axes = cursor.number(1);
    layout.address = cursor.number(8);
    for (std::uint64_t axis = 0; axis < axes; ++axis) layout.chunk.push_back(cursor.number(4));
  }
  return layout;
}

std::vector<Filter> parse_filters(Cursor& cursor) {
  const std::uint64_t version = cursor.number(1);
  check(version == 1 || version == 2, "{}: expected filters of version 1 or 2, got {}", cursor.where(), version);
  const std::uint64_t count = cursor.number(1);
  if (version == 1) cursor.skip(6);
  std::vector<Filter> filters;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t id = cursor.number(2);
    const std::uint64_t name_bytes = version == 1 || id >= 256 ? cursor.number(2) : 0;
    cursor.skip(2);
    const std::uint64_t values = cursor.number(2);
    const std::string name = upto_zero(cursor.text(version == 1 ? padded(name_bytes) : name_bytes));
    cursor.skip(4 * values + (version == 1 && values % 2 == 1 ? 4 : 0));
    check(id >= 1 && id <= 3, "{}: expected the filters deflate, shuffle or fletcher32, got filter {} '{}'",
          cursor.where(), id, name);
    filters.push_back(static_cast<Filter>(id));
  }
  return filters;
}

Link parse_link(Cursor& cursor) {
  cursor.skip(1);
  const std::uint64_t flags = cursor.number(1);
  Link link;
  if ((flags & 8) != 0) link.type = static_cast<Link::Class>(cursor.number(1));
  if ((flags & 4) != 0) cursor.skip(8);   // order of creation
  if ((flags & 16) != 0) cursor.skip(1);  // character set
  link.name = cursor.text(cursor.number(1 << (flags & 3)));
  if (link.type == Link::Class::hard) link.address = cursor.number(8);
  return link;
}

std::string parse_attribute_name(Cursor cursor) {
  const AttributeHead head = parse_attribute_head(cursor);
  return upto_zero(cursor.text(head.name_bytes));
}

Attribute parse_attribute(Cursor& cursor) {
  const AttributeHead head = parse_attribute_head(cursor);
  const auto part = [&](std::uint64_t bytes) {
    return Cursor(cursor.where(), cursor.take(head.version == 1 ? padded(bytes) : bytes));
  };
  Attribute attribute{upto_zero(part(head.name_bytes).text(head.name_bytes)), {}, {}, {}};
  Cursor type = part(head.type_bytes), space = part(head.space_bytes);
  attribute.type = parse_datatype(type);
  attribute.space = parse_dataspace(space);
  const auto data = cursor.take(cursor.left());
  attribute.data.assign(data.begin(), data.end());
  return attribute;
}

DType element_type(const std::string& where, const Datatype& type, bool bfloat16) {
  using Real = Datatype::Real;
  if (type.type == Datatype::Class::real) {
    if (type.size == 4 && type.real == Real{23, 8, 0, 23, 127}) return DType::f32;
    if (type.size == 8 && type.real == Real{52, 11, 0, 52, 1023}) return DType::f64;
    if (type.size == 2 && type.real == Real{10, 5, 0, 10, 15}) return DType::f16;
  }
  if (type.type == Datatype::Class::integer && type.is_signed && type.size == 4) return DType::i32;
  if (type.type == Datatype::Class::integer && type.is_signed && type.size == 8) return DType::i64;
  if (type.type == Datatype::Class::integer && !type.is_signed && type.size == 1) return DType::u8;
  // HDF5 has no bf16: Keras stores its two bytes as they are and says so in an attribute.
  if (type.type == Datatype::Class::opaque && type.size == 2 && bfloat16) return DType::bf16;
  fail("{}: expected f32, f64, f16, bf16, i32, i64 or u8, got {}", where, type.describe());
}

std::vector<std::byte> undo_filter(const std::string& where, Filter filter, std::vector<std::byte> stored,
                                   std::size_t bytes, std::size_t element_bytes) {
  switch (filter) {
    case Filter::deflate:
      return inflate_bytes(where, stored,
                           bytes + sizeof(std::uint32_t));  // a checksum may have been compressed with the elements
    case Filter::shuffle:
      return unshuffle(stored, element_bytes);
    case Filter::fletcher32: {
      check(stored.size() >= 4, "{}: a chunk has no room for its checksum", where);
      std::uint32_t expected = 0;
      std::memcpy(&expected, stored.data() + stored.size() - 4, 4);
      stored.resize(stored.size() - 4);
      check(fletcher32(stored) == reduced(expected), "{}: a chunk is damaged, its checksum is wrong", where);
      return stored;
    }
  }
  fail("{}: unknown filter", where);
}

}  // namespace graft::io::hdf5
