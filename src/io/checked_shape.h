#pragma once

#include <span>
#include <string_view>

#include "core/format.h"

namespace graft::io {

/// A shape that a file declares, its elements countable. Throws Error that begins with `where`.
inline Shape checked_shape(std::string_view where, std::span<const Index> extents) {
  try {
    const Shape shape(extents);
    static_cast<void>(shape.elements());
    return shape;
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
}

}  // namespace graft::io
