#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace graft::io {

/// A regular file opened for reading at any position. Nothing is mapped, so a file that shrinks while it is read ends
/// in an Error, not in a signal.
class InputFile {
 public:
  /// Throws Error if the file cannot be opened or is not a regular file.
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Bytes in the file when it was opened.
  std::uint64_t size() const { return size_; }
  /// Throws Error if the file is empty, or a Git LFS pointer or a web page stands in its place.
  void check_is_itself() const;
  /// Fills `into` with the bytes from `offset` on. Throws Error if the file ends before.
  void read(std::uint64_t offset, std::span<std::byte> into) const;
  /// `count` bytes from `offset` on. Throws Error, before any memory is taken, if the file ends before.
  std::vector<std::byte> read(std::uint64_t offset, std::uint64_t count) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// What the name of a file holds that write_file_atomically has begun and not renamed: `TARGET.partial-...`. Only a
/// process that is killed leaves one behind.
constexpr std::string_view kPartial = ".partial-";

/// Where the content of a file goes that write_file_atomically makes.
class OutputFile {
 public:
  /// Appends. Throws Error naming the file if the disk is full or fails.
  void write(std::span<const std::byte> bytes);
  /// Writes from byte `offset` on, which may lie beyond the end; what nobody writes before it is zero.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

 private:
  friend void write_file_atomically(const std::filesystem::path&, const std::function<void(OutputFile&)>&);
  OutputFile(int descriptor, const std::filesystem::path& target) : descriptor_(descriptor), target_(target) {}

  int descriptor_;
  const std::filesystem::path& target_;
  std::uint64_t end_ = 0;  // where `write` goes on
};

/// Writes a file so that its path shows the old content or all of the new, whatever happens in between: `content`
/// writes to a file beside the target, which is then synced to the disk and renamed. If anything fails, `content`
/// included, the file beside is removed and the target is as it was.
///
/// Throws Error if the folder is missing or not writable, the disk is full, or the target exists and is not a regular
/// file.
void write_file_atomically(const std::filesystem::path& target, const std::function<void(OutputFile&)>& content);
/// The same with the whole content at hand.
void write_file_atomically(const std::filesystem::path& target, std::string_view content);

}  // namespace graft::io
