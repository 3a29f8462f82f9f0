#pragma once

#include <functional>

#include "graft/autograd/tape.h"

namespace graft::autograd {

struct GradientCheckOptions {
  double step = 1e-5;  ///< of the central difference, relative to the element where that is larger than 1
  double tolerance =
      1e-6;  ///< for the largest error, relative to the largest gradient of that input or 1, whichever is larger
  Index probes = 100;      ///< elements of each input that are compared; all if it has no more, else a random choice
  std::uint64_t seed = 0;  ///< of the choice, and of the weights that make one number out of the result
};

/// How far a gradient is from its central difference, where it is farthest.
struct GradientReport {
  bool passed = true;
  double error = 0;     ///< |analytic - numeric| relative to the largest gradient of the input or 1
  int input = 0;        ///< which input, and
  Index element = 0;    ///< which element of it in row-major order
  double analytic = 0;  ///< from backward
  double numeric = 0;   ///< (f(x + step) - f(x - step)) / (2 step)
  Index compared = 0;   ///< elements in all

  /// `passed, 42 elements, worst error 1.2e-10: input 1, element 3: backward 0.5, difference 0.5`.
  std::string to_string() const;
};

/// Compares backward with central differences in f64, for a function of tensors that may use any ops, your own
/// included. A result of several elements is weighted by random numbers and summed, so that every element counts.
///
/// f       called with f64 copies of the floating inputs, and the same generator each time: dropout may be in it
/// inputs  the points; integer inputs are passed through and not differentiated
/// throws  Error if f's result is not f64 or depends on none of the inputs
///
/// The function must be smooth at the inputs: relu near 0 has a difference, but no derivative.
GradientReport check_gradients(const std::function<Tensor(std::span<const Tensor>)>& f, std::span<const Tensor> inputs,
                               const GradientCheckOptions& options = {});

}  // namespace graft::autograd
