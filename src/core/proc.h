#pragma once

#include <string>

namespace graft {

/// A field of a /proc file, as text behind its colon; empty where there is no such file or field.
std::string proc_field(const char* path, const std::string& field);

}  // namespace graft
