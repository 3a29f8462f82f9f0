#pragma once

namespace graft {

/// Major, minor, patch.
inline constexpr const char* kVersion = "0.1.0";

}  // namespace graft
