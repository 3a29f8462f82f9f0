#include <algorithm>
#include <cstring>

#include "core/format.h"
#include "io/checked_shape.h"
#include "io/hdf5.h"
#include "io/zip.h"

namespace graft::io {

using hdf5::Attribute;
using hdf5::Cursor;
using hdf5::Datatype;
using hdf5::Filter;
using hdf5::kUndefined;
using hdf5::Layout;
using hdf5::Message;
using hdf5::MessageType;

namespace {

constexpr std::size_t kSmall = 1 << 16;  // a chunk below this harms nobody, whatever it expands to
constexpr std::size_t kReferenceBytes = 16;
constexpr int kDeepestTree = 32;

// Texts of a fixed width: one that fills it has no terminator.
std::vector<std::string> fixed_texts(const Attribute& attribute, std::size_t count, const std::string& where) {
  const std::size_t width = attribute.type.size;
  check(count <= attribute.data.size() / width, "{}: {} texts of {} bytes do not lie in its {} bytes", where, count,
        width, attribute.data.size());
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view text(reinterpret_cast<const char*>(attribute.data.data()) + i * width, width);
    const std::size_t end =
        attribute.type.space_padded ? text.find_last_not_of(' ') + 1 : std::min(text.find('\0'), width);
    texts.emplace_back(text.substr(0, end));
  }
  return texts;
}

void swap_bytes(std::span<std::byte> bytes, std::size_t element_bytes) {
  for (; !bytes.empty(); bytes = bytes.subspan(element_bytes))
    std::reverse(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(element_bytes));
}

// Copies the part of a chunk that lies in the dataset, row by row along the last axis. All extents are in elements.
void place_chunk(const std::vector<std::byte>& elements, std::span<const std::uint64_t> chunk,
                 std::span<const std::uint64_t> offset, const Shape& shape, std::size_t element_bytes,
                 std::byte* target) {
  const auto axes = static_cast<std::size_t>(shape.rank());
  const auto extent = [&](std::size_t axis) { return static_cast<std::uint64_t>(shape[static_cast<int>(axis)]); };
  const std::uint64_t row = std::min(chunk[axes - 1], extent(axes - 1) - offset[axes - 1]);
  std::vector<std::uint64_t> at(axes, 0);
  for (;;) {
    std::uint64_t from = 0, to = 0;
    for (std::size_t axis = 0; axis < axes; ++axis) {
      from = from * chunk[axis] + at[axis];
      to = to * extent(axis) + offset[axis] + at[axis];
    }
    std::memcpy(target + to * element_bytes, elements.data() + from * element_bytes, row * element_bytes);
    std::size_t axis = axes - 1;
    while (axis > 0) {
      --axis;
      if (++at[axis] < chunk[axis] && offset[axis] + at[axis] < extent(axis)) break;
      at[axis] = 0;
      if (axis == 0) return;
    }
    if (axes == 1) return;
  }
}

}  // namespace

std::optional<Attribute> Hdf5File::attribute(const std::string& path, const char* name) const {
  const std::optional<Address> address = find(path);
  check(address.has_value(), "[hdf5] {}: there is no '/{}'", name_, path);
  const std::string where = fmt::format("[hdf5] {}: /{}: attribute '{}'", name_, path, name);
  bool many = false;
  for (const Message& message : header(*address)) {
    Cursor cursor(where, message.body);
    if (message.type == MessageType::attribute && hdf5::parse_attribute_name(cursor) == name)
      return hdf5::parse_attribute(cursor);
    if (message.type != MessageType::attribute_info) continue;
    cursor.skip(1);
    cursor.skip((cursor.number(1) & 1) != 0 ? 2 : 0);
    many = cursor.number(8) != kUndefined;
  }
  check(!many,
        "{}: the object's many attributes are indexed as only libver='latest' writes: save the file again without it",
        where);
  return std::nullopt;
}

bool Hdf5File::has_attribute(const std::string& object, const char* name) const {
  return attribute(object, name).has_value();
}

std::optional<std::vector<std::string>> Hdf5File::strings(const std::string& object, const char* name) const {
  const std::optional<Attribute> found = attribute(object, name);
  if (!found) return std::nullopt;
  const std::string where = fmt::format("[hdf5] {}: /{}: attribute '{}'", name_, object, name);
  if (found->space.null) return std::vector<std::string>{};
  const auto count = static_cast<std::uint64_t>(checked_shape(where, found->space.extents).elements());
  if (count == 0) return std::vector<std::string>{};
  if (found->type.type == Datatype::Class::varying && found->type.varying_text)
    return varying_texts(where, *found, count);
  check(found->type.type == Datatype::Class::text, "{}: expected text, got {}", where, found->type.describe());
  return fixed_texts(*found, count, where);
}

std::string Hdf5File::text(const std::string& object, const char* name) const {
  const auto texts = strings(object, name);
  return texts && !texts->empty() ? texts->front() : std::string();
}

