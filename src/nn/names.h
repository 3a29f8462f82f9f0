#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace graft::nn {

/// Whether a name matches a glob pattern: `*`, `?`, `[abc]`.
bool matches(std::string_view pattern, std::string_view name);

/// `; close to it: 'conv1', 'conv2'` with the names most like a wrong one, or nothing if none is like it.
std::string closest(std::string_view wrong, const std::vector<std::string>& names);

}  // namespace graft::nn
