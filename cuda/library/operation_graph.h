#pragma once

#include <array>
#include <compare>
#include <initializer_list>
#include <string>
#include <vector>

#include "graft/core/activation.h"
#include "graft/core/operand.h"
#include "graft/core/window.h"

// A call of cuDNN as plain data: the tensors it reads and writes, and the operations between them. A kernel describes
// its call with one; equal Graphs are one plan; nothing here needs cuDNN or a GPU.
namespace graft::cudnn {

/// A tensor of an OperationGraph, in cuDNN's order of axes: an image is [N, C, H, W], and its strides say that it lies
/// in NHWC.
struct Value {
  enum class Place : std::uint8_t {
    memory,        ///< an operand of the call
    intermediate,  ///< f32, between two operations, never stored
    constant,      ///< one f32 number
  };

  Place place = Place::memory;
  DType dtype = DType::f32;
  std::array<Index, 4> extents{1, 1, 1, 1}, strides{1, 1, 1, 1};
  Index alignment = 16;  ///< of the operand's address, in bytes
  float number = 0;      ///< of a constant

  auto operator<=>(const Value&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 means the comparison
};

/// An image operand [N, H, W, C].
Value image(const Operand& x);
/// A matrix of rows of channels, as an image of one pixel a row.
Value rows(const Operand& x);
/// One number a channel, [C].
Value channels(const Operand& x);
/// One number a row of `x`.
Value row_statistics(const Operand& statistics);
/// A convolution's weights [Co, Kh, Kw, Ci / groups].
Value filter(const Operand& w);
/// The heads of [N, L, heads d], as [N, heads, L, d].
Value heads_of(const Operand& x, Index heads);

/// An operation of an OperationGraph. `inputs` and `outputs` are numbers of values, -1 for one that is not there.
struct Operation {
  enum class Kind : std::uint8_t {
    convolution,                  ///< x, w -> y
    convolution_backward_input,   ///< dz, w -> dx
    convolution_backward_weight,  ///< dz, x -> dw
    add,                          ///< a, b -> y, as all below: broadcast along axes of extent 1
    subtract,
    multiply,
    reciprocal_root,      ///< x -> 1 / sqrt(x)
    activate,             ///< x -> y
    batch_norm,           ///< x, gamma, beta, epsilon -> y, mean, inverse deviation
    batch_norm_backward,  ///< dy, x, gamma, mean, inverse deviation -> dx, dgamma, dbeta
    layer_norm,           ///< x, gamma, beta, epsilon -> y, mean, inverse deviation
    attention,            ///< q, k, v -> y, log sums
    attention_backward,   ///< q, k, v, y, dy, log sums -> dq, dk, dv
  };

  Kind kind{};
  std::array<int, 6> inputs{-1, -1, -1, -1, -1, -1};
  std::array<int, 3> outputs{-1, -1, -1};
  /// Of convolutions: height, then width.
  std::array<Index, 2> stride{1, 1}, dilation{1, 1}, before{0, 0}, after{0, 0};
  Activation activation = Activation::linear;
  float scale = 1;  ///< of attention's scores

  auto operator<=>(const Operation&) const = default;  // NOLINT(modernize-use-nullptr): the same
};

struct OperationGraph {
  std::vector<Value> values = {};
  std::vector<Operation> operations = {};
  bool tensor_cores = true;  ///< may round f32 factors to TF32

  auto operator<=>(const OperationGraph&) const = default;

  /// Adds a value and returns its number.
  int add(const Value& value);
  int intermediate(const std::array<Index, 4>& extents);
  int constant(double number);
  /// Adds an operation.
  void call(Operation::Kind kind, std::initializer_list<int> inputs, std::initializer_list<int> outputs,
            const Operation& attributes = {});
  /// y = a op b, into an intermediate value of a's extents, which is returned.
  int combine(Operation::Kind kind, int a, int b);

  /// All of it on one line: the name of a stored choice, and what errors call it.
  std::string describe() const;
};

/// The numbers of a window, for an Operation.
Operation window_of(const WindowGeometry& g);

/// Where the operands of a call lie: an address for each value of its OperationGraph, null for those without memory.
using Addresses = std::vector<void*>;

}  // namespace graft::cudnn
