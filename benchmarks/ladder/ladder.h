#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/context.h"
#include "graft/core/tensor.h"

#include "ladder/rungs.h"

namespace graft::ladder {

using Tensors = std::vector<Tensor>;

/// One kernel of a ladder. A null says that this build has no such device, or for it no such code.
struct Rung {
  std::string name;
  DType dtype = DType::f32;
  Run* cuda = nullptr;
  Run* emulated = nullptr;
  bool hopper = false;  ///< needs code for sm_90a and a GPU of compute capability 9.0

  /// Why it cannot run on a device of this architecture, in words, or null.
  const char* obstacle(Device device, std::string_view architecture) const;
  /// Whether it calls the kernel that graft uses, which a library's can stand beside.
  bool in_use() const { return name.find("in_use") != std::string::npos; }
};

/// The right result, and how far from it rounding may lead: each element by at most `length` roundings of the sums and
/// `factors` roundings to the operands' type, on the scale of its `magnitude`, the sum of the absolute values that were
/// added up for it.
struct Answer {
  Tensor y, magnitude;  ///< f64
  double length = 0;
  double factors = 0;
};

/// A ladder's problem at one size.
struct Problem {
  std::string text;  ///< `A [37, 40] B [40, 72]`
  Tensors inputs;    ///< f64, on the CPU
  Shape result;
  double operations = 0;  ///< multiplications and additions
  double elements = 0;    ///< of the operands, each moved once: the least that memory must move
  std::function<Answer(const Tensors& inputs)> answer;
};

/// A problem, the kernels that compute it one better than the other, and the sizes at which they are looked at.
struct Ladder {
  using Sizes = std::vector<Index>;

  std::string name;
  std::vector<Rung> rungs;
  std::vector<Sizes> checked;  ///< small ones with edges
  Sizes counted;               ///< at which the emulated device counts what is asked of memory
  Sizes counted_in_use;        ///< the same for the kernel in use, which chooses its tiles by the size
  Sizes measured;              ///< at which a GPU is timed
  std::function<Problem(const Sizes&)> problem;
};

const std::vector<Ladder>& ladders();

/// The inputs of a problem as a rung takes them, on a device.
Tensors operands(const Rung& rung, const Tensors& inputs, Device device);
/// Runs the rung in the current Context.
void run(const Rung& rung, const Tensors& inputs, const Tensor& to);

/// Compares the rung with graft's own CPU kernel in f64 on the same rounded operands. Returns the largest error as a
/// share of what rounding allows; throws Error naming rung, problem and element where that is more than 1.
double check(const Rung& rung, const Problem& problem, Device device);

/// What a GPU reaches at best (see docs/ladders.md), of operations and bytes a second.
struct Roofline {
  std::string_view gpu;  ///< whose ceilings these are
  double f32_operations = 0, bf16_operations = 0, bytes = 0;

  /// Of the GPU with this name; of one that is not known those of an H100.
  static Roofline of(std::string_view gpu);
  double seconds(const Problem& problem, DType dtype) const;
};

/// Milliseconds a run, the median of several after a warm-up, or why the engine does not have the kernel.
struct Timing {
  std::optional<double> milliseconds;
  std::string obstacle;
};
Timing measure(const Rung& rung, const Problem& problem, Device device, Engine engine);

}  // namespace graft::ladder
