#include "train/feature_file.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graft/io/file.h"

#include "core/format.h"
#include "train/hash.h"

namespace graft::train {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "graft features 1";
constexpr const char* kExtension = ".features";
constexpr std::uint64_t kDigestAlignment = 64, kRowAlignment = 4096;

std::string system_message() { return std::strerror(errno); }

std::uint64_t aligned(std::uint64_t offset, std::uint64_t to) { return (offset + to - 1) / to * to; }

// All that stands before the digests.
std::string head_of(const FeatureLayout& layout) {
  nlohmann::json values = nlohmann::json::array();
  for (const auto& [node, spec] : layout.values)
    values.push_back({node, name(spec.dtype), std::vector<Index>(spec.shape.begin(), spec.shape.end())});
  const std::string header = nlohmann::json{{"facts", layout.facts}, {"values", values}, {"rows", layout.rows}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::uint64_t size = header.size();
  std::string head(kMagic);
  head.append(reinterpret_cast<const char*>(&size), sizeof size);
  return head + header;
}

std::uint64_t digests_at(const FeatureLayout& layout) { return aligned(head_of(layout).size(), kDigestAlignment); }

std::uint64_t rows_at(const FeatureLayout& layout) {
  return aligned(digests_at(layout) + sizeof(std::uint64_t) * static_cast<std::uint64_t>(layout.rows), kRowAlignment);
}

// An open file description that is closed again.
struct Descriptor {
  int number = -1;

  explicit Descriptor(int opened) : number(opened) {}
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

void write_at(int descriptor, std::uint64_t offset, std::span<const std::byte> bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    check(count > 0, "[cache] {}: {} bytes could not be written: {}", path.string(), bytes.size(), system_message());
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

class FileStore final : public FeatureStore {
 public:
  FileStore(const fs::path& path, FeatureLayout layout)
      : layout_(std::move(layout)), file_(path), lock_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    check(lock_.number >= 0 && ::flock(lock_.number, LOCK_SH) == 0, "[cache] {}: cannot be locked: {}", path.string(),
          system_message());
    check(file_.size() == layout_.file_bytes(), "[cache] {}: expected {} bytes, the file has {}", path.string(),
          layout_.file_bytes(), file_.size());
    const std::string expected = head_of(layout_);
    std::string head(expected.size(), '\0');
    file_.read(0, std::as_writable_bytes(std::span(head)));
    check(head == expected, "[cache] {}: the header is not that of these photos, this network and this graft",
          path.string());
    digests_.resize(static_cast<std::size_t>(layout_.rows));
    file_.read(digests_at(layout_), std::as_writable_bytes(std::span(digests_)));
    rows_at_ = rows_at(layout_);
    std::vector<std::byte> row(layout_.row_bytes());
    for (Index i = 0; i < layout_.rows; ++i) read_row(i, row);
    ::futimens(lock_.number, nullptr);  // when it was used last, for FeatureFolder::make_room
  }

  Index rows() const override { return layout_.rows; }
  bool reads_ahead() const override { return true; }
  std::map<std::string, Tensor> read(std::span<const Index> rows) const override {
    std::map<std::string, Tensor> values;
    std::vector<std::byte*> to;
    for (const auto& [node, spec] : layout_.values) {
      Tensor& value = values[node];
      value = Tensor::empty(spec.shape.with(0, static_cast<Index>(rows.size())), spec.dtype);
      to.push_back(static_cast<std::byte*>(value.raw()));
    }
    std::vector<std::byte> row(layout_.row_bytes());
    for (const Index index : rows) {
      read_row(index, row);
      const std::byte* from = row.data();
      for (std::size_t i = 0; i < to.size(); ++i) {
        const Spec& spec = layout_.values[i].second;
        const std::size_t bytes = static_cast<std::size_t>(spec.shape.elements()) * size_of(spec.dtype);
        std::memcpy(to[i], from, bytes);
        to[i] += bytes;
        from += bytes;
      }
    }
    return values;
  }

 private:
  void read_row(Index index, std::span<std::byte> into) const {
    const auto row = static_cast<std::uint64_t>(index);
    file_.read(rows_at_ + row * into.size(), into);
    check(digest_of(into, row) == digests_[static_cast<std::size_t>(index)],
          "[cache] {}: row {} is damaged: its digest is not what it was when it was written", file_.path().string(),
          index);
  }

  FeatureLayout layout_;
  io::InputFile file_;
  Descriptor lock_;
  std::vector<std::uint64_t> digests_;
  std::uint64_t rows_at_ = 0;
};

}  // namespace

std::size_t FeatureLayout::row_bytes() const {
  std::size_t bytes = 0;
  for (const auto& [node, spec] : values)
    bytes += static_cast<std::size_t>(spec.shape.elements()) * size_of(spec.dtype);
  return bytes;
}

std::uint64_t FeatureLayout::file_bytes() const {
  return rows_at(*this) + static_cast<std::uint64_t>(rows) * row_bytes();
}

fs::path FeatureFolder::path_of(const FeatureLayout& layout) const {
  return folder_ / (hash_of(std::as_bytes(std::span(layout.facts))) + kExtension);
}

bool FeatureFolder::holds(const FeatureLayout& layout) const {
  std::error_code error;
  return fs::is_regular_file(path_of(layout), error);
}

std::shared_ptr<const FeatureStore> FeatureFolder::open(const FeatureLayout& layout) const {
  return std::make_shared<FileStore>(path_of(layout), layout);
}

void FeatureFolder::make_room(std::uint64_t bytes, std::uint64_t limit) const {
  struct Unused {
    fs::file_time_type when;
    fs::path path;
    std::uint64_t size;
  };
  std::vector<Unused> unused;
  std::uint64_t total = bytes;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    const bool whole = name.ends_with(kExtension);
    if (!whole && name.find(std::string(kExtension) + std::string(io::kPartial)) == std::string::npos) continue;
    const std::uint64_t size = entry.file_size(error);
    const Descriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    const bool in_use = file.number < 0 || ::flock(file.number, LOCK_EX | LOCK_NB) != 0;
    if (!whole && !in_use) {
      ::unlink(entry.path().c_str());
      continue;
    }
    total += size;
    if (whole && !in_use) unused.push_back({entry.last_write_time(error), entry.path(), size});
  }
  std::sort(unused.begin(), unused.end(), [](const Unused& a, const Unused& b) { return a.when < b.when; });
  for (const Unused& file : unused) {
    if (total <= limit) return;
    if (fs::remove(file.path, error)) total -= file.size;
  }
}

std::uint64_t FeatureFolder::allowance(std::uint64_t limit) const {
  std::error_code error;
  fs::path there = fs::absolute(folder_, error);
  while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const fs::space_info space = fs::space(there, error);
  return error ? 0 : std::min<std::uint64_t>(limit, space.available / 2);
}

FeatureWriter::FeatureWriter(const FeatureFolder& folder, FeatureLayout layout)
    : layout_(std::move(layout)),
      target_(folder.path_of(layout_)),
      path_(target_),
      rows_at_(rows_at(layout_)),
      digests_(static_cast<std::size_t>(layout_.rows)),
      is_there_(static_cast<std::size_t>(layout_.rows), 0) {
  std::error_code error;
  fs::create_directories(target_.parent_path(), error);
  check(!error, "[cache] {}: cannot make the folder: {}", target_.parent_path().string(), error.message());
  static std::atomic<unsigned> counter{0};
  path_ += fmt::format("{}{}-{}", io::kPartial, ::getpid(), counter++);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  check(descriptor_ >= 0, "[cache] {}: cannot be written: {}", target_.string(), system_message());
  ::flock(descriptor_, LOCK_EX);
  // A file system that cannot reserve says so, and a full disk shows when the rows are written.
  if (::fallocate(descriptor_, 0, 0, static_cast<off_t>(layout_.file_bytes())) == 0 || errno == EOPNOTSUPP) return;
  const std::string reason = system_message();
  ::close(descriptor_);
  ::unlink(path_.c_str());
  fail("[cache] {}: {} bytes cannot be reserved: {}", target_.string(), layout_.file_bytes(), reason);
}

FeatureWriter::~FeatureWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(path_.c_str());
}

