#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace graft {

/// Where a tensor's memory is and its kernels run.
struct Device {
  enum class Kind : std::uint8_t { cpu, cuda, emulated };

  Kind kind = Kind::cpu;
  int index = 0;

  /// Reads `cpu`, `cuda`, `cuda:1`, `emulated`. Throws Error for anything else.
  static Device parse(std::string_view text);
  std::string to_string() const;
  friend bool operator==(const Device&, const Device&) = default;
};

}  // namespace graft