// Each text is a reference into a global heap: length, collection, index.
std::vector<std::string> Hdf5File::varying_texts(const std::string& where, const Attribute& attribute,
                                                 std::size_t count) const {
  check(count <= attribute.data.size() / kReferenceBytes, "{}: {} references do not lie in its {} bytes", where, count,
        attribute.data.size());
  Cursor cursor(where, attribute.data);
  std::vector<std::string> texts;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t length = cursor.number(4);
    const Address collection = cursor.number(8);
    const std::uint64_t index = cursor.number(4);
    total += length;
    check(total <= size_, "{}: its texts have more bytes than the file", where);  // many references to one text
    texts.push_back(length == 0 ? "" : global_heap_object(collection, index, length));
  }
  return texts;
}

// An object of a global heap (III.E): the collection is gone through from its start.
std::string Hdf5File::global_heap_object(Address collection, std::uint64_t index, std::uint64_t length) const {
  const auto head = bytes("global heap", collection, 16);
  Cursor start(at("global heap", collection), head);
  start.expect("GCOL");
  start.skip(4);
  const std::uint64_t collection_bytes = start.number(8);
  for (std::uint64_t position = 16; position + 16 <= collection_bytes;) {
    const auto object = bytes("global heap", collection + position, 16);
    Cursor cursor(start.where(), object);
    const std::uint64_t object_index = cursor.number(2);
    cursor.skip(6);
    const std::uint64_t object_bytes = cursor.number(8);
    if (object_index == 0) break;  // free space, which is last
    if (object_index == index) {
      check(length <= object_bytes, "{}: object {} has {} bytes, {} are asked for", start.where(), index, object_bytes,
            length);
      const auto data = bytes("global heap", collection + position + 16, length);
      const std::string text(reinterpret_cast<const char*>(data.data()), data.size());
      return text.substr(0, text.find('\0'));
    }
    check(object_bytes <= collection_bytes, "{}: object {} is larger than the heap", start.where(), object_index);
    position += 16 + (object_bytes + 7) / 8 * 8;
  }
  fail("{}: there is no object {}", start.where(), index);
}

Tensor Hdf5File::dataset(const std::string& path) const {
  const std::string where = fmt::format("[hdf5] {}: /{}", name_, path);
  const std::optional<Address> address = find(path);
  const Kind found = address ? kind(*address) : Kind::none;
  check(found == Kind::dataset, "{}: expected a dataset, there is {}", where,
        found == Kind::none ? "nothing" : "a group");

  std::optional<Datatype> type;
  std::optional<hdf5::Dataspace> space;
  std::optional<Layout> layout;
  std::vector<Filter> filters;
  for (const Message& message : header(*address)) {
    Cursor cursor(where, message.body);
    const bool used = message.type == MessageType::datatype || message.type == MessageType::dataspace;
    check(!used || !message.shared, "{}: its type is shared with other objects, which is not supported", where);
    if (message.type == MessageType::datatype) type = hdf5::parse_datatype(cursor);
    if (message.type == MessageType::dataspace) space = hdf5::parse_dataspace(cursor);
    if (message.type == MessageType::layout) layout = hdf5::parse_layout(cursor);
    if (message.type == MessageType::filters) filters = hdf5::parse_filters(cursor);
    check(message.type != MessageType::external_files, "{}: the dataset is external, its values are in other files",
          where);
  }
  check(type && space && layout && !space->null, "{}: the dataset has no type or no extent", where);
  const DType dtype = hdf5::element_type(where, *type, strings(path, "dtype") == std::vector<std::string>{"bfloat16"});
  const Shape shape = checked_shape(where, space->extents);
  check(shape.elements() <= INT64_MAX / 8, "{}: {} {} has more bytes than can be counted", where, dtype, shape);
  if (shape.elements() == 0) return Tensor::empty(shape, dtype);

  if (layout->type == Layout::Class::chunked) {
    const bool fits = layout->chunk.size() == space->extents.size() + 1 && layout->chunk.back() == size_of(dtype);
    check(fits, "{}: the chunks do not fit {} {}", where, dtype, shape);
    layout->chunk.pop_back();
  }
  Tensor tensor = layout->type == Layout::Class::chunked ? read_chunks(where, *layout, filters, shape, dtype)
                                                         : read_whole(where, *layout, filters, shape, dtype);
  if (type->big_endian && size_of(dtype) > 1)
    swap_bytes({static_cast<std::byte*>(tensor.raw()), tensor.bytes()}, size_of(dtype));
  return tensor;
}

// A few bytes can declare any shape, so memory is taken only when the stored bytes are known to be there.
Tensor Hdf5File::read_whole(const std::string& where, const Layout& layout, const std::vector<Filter>& filters,
                            const Shape& shape, DType dtype) const {
  const std::uint64_t declared = static_cast<std::uint64_t>(shape.elements()) * size_of(dtype);
  check(layout.bytes == declared && filters.empty(), "{}: {} {} takes {} bytes, {} are stored", where, dtype, shape,
        declared, layout.bytes);
  if (layout.type == Layout::Class::compact) return Tensor::from_bytes(shape, dtype, layout.compact);
  const std::uint64_t available = size_ - base_;
  check(layout.address <= available && declared <= available - layout.address,
        "{}: its {} bytes at byte {} lie beyond the end, the file has {}", where, declared, layout.address, size_);
  Tensor tensor = Tensor::empty(shape, dtype);
  read_(base_ + layout.address, {static_cast<std::byte*>(tensor.raw()), tensor.bytes()});
  return tensor;
}

