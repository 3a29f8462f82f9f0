#include "graft/nn/layers.h"

#include "graft/ops/ops.h"

#include "core/format.h"

namespace graft::nn {

void Conv2d::fields(Fields& fields) {
  fields("out", options.out);
  fields("kernel", options.kernel);
  fields("stride", options.stride);
  fields("padding", options.padding);
  fields("dilation", options.dilation);
  fields("groups", options.groups);
  fields("bias", options.bias);
  fields("activation", options.activation);
  fields("initializer", options.initializer);
}

Value Conv2d::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Options& o = options;
  const Index in = lowering.shape(inputs[0]).channels();
  check(o.out > 0 && o.groups > 0 && in % o.groups == 0,
        "[conv2d] {} groups do not divide {} input channels into {} outputs", o.groups, in, o.out);
  const Index window = o.kernel.height * o.kernel.width;
  std::vector<Value> operands{
      inputs[0], lowering.parameter("weight", {o.out, o.kernel.height, o.kernel.width, in / o.groups}, o.initializer,
                                    {.in = window * in / o.groups, .out = window * o.out})};
  if (o.bias) operands.push_back(lowering.parameter("bias", {o.out}, kZeros));
  const bool fused = derivative_from_result(o.activation);
  const ops::Conv2dOptions call{o.stride, o.dilation, o.padding, o.groups, fused ? o.activation : Activation::linear};
  const Value y = lowering.call(ops::Conv2d(call, o.bias, false), std::move(operands));
  return fused ? y : lowering.call(ops::Activate(o.activation), {y});
}

void DepthwiseConv2d::fields(Fields& fields) {
  fields("kernel", options.kernel);
  fields("stride", options.stride);
  fields("padding", options.padding);
  fields("dilation", options.dilation);
  fields("multiplier", options.multiplier);
  fields("bias", options.bias);
  fields("activation", options.activation);
  fields("initializer", options.initializer);
}

Value DepthwiseConv2d::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Options& o = options;
  const Index in = lowering.shape(inputs[0]).channels();
  const Index window = o.kernel.height * o.kernel.width;
  // Keras counts the fans of a depthwise kernel [h, w, in, multiplier] like those of a full one.
  std::vector<Value> operands{
      inputs[0], lowering.parameter("weight", {o.kernel.height, o.kernel.width, in * o.multiplier}, o.initializer,
                                    {.in = window * in, .out = window * o.multiplier})};
  if (o.bias) operands.push_back(lowering.parameter("bias", {in * o.multiplier}, kZeros));
  const bool fused = derivative_from_result(o.activation);
  const ops::DepthwiseConv2dOptions call{o.stride, o.dilation, o.padding, fused ? o.activation : Activation::linear};
  const Value y = lowering.call(ops::DepthwiseConv2d(call, o.bias), std::move(operands));
  return fused ? y : lowering.call(ops::Activate(o.activation), {y});
}

void Linear::fields(Fields& fields) {
  fields("out", options.out);
  fields("bias", options.bias);
  fields("activation", options.activation);
  fields("softmax", options.softmax);
  fields("initializer", options.initializer);
}

Value Linear::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Options& o = options;
  const Index in = lowering.shape(inputs[0]).channels();
  std::vector<Value> operands{inputs[0],
                              lowering.parameter("weight", {o.out, in}, o.initializer, {.in = in, .out = o.out})};
  if (o.bias) operands.push_back(lowering.parameter("bias", {o.out}, kZeros));
  const bool fused = derivative_from_result(o.activation);
  Value y = lowering.call(ops::Linear(fused ? o.activation : Activation::linear, o.bias), std::move(operands));
  if (!fused) y = lowering.call(ops::Activate(o.activation), {y});
  return o.softmax ? lowering.call(ops::Softmax(false), {y}) : y;
}

void BatchNorm::fields(Fields& fields) {
  fields("epsilon", options.epsilon);
  fields("momentum", options.momentum);
  fields("scale", options.scale);
  fields("center", options.center);
}

Value BatchNorm::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape channels{lowering.shape(inputs[0]).channels()};
  std::vector<Value> operands{inputs[0]};
  if (options.scale) operands.push_back(lowering.parameter("gamma", channels, kOnes));
  if (options.center) operands.push_back(lowering.parameter("beta", channels, kZeros));
  operands.push_back(lowering.statistic("moving_mean", channels, 0));
  operands.push_back(lowering.statistic("moving_variance", channels, 1));
  const ops::BatchNormOptions call{
      .statistics = lowering.statistics(), .epsilon = options.epsilon, .momentum = options.momentum};
  return lowering.call(ops::BatchNorm(call, options.scale, options.center, /*residual=*/false), std::move(operands));
}

void LayerNorm::fields(Fields& fields) { fields("epsilon", options.epsilon); }

Value LayerNorm::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape channels{lowering.shape(inputs[0]).channels()};
  return lowering.call(ops::LayerNorm(options.epsilon), {inputs[0], lowering.parameter("gamma", channels, kOnes),
                                                         lowering.parameter("beta", channels, kZeros)});
}

