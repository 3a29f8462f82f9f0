#pragma once

#include <filesystem>

#include "graft/train/sweep.h"

namespace graft::study {

/// Writes one HTML page, readable in light and dark, that needs no other file: accuracy by depth, a table of the
/// layers, and the curves of each. Throws Error if the page cannot be written; then no file is left.
///
/// network  what to call it
void write_sweep_page(const train::Sweep& sweep, const std::string& network, const std::filesystem::path& out);

}  // namespace graft::study
