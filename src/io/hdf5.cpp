#include "io/hdf5.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "graft/io/file.h"

#include "core/format.h"

namespace graft::io {

using hdf5::Cursor;
using hdf5::kUndefined;
using hdf5::Link;
using hdf5::Message;
using hdf5::MessageType;

namespace {

constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
constexpr int kDeepestGroup = 64;
constexpr int kDeepestTree = 32;
constexpr std::size_t kLargestHeader = std::size_t{16} << 20;  // of one object: attributes are at most 64 KiB each
constexpr std::size_t kSymbolBytes = 40;                       // one entry of a symbol table node

// Natural order: runs of digits compare as numbers, so conv2d_2 comes before conv2d_10.
bool natural_less(const std::string& a, const std::string& b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      const auto run = [&](const std::string& text, std::size_t& at) {
        while (at < text.size() && text[at] == '0') ++at;
        const std::size_t begin = at;
        while (at < text.size() && digit(text[at])) ++at;
        return std::string_view(text).substr(begin, at - begin);
      };
      const std::string_view x = run(a, i), y = run(b, j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i, ++j;
    }
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;
}

const Message* find_message(const std::vector<Message>& header, MessageType type) {
  const auto found =
      std::find_if(header.begin(), header.end(), [&](const Message& message) { return message.type == type; });
  return found == header.end() ? nullptr : &*found;
}

}  // namespace

Hdf5File::Hdf5File(const std::filesystem::path& path) : name_(path.string()) {
  const auto file = std::make_shared<const InputFile>(path);
  size_ = file->size();
  read_ = [file](std::uint64_t offset, std::span<std::byte> into) { file->read(offset, into); };
  open();
}

Hdf5File::Hdf5File(std::string name, std::vector<std::byte> image) : name_(std::move(name)) {
  const auto memory = std::make_shared<const std::vector<std::byte>>(std::move(image));
  size_ = memory->size();
  read_ = [memory](std::uint64_t offset, std::span<std::byte> into) {
    std::memcpy(into.data(), memory->data() + offset, into.size());
  };
  open();
}

std::string Hdf5File::at(const std::string& what, Address address) const {
  return fmt::format("[hdf5] {}: {} at byte {}", name_, what, base_ + address);
}

std::vector<std::byte> Hdf5File::bytes(const std::string& what, Address address, std::uint64_t count) const {
  const std::uint64_t available = size_ - base_;
  check(address <= available && count <= available - address,
        "[hdf5] {}: {}: {} bytes at byte {} lie beyond the end, the file has {}", name_, what, count, address, size_);
  std::vector<std::byte> result(count);
  if (count > 0) read_(base_ + address, result);
  return result;
}

// The superblock (II.A): where the root is.
void Hdf5File::open() {
  std::array<std::byte, kSignature.size()> start{};
  for (base_ = 0;; base_ = base_ == 0 ? 512 : 2 * base_) {
    check(base_ + start.size() <= size_, "[hdf5] {}: there is no HDF5 signature", name_);
    read_(base_, start);
    if (std::memcmp(start.data(), kSignature.data(), start.size()) == 0) break;
  }
  const auto block = bytes("superblock", 0, std::min<std::uint64_t>(96, size_ - base_));
  Cursor cursor(at("superblock", 0), block);
  cursor.skip(kSignature.size());
  const std::uint64_t version = cursor.number(1);
  check(version <= 3, "{}: expected version 0 to 3, got {}", cursor.where(), version);
  if (version <= 1) cursor.skip(4);
  const std::uint64_t address_bytes = cursor.number(1), length_bytes = cursor.number(1);
  check(address_bytes == 8 && length_bytes == 8, "{}: expected addresses and lengths of 8 bytes, got {} and {}",
        cursor.where(), address_bytes, length_bytes);
  cursor.skip(version == 0 ? 9 : version == 1 ? 13 : 1);
  cursor.skip(16);  // base address and a reserved one
  const std::uint64_t end = cursor.number(8);
  check(end <= size_, "[hdf5] {}: truncated file: expected {} bytes, got {}", name_, end, size_);
  if (version <= 1) cursor.skip(16);  // driver information, and the name of the root
  root_ = cursor.number(8);
}

const Hdf5File::Header& Hdf5File::header(Address address) const {
  const auto [found, added] = headers_.try_emplace(address);
  if (added) {
    const auto start = bytes("object header", address, 4);
    if (std::memcmp(start.data(), "OHDR", 4) == 0)
      read_header_2(address, found->second);
    else
      read_header_1(address, found->second);
  }
  return found->second;
}

// Version 1 (IV.A.1.a). Continuations are more runs of messages; `blocks` grows while it is gone through.
void Hdf5File::read_header_1(Address address, Header& messages) const {
  const auto prefix = bytes("object header", address, 16);
  Cursor start(at("object header", address), prefix);
  const std::uint64_t version = start.number(1);
  check(version == 1, "{}: expected an object header of version 1 or 2, got {}", start.where(), version);
  start.skip(7);
  std::vector<std::pair<Address, std::uint64_t>> blocks = {{address + 16, start.number(4)}};
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    total += blocks[i].second;
    check(total <= kLargestHeader && i < kLargestHeader / 16, "{}: the object header continues without end",
          start.where());
    const auto block = bytes("object header", blocks[i].first, blocks[i].second);
    Cursor cursor(at("object header", blocks[i].first), block);
    while (cursor.left() >= 8) {
      const auto type = static_cast<MessageType>(cursor.number(2));
      const std::uint64_t size = cursor.number(2);
      const bool shared = (cursor.number(1) & 2) != 0;
      cursor.skip(3);
      const auto body = cursor.take(size);
      messages.push_back({type, shared, {body.begin(), body.end()}});
      if (type == MessageType::continuation) {
        Cursor next(cursor.where(), body);
        const Address where = next.number(8);
        blocks.emplace_back(where, next.number(8));
      }
    }
  }
}

