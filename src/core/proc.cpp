#include "core/proc.h"

#include <fstream>

namespace graft {

std::string proc_field(const char* path, const std::string& field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(field)) continue;
    const auto start = line.find_first_not_of(" \t:", field.size());
    return start == std::string::npos ? "" : line.substr(start);
  }
  return {};
}

}  // namespace graft