void Activate::fields(Fields& fields) { fields("function", function); }

Value Activate::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::Activate(function), inputs);
}

Value Softmax::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::Softmax(false), inputs);
}

void ZeroPad::fields(Fields& fields) { fields("padding", padding); }

Value ZeroPad::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  check(!padding.is_same && lowering.shape(inputs[0]).rank() == 4,
        "[zero_pad] pads an image [N, H, W, C] by fixed numbers, got {}", lowering.shape(inputs[0]));
  return lowering.call(
      ops::Pad({.before = {0, padding.top, padding.left, 0}, .after = {0, padding.bottom, padding.right, 0}}), inputs);
}

namespace {

void window_fields(Fields& fields, Window& window) {
  fields("kernel", window.kernel);
  fields("stride", window.stride);
  fields("padding", window.padding);
  fields("dilation", window.dilation);
}

}  // namespace

void MaxPool::fields(Fields& fields) { window_fields(fields, window); }
Value MaxPool::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::MaxPool(window), inputs);
}

void AveragePool::fields(Fields& fields) { window_fields(fields, window); }
Value AveragePool::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::AveragePool(window), inputs);
}

void GlobalAveragePool::fields(Fields& fields) { fields("keep_dims", keep_dims); }

Value GlobalAveragePool::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Value y = lowering.call(ops::GlobalAveragePool(), inputs);
  const Shape shape = lowering.shape(y);
  return keep_dims ? lowering.call(ops::Reshape({shape[0], 1, 1, shape[1]}), {y}) : y;
}

Value GlobalMaxPool::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::GlobalMaxPool(), inputs);
}

void Dropout::fields(Fields& fields) { fields("rate", options.rate); }

Value Dropout::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  check(options.rate >= 0 && options.rate < 1, "[dropout] the rate must be in [0, 1), got {}", options.rate);
  return lowering.training() && options.rate > 0 ? lowering.call(ops::Dropout(options.rate), inputs) : inputs[0];
}

Value Flatten::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape x = lowering.shape(inputs[0]);
  Index rest = 1;
  for (int axis = 1; axis < x.rank(); ++axis) rest *= x[axis];
  return lowering.call(ops::Reshape({x[0], rest}), inputs);
}

void Reshape::fields(Fields& fields) { fields("shape", shape); }

Value Reshape::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape x = lowering.shape(inputs[0]);
  std::vector<Index> target{x[0]};
  target.insert(target.end(), shape.begin(), shape.end());
  return lowering.call(ops::Reshape(target), inputs);
}

Value Add::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  check(lowering.shape(inputs[0]) == lowering.shape(inputs[1]), "[add] expected two inputs of one shape, got {} and {}",
        lowering.shape(inputs[0]), lowering.shape(inputs[1]));
  return lowering.call(ops::Arithmetic(Binary::add), inputs);
}

Value Concat::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::Concat(-1), inputs);
}

namespace {

// A parameter in the type of the activations that it is added to.
Value like(Lowering& lowering, Value parameter, Value x) {
  const DType dtype = lowering.spec(x).dtype;
  return lowering.spec(parameter).dtype == dtype ? parameter : lowering.call(ops::Cast(dtype), {parameter});
}

}  // namespace

// A row of zeros in front of every sequence, plus the token with zeros behind it.
Value ClassToken::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape x = lowering.shape(inputs[0]);
  check(x.rank() == 3, "[class_token] expected a sequence [N, L, C], got {}", x);
  const Value token = like(lowering, lowering.parameter("weight", {1, x[2]}, truncated_normal(0.02)), inputs[0]);
  const Value longer = lowering.call(ops::Pad({.before = {0, 1, 0}, .after = {0, 0, 0}}), inputs);
  const Value first = lowering.call(ops::Pad({.before = {0, 0}, .after = {x[1], 0}}), {token});
  return lowering.call(ops::Arithmetic(Binary::add), {longer, first});
}

Value PositionEmbedding::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape x = lowering.shape(inputs[0]);
  check(x.rank() == 3, "[position_embedding] expected a sequence [N, L, C], got {}", x);
  const Value position = like(lowering, lowering.parameter("weight", {x[1], x[2]}, truncated_normal(0.02)), inputs[0]);
  return lowering.call(ops::Arithmetic(Binary::add), {inputs[0], position});
}

void SelfAttention::fields(Fields& fields) { fields("heads", options.heads); }

Value SelfAttention::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  return lowering.call(ops::Attention({.heads = options.heads}, /*qkv=*/true), inputs);
}

void TakeToken::fields(Fields& fields) { fields("position", position); }

Value TakeToken::lower(Lowering& lowering, const std::vector<Value>& inputs) const {
  const Shape x = lowering.shape(inputs[0]);
  check(x.rank() == 3 && position < x[1],
        "[take_token] expected a sequence [N, L, C] with more than {} positions, got {}", position, x);
  const Value token = lowering.call(ops::Slice({0, position, 0}, {x[0], 1, x[2]}), inputs);
  return lowering.call(ops::Reshape({x[0], x[2]}), {token});
}

}  // namespace graft::nn