Tensor Hdf5File::read_chunks(const std::string& where, const Layout& layout, const std::vector<Filter>& filters,
                             const Shape& shape, DType dtype) const {
  std::uint64_t expected_chunks = 1, chunk_bytes = size_of(dtype);
  for (std::size_t axis = 0; axis < layout.chunk.size(); ++axis) {
    const std::uint64_t extent = layout.chunk[axis];
    check(extent > 0 && !__builtin_mul_overflow(chunk_bytes, extent, &chunk_bytes), "{}: an extent of the chunks is {}",
          where, extent);
    expected_chunks *= (static_cast<std::uint64_t>(shape[static_cast<int>(axis)]) + extent - 1) / extent;
  }
  const std::vector<Chunk> chunks = list_chunks(where, layout.address, layout.chunk.size());
  check(chunks.size() == expected_chunks, "{}: {} {} takes {} chunks, {} are stored", where, dtype, shape,
        expected_chunks, chunks.size());

  const bool deflated = std::find(filters.begin(), filters.end(), Filter::deflate) != filters.end();
  std::set<std::vector<std::uint64_t>> offsets;
  std::uint64_t stored = 0;
  for (const Chunk& chunk : chunks) {
    for (std::size_t axis = 0; axis < layout.chunk.size(); ++axis) {
      const bool inside = chunk.offset[axis] % layout.chunk[axis] == 0 &&
                          chunk.offset[axis] < static_cast<std::uint64_t>(shape[static_cast<int>(axis)]);
      check(inside, "{}: a chunk starts at element {} of axis {}", where, chunk.offset[axis], axis);
    }
    check(offsets.insert(chunk.offset).second, "{}: a chunk is stored twice", where);
    stored += chunk.bytes;
    check(stored <= size_, "{}: its chunks have more bytes than the file", where);
    const std::uint64_t most =
        deflated ? std::max<std::uint64_t>(kSmall, chunk.bytes * kLargestDeflateRatio) : chunk.bytes;
    check(chunk_bytes <= most, "{}: {} stored bytes cannot become a chunk of {}", where, chunk.bytes, chunk_bytes);
  }

  Tensor tensor = Tensor::empty(shape, dtype);
  for (const Chunk& chunk : chunks) {
    std::vector<std::byte> elements = bytes(where + ": a chunk", chunk.address, chunk.bytes);
    for (std::size_t i = filters.size(); i-- > 0;) {
      const bool skipped = i < 64 && (chunk.skipped_filters >> i & 1) != 0;
      if (!skipped) elements = hdf5::undo_filter(where, filters[i], std::move(elements), chunk_bytes, size_of(dtype));
    }
    check(elements.size() == chunk_bytes, "{}: a chunk of {} bytes expands to {}", where, chunk_bytes, elements.size());
    place_chunk(elements, layout.chunk, chunk.offset, shape, size_of(dtype), static_cast<std::byte*>(tensor.raw()));
  }
  return tensor;
}

// The tree of chunks (III.A.1, node type 1). Levels fall towards the leaves and no node is read twice, so it ends.
std::vector<Hdf5File::Chunk> Hdf5File::list_chunks(const std::string& where, Address tree, std::size_t axes) const {
  std::vector<Chunk> chunks;
  if (tree == kUndefined) return chunks;
  const std::uint64_t entry_bytes = 8 + 8 * (axes + 1) + 8;
  std::vector<std::pair<Address, std::optional<std::uint64_t>>> nodes = {{tree, std::nullopt}};
  std::set<Address> seen;
  while (!nodes.empty()) {
    const auto [address, expected_level] = nodes.back();
    nodes.pop_back();
    check(seen.insert(address).second, "{}: a node of its chunks is reached twice", where);
    const auto start = bytes("tree of chunks", address, 8);
    Cursor head(at("tree of chunks", address), start);
    head.expect("TREE");
    check(head.number(1) == 1, "{}: expected a tree of chunks", head.where());
    const std::uint64_t level = head.number(1);
    check(expected_level ? level == *expected_level : level <= kDeepestTree, "{}: a node has the level {}",
          head.where(), level);
    const std::uint64_t count = head.number(2);
    const auto body = bytes("tree of chunks", address + 24, entry_bytes * count);
    Cursor cursor(head.where(), body);
    for (std::uint64_t i = 0; i < count; ++i) {
      Chunk chunk;
      chunk.bytes = cursor.number(4);
      chunk.skipped_filters = cursor.number(4);
      for (std::size_t axis = 0; axis < axes; ++axis) chunk.offset.push_back(cursor.number(8));
      cursor.skip(8);
      chunk.address = cursor.number(8);
      if (level == 0)
        chunks.push_back(std::move(chunk));
      else
        nodes.emplace_back(chunk.address, level - 1);
    }
  }
  return chunks;
}

}  // namespace graft::io
