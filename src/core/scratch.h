#pragma once

#include <cstddef>
#include <memory>

#include "graft/core/storage.h"

namespace graft {

/// Memory of the CPU for the time of a call, `bytes` of it or more: this thread's, which keeps it for its next call. It
/// is taken as long as somebody holds it.
std::shared_ptr<Storage> scratch(std::size_t bytes);

}  // namespace graft
