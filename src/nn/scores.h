#pragma once

#include "graft/nn/network.h"

namespace graft::nn {

/// Throws Error, which `who` begins, if a network's output is neither a softmax nor what one is computed from: if what
/// makes it, but for pools and views, is an activation or a norm. As a classifier it would be trained and measured
/// without a word, on numbers that are no scores.
void check_gives_scores(std::string_view who, const Network& network, const Program& program);

}  // namespace graft::nn