void FeatureWriter::put(std::span<const Index> rows, std::span<const Tensor> values) {
  check(values.size() == layout_.values.size(), "[cache] {}: expected {} values, got {}", target_.string(),
        layout_.values.size(), values.size());
  std::vector<std::byte> row(layout_.row_bytes());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto& [node, spec] = layout_.values[i];
    const Spec expected{spec.shape.with(0, static_cast<Index>(rows.size())), spec.dtype};
    check(values[i].spec() == expected, "[cache] '{}' is {} {}, expected {} {}", node, values[i].dtype(),
          values[i].shape(), expected.dtype, expected.shape);
  }
  for (std::size_t at = 0; at < rows.size(); ++at) {
    std::byte* to = row.data();
    for (const Tensor& value : values) {
      const std::size_t bytes = value.bytes() / rows.size();
      std::memcpy(to, static_cast<const std::byte*>(value.raw()) + at * bytes, bytes);
      to += bytes;
    }
    const auto index = static_cast<std::size_t>(rows[at]);
    digests_.at(index) = digest_of(row, index);
    is_there_.at(index) = 1;
    write_at(descriptor_, rows_at_ + index * row.size(), row, target_);
  }
}

void FeatureWriter::finish() {
  const auto missing = std::find(is_there_.begin(), is_there_.end(), 0);
  check(missing == is_there_.end(), "[cache] {}: row {} was never computed", target_.string(),
        missing - is_there_.begin());
  const std::string head = head_of(layout_);
  write_at(descriptor_, digests_at(layout_), std::as_bytes(std::span(digests_)), target_);
  write_at(descriptor_, 0, std::as_bytes(std::span(head)), target_);
  check(::fsync(descriptor_) == 0, "[cache] {}: could not be synced to the disk: {}", target_.string(),
        system_message());
  check(::rename(path_.c_str(), target_.c_str()) == 0, "[cache] {}: could not be put in its place: {}",
        target_.string(), system_message());
  ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace graft::train
