#pragma once

#include "graft/core/preprocessing.h"

namespace graft::nn {

/// How images are prepared, as files and the command write it, in either of nlohmann's two kinds of JSON.
template <class Json>
Json preprocessing_json(const Preprocessing& p) {
  return {{"height", p.height},
          {"width", p.width},
          {"resampling", name(p.resampling)},
          {"fit", name(p.fit)},
          {"bgr", p.bgr},
          {"mean", p.mean},
          {"divisor", p.divisor},
          {"background", p.background}};
}

}  // namespace graft::nn
