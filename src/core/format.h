#pragma once

#include <utility>

#include <fmt/format.h>

#include "graft/core/device.h"
#include "graft/core/dtype.h"
#include "graft/core/error.h"
#include "graft/core/shape.h"

namespace graft {

/// Throws an Error with a formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws an Error with a formatted message unless `condition` holds.
template <class... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace graft

template <>
struct fmt::formatter<graft::Shape> : fmt::formatter<std::string> {
  auto format(const graft::Shape& shape, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(shape.to_string(), context);
  }
};

template <>
struct fmt::formatter<graft::DType> : fmt::formatter<std::string_view> {
  auto format(graft::DType dtype, fmt::format_context& context) const {
    return fmt::formatter<std::string_view>::format(graft::name(dtype), context);
  }
};

template <>
struct fmt::formatter<graft::Device> : fmt::formatter<std::string> {
  auto format(graft::Device device, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(device.to_string(), context);
  }
};
