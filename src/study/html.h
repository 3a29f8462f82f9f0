#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace graft::study {

/// Text that is safe between tags and in quoted attributes.
std::string escape(std::string_view text);
/// `data:TYPE;base64,...`
std::string data_uri(std::string_view type, std::span<const std::byte> bytes);
/// The look of a page: one column, light or dark as the reader's system is.
std::string_view style();

}  // namespace graft::study
