#include "library/operation_graph.h"

#include <algorithm>
#include <cstdint>

#include "core/format.h"

namespace graft::cudnn {
namespace {

// What cuDNN may assume of an address: at most 16 bytes, which is all that its kernels ask for.
Index alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return address % 16 == 0 ? 16 : static_cast<Index>(address & (~address + 1));
}

Value value(const Operand& x, const std::array<Index, 4>& extents, const std::array<Index, 4>& strides) {
  return {.dtype = x.dtype, .extents = extents, .strides = strides, .alignment = alignment_of(x.data)};
}

std::string_view name(Operation::Kind kind) {
  switch (kind) {
    case Operation::Kind::convolution:
      return "convolution";
    case Operation::Kind::convolution_backward_input:
      return "convolution_backward_input";
    case Operation::Kind::convolution_backward_weight:
      return "convolution_backward_weight";
    case Operation::Kind::add:
      return "add";
    case Operation::Kind::subtract:
      return "subtract";
    case Operation::Kind::multiply:
      return "multiply";
    case Operation::Kind::reciprocal_root:
      return "reciprocal_root";
    case Operation::Kind::activate:
      return "activate";
    case Operation::Kind::batch_norm:
      return "batch_norm";
    case Operation::Kind::batch_norm_backward:
      return "batch_norm_backward";
    case Operation::Kind::layer_norm:
      return "layer_norm";
    case Operation::Kind::attention:
      return "attention";
    case Operation::Kind::attention_backward:
      return "attention_backward";
  }
  return "?";
}

std::string numbers(std::span<const Index> list) { return fmt::format("{}", fmt::join(list, ",")); }

std::string describe(const Value& v) {
  if (v.place == Value::Place::constant) return fmt::format("{}", v.number);
  if (v.place == Value::Place::intermediate) return fmt::format("[{}]", numbers(v.extents));
  return fmt::format("{}[{}|{}]{}", v.dtype, numbers(v.extents), numbers(v.strides),
                     v.alignment == 16 ? "" : fmt::format("@{}", v.alignment));
}

}  // namespace

Value image(const Operand& x) {
  const Index height = x.shape[1], width = x.shape[2];
  return value(x, {x.shape[0], x.shape[3], height, width}, {height * width * x.pitch, 1, width * x.pitch, x.pitch});
}

Value rows(const Operand& x) {
  return value(x, {x.shape.rows(), x.shape.channels(), 1, 1}, {x.pitch, 1, x.pitch, x.pitch});
}

Value channels(const Operand& x) {
  const Index count = x.elements();
  return value(x, {1, count, 1, 1}, {count, 1, count, count});
}

Value row_statistics(const Operand& statistics) {
  return value(statistics, {statistics.elements(), 1, 1, 1}, {1, 1, 1, 1});
}

Value filter(const Operand& w) {
  const Index height = w.shape[1], width = w.shape[2], in = w.shape[3];
  return value(w, {w.shape[0], in, height, width}, {height * width * in, 1, width * in, in});
}

Value heads_of(const Operand& x, Index heads) {
  const Index length = x.shape[1], size = x.shape[2] / heads;
  return value(x, {x.shape[0], heads, length, size}, {length * x.pitch, size, x.pitch, 1});
}

int OperationGraph::add(const Value& v) {
  values.push_back(v);
  return static_cast<int>(values.size()) - 1;
}

int OperationGraph::intermediate(const std::array<Index, 4>& extents) {
  const auto [n, c, h, w] = extents;
  return add({.place = Value::Place::intermediate, .extents = extents, .strides = {c * h * w, 1, w * c, c}});
}

int OperationGraph::constant(double number) {
  return add({.place = Value::Place::constant, .number = static_cast<float>(number)});
}

void OperationGraph::call(Operation::Kind kind, std::initializer_list<int> inputs, std::initializer_list<int> outputs,
                          const Operation& attributes) {
  Operation operation = attributes;
  operation.kind = kind;
  std::copy(inputs.begin(), inputs.end(), operation.inputs.begin());
  std::copy(outputs.begin(), outputs.end(), operation.outputs.begin());
  operations.push_back(operation);
}

int OperationGraph::combine(Operation::Kind kind, int a, int b) {
  const int y = intermediate(values[static_cast<std::size_t>(a)].extents);
  call(kind, {a, b}, {y});
  return y;
}

std::string OperationGraph::describe() const {
  std::string text;
  for (const Operation& o : operations) {
    if (!text.empty()) text += "; ";
    text += name(o.kind);
    if (o.activation != Activation::linear) text += fmt::format(" {}", graft::name(o.activation));
    const auto list = [&](std::span<const int> indices) {
      for (const int index : indices)
        if (index >= 0) text += fmt::format(" {}", index);
    };
    list(o.inputs);
    text += " ->";
    list(o.outputs);
    if (o.kind <= Operation::Kind::convolution_backward_weight)
      text += fmt::format(" stride {} dilation {} before {} after {}", numbers(o.stride), numbers(o.dilation),
                          numbers(o.before), numbers(o.after));
    if (o.kind >= Operation::Kind::attention) text += fmt::format(" scale {}", o.scale);
  }
  for (std::size_t i = 0; i < values.size(); ++i) text += fmt::format(" {}={}", i, cudnn::describe(values[i]));
  return text + (tensor_cores ? "" : " without tensor cores");
}

Operation window_of(const WindowGeometry& g) {
  return {.stride = {g.stride_height, g.stride_width},
          .dilation = {g.dilation_height, g.dilation_width},
          .before = {g.pad_top, g.pad_left},
          .after = {g.pad_bottom, g.pad_right}};
}

}  // namespace graft::cudnn
