#pragma once

namespace graft::predict {

/// A digest of the sources that weights are folded and packed by.
const char* layouts_digest();

}  // namespace graft::predict
