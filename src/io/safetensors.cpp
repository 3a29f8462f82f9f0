#include "graft/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include <nlohmann/json.hpp>

#include "graft/io/file.h"

#include "core/format.h"
#include "core/parallel.h"
#include "io/checked_shape.h"

namespace graft::io {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLongestHeader = 100'000'000;  // the limit of the reference implementation
constexpr std::uint64_t kAlignment = 64, kPart = std::uint64_t{1} << 20, kLarge = std::uint64_t{4} << 20;
constexpr std::string_view kMetadata = "__metadata__";

constexpr std::pair<std::string_view, DType> kTypes[] = {
    {"F32", DType::f32}, {"F64", DType::f64}, {"BF16", DType::bf16}, {"F16", DType::f16},
    {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8}};

std::string_view type_name(DType dtype) {
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& type) { return type.second == dtype; })
      ->first;
}

std::uint64_t bytes_of(const Spec& spec) {
  return static_cast<std::uint64_t>(spec.shape.elements()) * size_of(spec.dtype);
}

std::uint64_t round_up(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// One tensor as the header describes it, its offset still relative to the end of the header.
SafetensorsHeader::Entry parse_entry(const std::string& file, const std::string& name, const Json& json,
                                     std::uint64_t data_bytes) {
  const auto invalid = [&](std::string_view what) { fail("[safetensors] {}: tensor '{}': {}", file, name, what); };
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets")) {
    invalid("expected dtype, shape and data_offsets");
  }
  if (!json["dtype"].is_string()) invalid("dtype is not a string");
  const std::string type = json["dtype"];
  const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.first == type; });
  if (known == std::end(kTypes)) invalid(fmt::format("expected F32, F64, BF16, F16, I32, I64 or U8, got '{}'", type));

  std::vector<Index> extents;
  if (!json["shape"].is_array()) invalid("shape is not a list");
  for (const Json& extent : json["shape"]) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
      invalid("an extent is no size");
    extents.push_back(extent.get<Index>());
  }
  const Json& range = json["data_offsets"];
  if (!range.is_array() || range.size() != 2 || !range[0].is_number_unsigned() || !range[1].is_number_unsigned())
    invalid("data_offsets are not two offsets");
  const auto begin = range[0].get<std::uint64_t>(), end = range[1].get<std::uint64_t>();
  if (begin > end || end > data_bytes)
    invalid(fmt::format("bytes {} to {} do not lie in the file's {} bytes of data", begin, end, data_bytes));

  SafetensorsHeader::Entry entry{
      name, {checked_shape(fmt::format("[safetensors] {}: tensor '{}'", file, name), extents), known->second}, begin};
  const auto elements = static_cast<std::uint64_t>(entry.spec.shape.elements());
  const std::uint64_t element_bytes = size_of(known->second);
  // Compared by division: the product could wrap around.
  if ((end - begin) % element_bytes != 0 || (end - begin) / element_bytes != elements) {
    invalid(fmt::format("{} {} does not take the {} bytes it is given", known->second, entry.spec.shape, end - begin));
  }
  return entry;
}

// Brings the tensors into the order of their elements and checks that these leave no gap.
void sort_and_check_fill(const std::string& file, SafetensorsHeader& header, std::uint64_t data_bytes) {
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.offset, bytes_of(a.spec)) < std::pair(b.offset, bytes_of(b.spec));
  });
  std::uint64_t expected = 0;
  for (const auto& entry : header.tensors) {
    check(entry.offset == expected,
          "[safetensors] {}: tensor '{}' starts at byte {} of the data, expected {}: tensors may not overlap or leave "
          "a gap",
          file, entry.name, entry.offset, expected);
    expected += bytes_of(entry.spec);
  }
  check(expected == data_bytes, "[safetensors] {}: the tensors take {} bytes, the file has {}", file, expected,
        data_bytes);
}

// One block of memory for all small tensors, so that it comes in large pages. Who keeps one of them keeps it.
class Shared {
 public:
  explicit Shared(const SafetensorsHeader& header) {
    std::uint64_t all = 0;
    for (const auto& entry : header.tensors) all += bytes_of(entry.spec) < kLarge ? round_up(bytes_of(entry.spec)) : 0;
    block_ = Storage::allocate(all);
  }
  Tensor next(const Spec& spec) {
    std::byte* const at = block_->data() + end_;
    end_ += round_up(bytes_of(spec));
    return Tensor::over(Storage::borrow(at, bytes_of(spec), block_), 0, spec.shape, spec.dtype);
  }

 private:
  std::shared_ptr<Storage> block_;
  std::uint64_t end_ = 0;
};

