#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace graft::data {

/// Whether a name can stand in the JSON that a network and its run are described by.
inline bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace graft::data
