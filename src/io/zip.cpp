#include "io/zip.h"

#include <algorithm>
#include <memory>

#include <zip.h>

#include "core/format.h"

namespace graft::io {
namespace {

constexpr std::uint64_t kSmall = 1 << 16;  // below this a bomb harms nobody

std::string open_message(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string message = zip_error_strerror(&error);
  zip_error_fini(&error);
  return message;
}

bool leaves_the_archive(std::string_view name) {
  if (name.starts_with('/') || name.starts_with('\\') || name.find(':') == 1) return true;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find_first_of("/\\", begin), name.size());
    if (name.substr(begin, end - begin) == "..") return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

ZipArchive::ZipArchive(const std::filesystem::path& path) : file_(path.string()) {
  int code = 0;
  std::unique_ptr<zip_t, void (*)(zip_t*)> archive(zip_open(path.c_str(), ZIP_RDONLY, &code), zip_discard);
  check(archive != nullptr, "[zip] {}: cannot be read as a zip archive: {}", file_, archive ? "" : open_message(code));
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(std::max<zip_int64_t>(count, 0)); ++i) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    const bool complete = zip_stat_index(archive.get(), i, 0, &stat) == 0 && (stat.valid & ZIP_STAT_NAME) != 0 &&
                          (stat.valid & ZIP_STAT_SIZE) != 0 && (stat.valid & ZIP_STAT_COMP_SIZE) != 0;
    check(complete, "[zip] {}: member {} has no name or size", file_, i);
    check(!leaves_the_archive(stat.name), "[zip] {}: member '{}' would leave the archive", file_, stat.name);
    check(stat.size <= kSmall || stat.size / kLargestDeflateRatio <= stat.comp_size,
          "[zip] {}: member '{}' says that {} bytes expand to {}", file_, stat.name, stat.comp_size, stat.size);
    members_.push_back({stat.name, i, stat.size});
  }
  archive_ = archive.release();
}

ZipArchive::~ZipArchive() { zip_discard(archive_); }

std::optional<ZipArchive::Member> ZipArchive::find(std::string_view name) const {
  const auto found =
      std::find_if(members_.begin(), members_.end(), [&](const Member& member) { return member.name == name; });
  if (found == members_.end()) return std::nullopt;
  return *found;
}

void ZipArchive::read(const Member& member, std::span<std::byte> into) const {
  check(into.size() == member.bytes, "[zip] {}: member '{}' expands to {} bytes, expected {}", file_, member.name,
        member.bytes, into.size());
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> stream(zip_fopen_index(archive_, member.index, 0),
                                                                 zip_fclose);
  check(stream != nullptr, "[zip] {}: member '{}' cannot be opened: {}", file_, member.name, zip_strerror(archive_));
  while (!into.empty()) {
    const zip_int64_t count = zip_fread(stream.get(), into.data(), into.size());
    check(count > 0, "[zip] {}: member '{}' is damaged, {} bytes before its end: {}", file_, member.name, into.size(),
          count < 0 ? zip_file_strerror(stream.get()) : "nothing follows");
    into = into.subspan(static_cast<std::size_t>(count));
  }
  std::byte beyond;  // libzip compares the checksum when it meets the end
  check(zip_fread(stream.get(), &beyond, 1) == 0, "[zip] {}: member '{}' is damaged: its checksum or length is wrong",
        file_, member.name);
}

std::vector<std::byte> ZipArchive::read(const Member& member) const {
  std::vector<std::byte> bytes(member.bytes);
  read(member, bytes);
  return bytes;
}

std::string ZipArchive::text(std::string_view name, std::uint64_t limit) const {
  const std::optional<Member> member = find(name);
  check(member.has_value(), "[zip] {}: there is no member '{}'", file_, name);
  check(member->bytes <= limit, "[zip] {}: member '{}' has {} bytes, expected at most {}", file_, name, member->bytes,
        limit);
  std::string text(member->bytes, '\0');
  read(*member, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace graft::io