// Version 2 (IV.A.1.b). Every block ends in a checksum.
void Hdf5File::read_header_2(Address address, Header& messages) const {
  const auto prefix = bytes("object header", address, std::min<std::uint64_t>(64, size_ - base_ - address));
  Cursor start(at("object header", address), prefix);
  start.skip(4);
  const std::uint64_t version = start.number(1);
  check(version == 2, "{}: expected an object header of version 1 or 2, got {}", start.where(), version);
  const std::uint64_t flags = start.number(1);
  start.skip(((flags & 0x20) != 0 ? 16 : 0) + ((flags & 0x10) != 0 ? 4 : 0));
  const std::uint64_t first = start.number(1 << (flags & 3));
  std::vector<std::pair<Address, std::uint64_t>> blocks = {{address + prefix.size() - start.left(), first}};
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    check(blocks[i].second <= kLargestHeader && i < kLargestHeader / 16, "{}: the object header continues without end",
          start.where());
    total += blocks[i].second;
    check(total <= kLargestHeader, "{}: the object header continues without end", start.where());
    const auto block = bytes("object header", blocks[i].first, blocks[i].second);
    Cursor cursor(at("object header", blocks[i].first), block);
    if (i > 0) cursor.expect("OCHK");
    const std::size_t tail = i > 0 ? 4 : 0;  // the first block's checksum is not counted in its size
    const std::size_t message_head = (flags & 4) != 0 ? 6 : 4;
    while (cursor.left() >= tail + message_head) {
      const auto type = static_cast<MessageType>(cursor.number(1));
      const std::uint64_t size = cursor.number(2);
      const bool shared = (cursor.number(1) & 2) != 0;
      cursor.skip(message_head - 4);
      const auto body = cursor.take(size);
      messages.push_back({type, shared, {body.begin(), body.end()}});
      if (type == MessageType::continuation) {
        Cursor next(cursor.where(), body);
        const Address where = next.number(8);
        blocks.emplace_back(where, next.number(8));
      }
    }
  }
}

// Groups keep their links in a tree of symbol tables (III.A to III.D), or since HDF5 1.8, if asked, as messages of
// their own.
const std::vector<Link>& Hdf5File::links(Address group) const {
  const auto [found, added] = links_.try_emplace(group);
  if (!added) return found->second;
  std::vector<Link>& links = found->second;
  for (const Message& message : header(group)) {
    Cursor cursor(at("group", group), message.body);
    if (message.type == MessageType::symbol_table) {
      const Address tree = cursor.number(8);
      read_symbols(tree, cursor.number(8), links);
    } else if (message.type == MessageType::link) {
      links.push_back(hdf5::parse_link(cursor));
    } else if (message.type == MessageType::link_info) {
      cursor.skip(1);
      cursor.skip((cursor.number(1) & 1) != 0 ? 8 : 0);
      check(cursor.number(8) == kUndefined,
            "{}: its many links are indexed as only libver='latest' writes: save the file again without it",
            cursor.where());
    }
  }
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return natural_less(a.name, b.name); });
  return links;
}

