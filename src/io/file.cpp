#include "graft/io/file.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/format.h"

namespace graft::io {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLargestTransfer = std::size_t{1} << 30;  // Linux moves at most 2 GiB a call

std::string system_message() { return std::strerror(errno); }

// Makes a rename durable. A file system that cannot sync a folder has nothing to make durable.
void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

// The file beside the target: removed again unless it was renamed.
class FileBeside {
 public:
  explicit FileBeside(const fs::path& target) : target_(target) {
    static std::atomic<unsigned> counter{0};
    path_ = target;
    path_ += fmt::format("{}{}-{}", kPartial, ::getpid(), counter++);
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    check(descriptor_ >= 0, "[file] {}: cannot be written: {}", target.string(), system_message());
  }
  ~FileBeside() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!renamed_) ::unlink(path_.c_str());
  }
  FileBeside(const FileBeside&) = delete;
  FileBeside& operator=(const FileBeside&) = delete;

  int descriptor() const { return descriptor_; }

  void become_target() {
    check(::fsync(descriptor_) == 0, "[file] {}: could not be synced to the disk: {}", target_.string(),
          system_message());
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    check(closed == 0, "[file] {}: could not be written to the end: {}", target_.string(), system_message());
    check(::rename(path_.c_str(), target_.c_str()) == 0, "[file] {}: could not be replaced: {}", target_.string(),
          system_message());
    renamed_ = true;
    sync_folder(target_.has_parent_path() ? target_.parent_path() : fs::path("."));
  }

 private:
  const fs::path& target_;
  fs::path path_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

}  // namespace

InputFile::InputFile(fs::path path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  check(descriptor_ >= 0, "[file] {}: cannot be opened: {}", path_.string(), system_message());
  struct stat status {};
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) {
    ::close(descriptor_);
    fail("[file] {}: expected a regular file", path_.string());
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::check_is_itself() const {
  check(size_ > 0, "[file] {}: the file is empty", path_.string());
  std::string start(std::min<std::uint64_t>(size_, 64), '\0');
  read(0, std::as_writable_bytes(std::span(start)));
  check(!start.starts_with("version https://git-lfs"),
        "[file] {}: this is a Git LFS pointer, not the file: run git lfs pull", path_.string());
  check(!start.starts_with("<!") && !start.starts_with("<html"),
        "[file] {}: this is a web page, not the file: the download went wrong", path_.string());
}

void InputFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  check(offset <= size_ && into.size() <= size_ - offset,
        "[file] {}: {} bytes at byte {} lie beyond the end, the file has {}", path_.string(), into.size(), offset,
        size_);
  while (!into.empty()) {
    const ssize_t count =
        ::pread(descriptor_, into.data(), std::min(into.size(), kLargestTransfer), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    check(count >= 0, "[file] {}: cannot be read at byte {}: {}", path_.string(), offset, system_message());
    check(count > 0, "[file] {}: became shorter while it was read, nothing left at byte {}", path_.string(), offset);
    into = into.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

std::vector<std::byte> InputFile::read(std::uint64_t offset, std::uint64_t count) const {
  check(offset <= size_ && count <= size_ - offset,
        "[file] {}: {} bytes at byte {} lie beyond the end, the file has {}", path_.string(), count, offset, size_);
  std::vector<std::byte> bytes(count);
  read(offset, std::span(bytes));
  return bytes;
}

void OutputFile::write(std::span<const std::byte> bytes) {
  write_at(end_, bytes);
  end_ += bytes.size();
}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), kLargestTransfer), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    check(count > 0, "[file] {}: {} bytes could not be written: {}", target_.string(), bytes.size(), system_message());
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void write_file_atomically(const fs::path& path, const std::function<void(OutputFile&)>& content) {
  std::error_code unresolved;
  const fs::path resolved = fs::canonical(path, unresolved);  // so that a symbolic link stays one
  const fs::path target = unresolved ? path : resolved;
  check(!fs::exists(fs::status(target, unresolved)) || fs::is_regular_file(target, unresolved),
        "[file] {}: exists and is not a regular file", path.string());
  FileBeside beside(target);
  OutputFile output(beside.descriptor(), path);
  content(output);
  beside.become_target();
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_file_atomically(path, [&](OutputFile& file) { file.write(content); });
}

}  // namespace graft::io