SafetensorsHeader parse_header(const InputFile& input) {
  const std::string file = input.path().string();
  input.check_is_itself();
  check(input.size() >= 8, "[safetensors] {}: expected at least 8 bytes, got {}", file, input.size());
  std::uint64_t length = 0;  // little-endian, as every machine that graft runs on
  input.read(0, std::as_writable_bytes(std::span(&length, 1)));
  check(length <= kLongestHeader,
        "[safetensors] {}: expected a safetensors file with a header of at most {} bytes, got one that would have {}; "
        "'graft convert' imports other formats",
        file, kLongestHeader, length);
  check(length <= input.size() - 8, "[safetensors] {}: the header says it has {} bytes, the file has {}", file, length,
        input.size());
  const std::vector<std::byte> text = input.read(8, length);
  const auto* first = reinterpret_cast<const char*>(text.data());
  const Json json = Json::parse(first, first + text.size(), nullptr, /*allow_exceptions=*/false);
  check(json.is_object(), "[safetensors] {}: the header is not a JSON object", file);

  SafetensorsHeader header;
  const std::uint64_t data_bytes = input.size() - 8 - length;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadata) {
      check(value.is_object(), "[safetensors] {}: the metadata is not a JSON object", file);
      for (const auto& [key, entry] : value.items()) {
        check(entry.is_string(), "[safetensors] {}: metadata '{}' is not a string", file, key);
        header.metadata[key] = entry.get<std::string>();
      }
      continue;
    }
    header.tensors.push_back(parse_entry(file, name, value, data_bytes));
  }
  sort_and_check_fill(file, header, data_bytes);
  for (auto& entry : header.tensors) entry.offset += 8 + length;
  return header;
}

}  // namespace

const Tensor& Safetensors::at(std::string_view name) const {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  fail("[safetensors] there is no tensor '{}'", name);
}

bool Safetensors::contains(std::string_view name) const {
  return std::any_of(tensors.begin(), tensors.end(), [&](const auto& entry) { return entry.first == name; });
}

SafetensorsHeader read_safetensors_header(const fs::path& path) { return parse_header(InputFile(path)); }

Safetensors read_safetensors(const fs::path& path) {
  const InputFile input(path);
  SafetensorsHeader header = parse_header(input);
  Safetensors content{{}, std::move(header.metadata)};
  struct Part {
    std::uint64_t offset;
    std::span<std::byte> to;
  };
  std::vector<Part> parts;  // threads read side by side, of large tensors too
  Shared shared(header);
  for (const auto& [name, spec, offset] : header.tensors) {
    Tensor tensor = bytes_of(spec) < kLarge ? shared.next(spec) : Tensor::empty(spec.shape, spec.dtype);
    const std::span<std::byte> bytes{static_cast<std::byte*>(tensor.raw()), tensor.bytes()};
    for (std::uint64_t from = 0; from < bytes.size(); from += kPart)
      parts.push_back({offset + from, bytes.subspan(from, std::min(kPart, bytes.size() - from))});
    content.tensors.emplace_back(name, std::move(tensor));
  }
  parallel_for(std::ssize(parts), [&](Index i) {
    const Part& part = parts[static_cast<std::size_t>(i)];
    input.read(part.offset, part.to);
  });
  return content;
}

void write_safetensors(const fs::path& path, const Safetensors& content) {
  SafetensorsHeader header{.tensors = {}, .metadata = content.metadata};
  for (const auto& [name, tensor] : content.tensors) header.tensors.push_back({name, tensor.spec()});
  write_safetensors(path, header, [&](const PutRows& put) {
    for (std::size_t i = 0; i < content.tensors.size(); ++i) put(i, 0, content.tensors[i].second);
  });
}

void write_safetensors(const fs::path& path, const SafetensorsHeader& header,
                       const std::function<void(const PutRows& put)>& content) {
  const auto& tensors = header.tensors;
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return size_of(tensors[a].spec.dtype) > size_of(tensors[b].spec.dtype);
  });

  Json json = Json::object();
  if (!header.metadata.empty()) json[std::string(kMetadata)] = header.metadata;
  std::set<std::string_view> names;
  for (const auto& [name, spec, unused] : tensors) {
    check(name != kMetadata && names.insert(name).second,
          "[safetensors] {}: the name '{}' cannot be used for a tensor twice or at all", path.string(), name);
  }
  std::vector<std::uint64_t> offsets(tensors.size());
  std::uint64_t end = 0;
  for (const std::size_t i : order) {
    const Spec& spec = tensors[i].spec;
    offsets[i] = end;
    end += bytes_of(spec);
    json[tensors[i].name] = {{"dtype", type_name(spec.dtype)},
                             {"shape", std::vector<Index>(spec.shape.begin(), spec.shape.end())},
                             {"data_offsets", {offsets[i], end}}};
  }
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((kAlignment - (8 + text.size()) % kAlignment) % kAlignment, ' ');

  const std::uint64_t length = text.size();
  write_file_atomically(path, [&](OutputFile& file) {
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(text);
    std::uint64_t written = 0;
    content([&](std::size_t i, Index first, const Tensor& rows) {
      const Tensor here = rows.to(Device{});
      const std::uint64_t before =
          first == 0 ? 0
                     : here.bytes() / static_cast<std::uint64_t>(here.shape()[0]) * static_cast<std::uint64_t>(first);
      check(here.dtype() == tensors[i].spec.dtype && before + here.bytes() <= bytes_of(tensors[i].spec),
            "[safetensors] {}: rows {} of {} from {} on do not lie in '{}', {} {}", path.string(), here.shape(),
            here.dtype(), first, tensors[i].name, tensors[i].spec.shape, tensors[i].spec.dtype);
      file.write_at(8 + length + offsets[i] + before, {static_cast<const std::byte*>(here.raw()), here.bytes()});
      written += here.bytes();
    });
    check(written == end, "[safetensors] {}: expected {} bytes of rows, got {}", path.string(), end, written);
  });
}

}  // namespace graft::io
