#include "graft/data/folder.h"

#include <algorithm>
#include <cctype>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/format.h"
#include "data/utf8.h"

namespace graft::data {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

void check_directory(const fs::path& directory) {
  std::error_code error;
  check(fs::exists(directory, error), "[images] {}: no such directory", directory.string());
  check(fs::is_directory(directory, error), "[images] {}: expected a directory, got a file", directory.string());
}

// What `read` gives, or an Error that names the path that cannot be read.
auto readable(auto read) {
  try {
    return read();
  } catch (const fs::filesystem_error& error) {
    fail("[images] {}: cannot be read: {}", error.path1().string(), error.code().message());
  }
}

std::vector<fs::path> photos_below(const fs::path& folder, Index& ignored) {
  std::vector<fs::path> photos;
  for (auto at = fs::recursive_directory_iterator(folder); at != fs::recursive_directory_iterator(); ++at) {
    if (is_hidden(at->path())) {
      if (at->is_directory()) at.disable_recursion_pending();
    } else if (!at->is_directory()) {
      if (is_photo(at->path()))
        photos.push_back(at->path());
      else
        ++ignored;
    }
  }
  std::sort(photos.begin(), photos.end());
  return photos;
}

ImageFolder read_classes(const fs::path& directory) {
  ImageFolder folder;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (is_hidden(entry.path())) continue;
    if (!entry.is_directory()) {
      ++folder.ignored;
      continue;
    }
    folder.classes.push_back(entry.path().filename().string());
    check(is_utf8(folder.classes.back()), "[images] {}: expected the name of a class in UTF-8, got other bytes",
          entry.path().string());
  }
  std::sort(folder.classes.begin(), folder.classes.end());
  check(!folder.classes.empty(), "[images] {}: expected a folder for each class, got none", directory.string());
  for (std::size_t label = 0; label < folder.classes.size(); ++label) {
    const fs::path class_folder = directory / folder.classes[label];
    const Index ignored_before = folder.ignored;
    const auto photos = photos_below(class_folder, folder.ignored);
    check(!photos.empty(),
          "[images] {}: expected photos (.jpg, .jpeg, .png or .bmp) of the class '{}', got none and {} other files",
          class_folder.string(), folder.classes[label], folder.ignored - ignored_before);
    folder.files.insert(folder.files.end(), photos.begin(), photos.end());
    folder.labels.insert(folder.labels.end(), photos.size(), static_cast<Index>(label));
  }
  return folder;
}

}  // namespace

ImageFolder ImageFolder::select(std::span<const Index> indices) const {
  ImageFolder chosen;
  chosen.classes = classes;
  chosen.ignored = ignored;
  for (const Index i : indices) {
    check(i >= 0 && i < size(), "[images] expected a photo from 0 to {}, got {}", size() - 1, i);
    chosen.files.push_back(files[static_cast<std::size_t>(i)]);
    chosen.labels.push_back(labels[static_cast<std::size_t>(i)]);
  }
  return chosen;
}

bool is_photo(const fs::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".bmp";
}

std::vector<fs::path> photos_below(const fs::path& folder) {
  Index ignored = 0;
  return readable([&] { return photos_below(folder, ignored); });
}

ImageFolder read_image_folder(const fs::path& directory) {
  check_directory(directory);
  return readable([&] { return read_classes(directory); });
}

ImageFolder read_labelled_photos(const fs::path& directory, const fs::path& labels_json) {
  check_directory(directory);
  std::ifstream stream(labels_json);
  check(stream.good(), "[labels] {}: cannot be read", labels_json.string());
  const auto labels = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  check(labels.is_object() && !labels.empty(),
        "[labels] {}: expected a JSON object {{\"photo.jpg\": class number}}, got {}", labels_json.string(),
        labels.is_discarded() ? "no JSON"
        : labels.empty()      ? "nothing in it"
                              : labels.type_name());
  ImageFolder photos;
  for (const auto& [file, label] : labels.items()) {
    check(label.is_number_integer() && label.get<Index>() >= 0, "[labels] {}: expected a class number for '{}', got {}",
          labels_json.string(), file, label.dump());
    std::error_code error;
    check(fs::is_regular_file(directory / file, error), "[labels] {}: names '{}', which is not in {}",
          labels_json.string(), file, directory.string());
    photos.files.push_back(directory / file);
    photos.labels.push_back(label.get<Index>());
  }
  return photos;
}

}  // namespace graft::data