void Hdf5File::read_symbols(Address tree, Address heap, std::vector<Link>& links) const {
  const auto heap_head = bytes("heap of names", heap, 32);
  Cursor heap_cursor(at("heap of names", heap), heap_head);
  heap_cursor.expect("HEAP");
  heap_cursor.skip(4);
  const std::uint64_t name_bytes = heap_cursor.number(8);
  heap_cursor.skip(8);
  const auto names = bytes("heap of names", heap_cursor.number(8), name_bytes);
  const std::string_view text(reinterpret_cast<const char*>(names.data()), names.size());

  // Nodes still to be read and the level each must have: levels fall towards the leaves and no node is read twice, so
  // it ends.
  struct Node {
    Address address;
    std::optional<std::uint64_t> level;
    bool leaf;
  };
  std::vector<Node> nodes = {{tree, std::nullopt, false}};
  std::set<Address> seen;
  while (!nodes.empty()) {
    const Node node = nodes.back();
    nodes.pop_back();
    check(seen.insert(node.address).second, "{}: is reached twice", at("group tree", node.address));
    const auto start = bytes("group tree", node.address, 8);
    Cursor head(at("group tree", node.address), start);
    head.expect(node.leaf ? "SNOD" : "TREE");
    if (node.leaf) {
      head.skip(2);
      const std::uint64_t count = head.number(2);
      const auto body = bytes("symbol table", node.address + 8, count * kSymbolBytes);
      Cursor cursor(at("symbol table", node.address), body);
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t name = cursor.number(8);
        const Address object = cursor.number(8);
        const bool soft = cursor.number(4) == 2;
        cursor.skip(20);
        const std::size_t end = name < text.size() ? text.find('\0', name) : std::string_view::npos;
        check(end != std::string_view::npos, "{}: a name at byte {} of the heap has no end", cursor.where(), name);
        links.push_back(
            {std::string(text.substr(name, end - name)), soft ? Link::Class::soft : Link::Class::hard, object});
      }
      continue;
    }
    check(head.number(1) == 0, "{}: expected a tree of names", head.where());
    const std::uint64_t level = head.number(1);
    check(node.level ? level == *node.level : level <= kDeepestTree, "{}: a node has the level {}", head.where(),
          level);
    const std::uint64_t count = head.number(2);
    const auto body = bytes("group tree", node.address + 24, 16 * count);
    Cursor cursor(head.where(), body);
    for (std::uint64_t i = 0; i < count; ++i) {
      cursor.skip(8);
      nodes.push_back({cursor.number(8), level - 1, level == 0});
    }
  }
}

// Follows a path link by link. Only hard links stay in the file.
std::optional<Hdf5File::Address> Hdf5File::find(const std::string& path) const {
  Address address = root_;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = std::string_view(path).substr(begin, end - begin);
    const std::vector<Link>& candidates = links(address);
    const auto link = std::find_if(candidates.begin(), candidates.end(), [&](const Link& l) { return l.name == part; });
    if (link == candidates.end()) return std::nullopt;
    check(link->type == Link::Class::hard, "[hdf5] {}: /{}: expected an object, got {} link, which may lead anywhere",
          name_, path.substr(0, end),
          link->type == Link::Class::soft       ? "a soft"
          : link->type == Link::Class::external ? "an external"
                                                : "a user-defined");
    address = link->address;
    begin = end + 1;
  }
  return address;
}

Hdf5File::Kind Hdf5File::kind(Address address) const {
  const Header& messages = header(address);
  if (find_message(messages, MessageType::layout) != nullptr) return Kind::dataset;
  for (const MessageType type :
       {MessageType::symbol_table, MessageType::link_info, MessageType::link, MessageType::group_info}) {
    if (find_message(messages, type) != nullptr) return Kind::group;
  }
  fail("{}: expected a group or a dataset, got another object", at("object header", address));
}

Hdf5File::Kind Hdf5File::kind(const std::string& path) const {
  const std::optional<Address> address = find(path);
  return address ? kind(*address) : Kind::none;
}

void Hdf5File::list(const std::string& group, Address address, int depth, std::set<Address>& seen,
                    std::vector<Object>& objects) const {
  check(depth <= kDeepestGroup, "[hdf5] {}: /{}: groups lie deeper than {}", name_, group, kDeepestGroup);
  check(seen.insert(address).second, "[hdf5] {}: /{}: the group can be reached in two ways, groups may form a ring",
        name_, group);
  for (const Link& link : links(address)) {
    const std::string path = group.empty() ? link.name : group + "/" + link.name;
    objects.push_back({path, kind(path)});
    if (objects.back().kind == Kind::group) list(path, link.address, depth + 1, seen, objects);
  }
}

std::vector<Hdf5File::Object> Hdf5File::objects() const {
  std::set<Address> seen;
  std::vector<Object> objects;
  list("", root_, 0, seen, objects);
  return objects;
}

}  // namespace graft::io
