#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "graft/core/dtype.h"

namespace graft::data {

/// Photos and their classes, as lists of one length; no pixel is read.
struct ImageFolder {
  std::vector<std::string> classes;          ///< names, sorted; empty where only numbers are known
  std::vector<std::filesystem::path> files;  ///< sorted by class, then by path
  std::vector<Index> labels;                 ///< a class number for each file
  Index ignored = 0;                         ///< files that are no photos by their extension

  Index size() const { return static_cast<Index>(files.size()); }
  /// The photos at `indices`, in that order, with all classes.
  ImageFolder select(std::span<const Index> indices) const;
};

/// True for .jpg, .jpeg, .png and .bmp in any case.
bool is_photo(const std::filesystem::path& file);

/// The photos in a folder and in those below it, sorted by path. Hidden files and folders are passed over. Throws Error
/// if a folder cannot be read.
std::vector<std::filesystem::path> photos_below(const std::filesystem::path& folder);

/// Reads `directory/CLASS/.../photo.jpg`: every folder is a class, whatever lies below it belongs to it. Hidden files
/// and folders are passed over. Throws Error if the directory is missing, holds no class folder, or a class has no
/// photo or a name that is not UTF-8.
ImageFolder read_image_folder(const std::filesystem::path& directory);

/// Reads photos that lie side by side in one directory, with a JSON object `{"photo.jpg": class number}`, sorted by
/// file name. Throws Error if the JSON is not such an object, is empty, or names a file that is missing.
ImageFolder read_labelled_photos(const std::filesystem::path& directory, const std::filesystem::path& labels_json);

}  // namespace graft::data
