#include "graft/io/npy.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "graft/io/file.h"

#include "core/format.h"
#include "io/checked_shape.h"

namespace graft::io {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kLongestHeader = 1 << 16;
constexpr std::size_t kAlignment = 64;

constexpr std::pair<std::string_view, DType> kTypes[] = {{"<f4", DType::f32}, {"<f8", DType::f64}, {"<f2", DType::f16},
                                                         {"<i4", DType::i32}, {"<i8", DType::i64}, {"|u1", DType::u8}};

// The header is the text of a Python dict, {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string file) : rest_(text), file_(std::move(file)) {}

  Spec parse() {
    std::optional<DType> dtype;
    std::optional<Shape> shape;
    bool order_known = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr") {
        dtype = element_type(quoted());
      } else if (key == "fortran_order") {
        check(word() == "False", "[npy] {}: expected C order, got Fortran order", file_);
        order_known = true;
      } else if (key == "shape") {
        shape = extents();
      } else {
        fail("[npy] {}: the header has an unknown key '{}'", file_, key);
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    check(dtype && shape && order_known, "[npy] {}: the header lacks descr, fortran_order or shape", file_);
    return {*shape, *dtype};
  }

 private:
  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }
  bool accept(char c) {
    skip_space();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) { check(accept(c), "[npy] {}: the header is malformed, expected '{}'", file_, c); }
  std::string_view take(std::size_t count) {
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view quoted() {
    expect('\'');
    const std::string_view text = take(rest_.find('\''));
    expect('\'');
    return text;
  }
  std::string_view word() {
    skip_space();
    return take(rest_.find_first_of(" ,})"));
  }
  DType element_type(std::string_view descr) {
    for (const auto& [text, dtype] : kTypes) {
      if (descr == text) return dtype;
    }
    fail("[npy] {}: expected elements <f4, <f8, <f2, <i4, <i8 or |u1, got '{}'", file_, descr);
  }
  Shape extents() {
    std::vector<Index> values;
    expect('(');
    while (!accept(')')) {
      const std::string_view digits = word();
      Index value = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      check(error == std::errc{} && end == digits.data() + digits.size() && value >= 0, "[npy] {}: '{}' is no extent",
            file_, digits);
      values.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return checked_shape("[npy] " + file_, values);
  }

  std::string_view rest_;
  std::string file_;
};

}  // namespace

Tensor read_npy(const fs::path& path) {
  const InputFile input(path);
  const std::string file = path.string();
  check(input.size() >= 10, "[npy] {}: expected at least 10 bytes, got {}", file, input.size());
  const std::vector<std::byte> start = input.read(0, std::min<std::uint64_t>(input.size(), 12));
  const auto byte = [&](std::size_t i) { return i < start.size() ? std::to_integer<std::uint64_t>(start[i]) : 0; };
  check(std::string_view(reinterpret_cast<const char*>(start.data()), kMagic.size()) == kMagic,
        "[npy] {}: this is no NumPy array file", file);
  const std::uint64_t version = byte(6);
  check(version == 1 || version == 2, "[npy] {}: expected format 1 or 2, got {}", file, version);
  const std::uint64_t header_offset = version == 1 ? 10 : 12;
  const std::uint64_t header_bytes = byte(8) | byte(9) << 8 | (version == 1 ? 0 : byte(10) << 16 | byte(11) << 24);
  check(header_bytes <= kLongestHeader, "[npy] {}: expected a header of at most {} bytes, it says {}", file,
        kLongestHeader, header_bytes);
  const std::vector<std::byte> header = input.read(header_offset, header_bytes);
  const Spec spec = HeaderParser({reinterpret_cast<const char*>(header.data()), header.size()}, file).parse();

  const std::uint64_t data_offset = header_offset + header_bytes;
  const std::uint64_t available = input.size() - data_offset;
  const auto elements = static_cast<std::uint64_t>(spec.shape.elements());
  check(available % size_of(spec.dtype) == 0 && available / size_of(spec.dtype) == elements,
        "[npy] {}: {} {} does not take the {} bytes after the header", file, spec.dtype, spec.shape, available);
  Tensor tensor = Tensor::empty(spec.shape, spec.dtype);
  input.read(data_offset, {static_cast<std::byte*>(tensor.raw()), tensor.bytes()});
  return tensor;
}

void write_npy(const fs::path& path, const Tensor& tensor) {
  const auto type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.second == tensor.dtype(); });
  check(type != std::end(kTypes), "[npy] {}: NumPy has no {}", path.string(), tensor.dtype());
  const Shape& shape = tensor.shape();
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", type->first,
                                   fmt::join(shape.begin(), shape.end(), ", "), shape.rank() == 1 ? "," : "");
  const std::size_t prefix = kMagic.size() + 4;
  header.append(kAlignment - 1 - (prefix + header.size()) % kAlignment, ' ');
  header.push_back('\n');
  const auto length = static_cast<std::uint16_t>(header.size());
  write_file_atomically(path, [&](OutputFile& file) {
    file.write(kMagic);
    file.write(std::string_view("\x01\x00", 2));
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(header);
    file.write({static_cast<const std::byte*>(tensor.raw()), tensor.bytes()});
  });
}

}  // namespace graft::io
