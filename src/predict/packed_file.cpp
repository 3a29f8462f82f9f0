#include "graft/predict/packed_file.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graft/core/version.h"
#include "graft/io/file.h"

#include "core/format.h"
#include "kernels/registry.h"
#include "predict/layouts_digest.h"

// The file: the length of a header, the header, and blocks of bytes from multiples of a page on. The header is JSON:
//
//   {"made": {...},      what the content depends on
//    "bytes": N,         of all blocks
//    "entries": {name: {"value": {"dtype", "shape", "at"}, "packed": {layout: {"bytes", "at"}}}}}
//
// Names of layouts are bytes, written in hexadecimal digits.
namespace graft::predict {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::json;
using Entry = plan::WeightCache::Entry;
using Entries = plan::WeightCache::Entries;
using Kept = std::map<std::string, std::shared_ptr<const Entry>>;

constexpr std::uint64_t kPage = 4096, kAlignment = 64, kLongestHeader = std::uint64_t{1} << 26;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t to) { return (bytes + to - 1) / to * to; }

std::string hexadecimal(std::string_view bytes) {
  std::string digits;
  for (const char byte : bytes) digits += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return digits;
}

std::string bytes_of(const std::string& digits) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

// A whole file in memory that this process alone changes. It is replaced, never written to, so that it does not shrink.
class Mapping {
 public:
  static std::shared_ptr<const Mapping> open(const fs::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return nullptr;
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
    const auto bytes = static_cast<std::size_t>(status.st_size);
    void* const data =
        regular ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0) : MAP_FAILED;
    ::close(descriptor);
    if (data == MAP_FAILED) return nullptr;
    return std::shared_ptr<const Mapping>(new Mapping(static_cast<std::byte*>(data), bytes));
  }
  ~Mapping() { ::munmap(data_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Mapping(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data_;
  std::size_t bytes_;
};

// A tensor of a mapped file. Throws std::exception if it does not lie in the file.
Tensor tensor_at(const std::shared_ptr<const Mapping>& file, std::uint64_t first_block, const Json& at,
                 const Shape& shape, DType dtype) {
  const std::uint64_t offset = first_block + at.get<std::uint64_t>(),
                      bytes = static_cast<std::uint64_t>(shape.elements()) * size_of(dtype);
  check(offset % kAlignment == 0 && offset <= file->bytes() && bytes <= file->bytes() - offset, "beyond the end");
  return Tensor::over(Storage::borrow(file->data() + offset, bytes, file), 0, shape, dtype);
}

// The entries of a file; none if it is missing, damaged or made of something else.
Entries read(const fs::path& path, const Json& made) {
  Entries entries;
  try {
    const auto file = Mapping::open(path);
    if (file == nullptr || file->bytes() < sizeof(std::uint64_t)) return {};
    std::uint64_t length = 0;
    std::memcpy(&length, file->data(), sizeof(length));
    if (length > kLongestHeader || length > file->bytes() - sizeof(length)) return {};
    const auto* text = reinterpret_cast<const char*>(file->data()) + sizeof(length);
    const Json header = Json::parse(text, text + length);
    const std::uint64_t first = round_up(sizeof(length) + length, kPage);
    if (header.at("made") != made || first + header.at("bytes").get<std::uint64_t>() != file->bytes()) return {};
    for (const auto& [name, stored] : header.at("entries").items()) {
      Entry& entry = entries[name];
      if (const auto value = stored.find("value"); value != stored.end()) {
        const auto extents = value->at("shape").get<std::vector<Index>>();
        entry.value = tensor_at(file, first, value->at("at"), Shape{std::span<const Index>(extents)},
                                dtype_from_name(value->at("dtype").get<std::string>()));
      }
      for (const auto& [layout, copy] : stored.at("packed").items())
        entry.packed[bytes_of(layout)] =
            tensor_at(file, first, copy.at("at"), {copy.at("bytes").get<Index>()}, DType::u8);
    }
    return entries;
  } catch (const std::exception&) {
    return {};  // it is made again
  }
}

void write(const fs::path& path, const Json& made, const Kept& entries) {
  struct Block {
    const Tensor* tensor;
    std::uint64_t at;
  };
  std::vector<Block> blocks;
  std::uint64_t end = 0;
  const auto place = [&](const Tensor& tensor) {
    if (tensor.bytes() == 0) return std::uint64_t{0};
    blocks.push_back({&tensor, round_up(end, kAlignment)});
    end = blocks.back().at + tensor.bytes();
    return blocks.back().at;
  };
  Json stored = Json::object();
  for (const auto& [name, entry] : entries) {
    Json one{{"packed", Json::object()}};
    if (entry->value.defined()) {
      const Shape& shape = entry->value.shape();
      one["value"] = {{"dtype", graft::name(entry->value.dtype())},
                      {"shape", std::vector<Index>(shape.begin(), shape.end())},
                      {"at", place(entry->value)}};
    }
    for (const auto& [layout, copy] : entry->packed)
      one["packed"][hexadecimal(layout)] = {{"bytes", copy.bytes()}, {"at", place(copy)}};
    stored[name] = std::move(one);
  }
  const std::string header = Json{{"made", made}, {"bytes", end}, {"entries", std::move(stored)}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
  struct rlimit limit {};  // beyond it the process would be killed
  check(::getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
            (limit.rlim_cur == RLIM_INFINITY || header.size() + end + 2 * kPage < limit.rlim_cur),
        "[packed] {}: may not become so large", path.string());
  io::write_file_atomically(path, [&](io::OutputFile& file) {
    const std::uint64_t length = header.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(header);
    const std::uint64_t first = round_up(sizeof(length) + length, kPage);
    for (const Block& block : blocks)
      file.write_at(first + block.at, {static_cast<const std::byte*>(block.tensor->raw()), block.tensor->bytes()});
  });
}

class PackedFile final : public plan::WeightCache {
 public:
  PackedFile(fs::path path, Json made, const nn::Network& network) : path_(std::move(path)), made_(std::move(made)) {
    for (auto& [name, entry] : read(path_, made_)) entries_[name] = std::make_shared<const Entry>(std::move(entry));
    for (const auto& [name, parameter] : network.parameter_table())
      weights_.push_back({parameter, parameter->value, parameter->value.version()});
  }
  // Now, not at the first run, whose caller waits for a prediction.
  ~PackedFile() override {
    try {
      if (is_new_) write(path_, made_, entries_);
    } catch (const std::exception&) {  // a folder that is read-only, a full disk: nothing is lost but time
    }
  }
  PackedFile(const PackedFile&) = delete;
  PackedFile& operator=(const PackedFile&) = delete;

  bool is_valid() const override {
    return std::all_of(weights_.begin(), weights_.end(), [](const Weight& weight) {
      return weight.parameter->value.id() == weight.value.id() && weight.parameter->value.version() == weight.version;
    });
  }
  std::shared_ptr<const Entry> find(const std::string& name) const override {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(name);
    return found != entries_.end() ? found->second : nullptr;
  }
  void keep(const Entries& entries) override {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries) {
      std::shared_ptr<const Entry>& kept = entries_[name];
      Entry all = entry;
      if (kept != nullptr) all.packed.insert(kept->packed.begin(), kept->packed.end());
      kept = std::make_shared<const Entry>(std::move(all));
    }
    is_new_ = true;
  }

 private:
  struct Weight {
    std::shared_ptr<const nn::Parameter> parameter;
    Tensor value;
    std::uint64_t version;
  };

  fs::path path_;
  Json made_;
  std::vector<Weight> weights_;
  mutable std::mutex mutex_;  // of the entries
  Kept entries_;
  bool is_new_ = false;
};

}  // namespace

FileIdentity::FileIdentity(fs::path file) : path(std::move(file)) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return;  // who reads it says so
  numbers = {static_cast<std::int64_t>(status.st_dev),
             static_cast<std::int64_t>(status.st_ino),
             status.st_size,
             status.st_mtim.tv_sec,
             status.st_mtim.tv_nsec,
             status.st_ctim.tv_sec,
             status.st_ctim.tv_nsec};
}

std::shared_ptr<plan::WeightCache> packed_beside(const FileIdentity& weights, const nn::Network& network) {
  const char* const wanted = std::getenv("GRAFT_KEEP_PACKED");
  if (network.device() != Device{} || (wanted != nullptr && std::string_view(wanted) == "0")) return nullptr;
  if (FileIdentity(weights.path).numbers != weights.numbers) return nullptr;  // it may have been read before or after
  fs::path path = weights.path;
  path += fmt::format(".packed-{}", kernels::vectorized_isa());
  const Json made{{"graft", kVersion},
                  {"sources", layouts_digest()},
                  {"oneDNN", kernels::onednn_version()},
                  {"weights", weights.numbers}};
  return std::make_shared<PackedFile>(std::move(path), made, network);
}

}  // namespace graft::predict
