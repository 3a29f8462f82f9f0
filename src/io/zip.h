#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

struct zip;

namespace graft::io {

/// No deflate stream grows more than this when it is expanded: what claims to is a bomb.
inline constexpr std::uint64_t kLargestDeflateRatio = 1032;

/// A zip archive opened for reading. Members whose names leave the archive (`..`, absolute) or that would grow more
/// than deflate can are refused at once.
class ZipArchive {
 public:
  struct Member {
    std::string name;
    std::uint64_t index = 0;
    std::uint64_t bytes = 0;  ///< when expanded
  };

  /// Throws Error if the file is no zip archive, is truncated or has a member that is refused.
  explicit ZipArchive(const std::filesystem::path& path);
  ~ZipArchive();
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;

  const std::string& file() const { return file_; }
  const std::vector<Member>& members() const { return members_; }
  /// The member of that name.
  std::optional<Member> find(std::string_view name) const;
  /// The expanded bytes of a member; `into` must have room for exactly these. Throws Error if they are damaged.
  void read(const Member& member, std::span<std::byte> into) const;
  std::vector<std::byte> read(const Member& member) const;
  /// The same as text. Throws Error if there is no such member or it is longer than `limit`.
  std::string text(std::string_view name, std::uint64_t limit) const;

 private:
  std::string file_;
  struct zip* archive_ = nullptr;
  std::vector<Member> members_;
};

}  // namespace graft::io
