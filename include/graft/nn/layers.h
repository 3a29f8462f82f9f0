#pragma once

#include "graft/nn/layer.h"

/// graft's layers. Each takes its options as a struct with designated initialisers; sizes are inferred from the inputs.
namespace graft::nn {

/// 2-D convolution, with a fused activation. Parameters: weight [out, kernel, kernel, in / groups], bias [out].
struct Conv2d final : Layer {
  struct Options {
    Index out = 0;
    Extent kernel = 1;
    Extent stride = 1;
    Padding padding = kValid;
    Extent dilation = 1;
    Index groups = 1;
    bool bias = true;
    Activation activation = Activation::linear;
    Initializer initializer = kGlorotUniform;
  } options;

  Conv2d() = default;
  explicit Conv2d(const Options& o) : options(o) {}
  std::string_view type() const override { return "conv2d"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Convolves each channel by itself, `multiplier` times. Parameters: weight [kernel, kernel, in * multiplier], bias [in
/// * multiplier].
struct DepthwiseConv2d final : Layer {
  struct Options {
    Extent kernel = 3;
    Extent stride = 1;
    Padding padding = kValid;
    Extent dilation = 1;
    Index multiplier = 1;
    bool bias = true;
    Activation activation = Activation::linear;
    Initializer initializer = kGlorotUniform;
  } options;

  DepthwiseConv2d() = default;
  explicit DepthwiseConv2d(const Options& o) : options(o) {}
  std::string_view type() const override { return "depthwise_conv2d"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// y = x W^T + b over the last axis, with an activation or a softmax behind it. Parameters: weight [out, in], bias
/// [out].
struct Linear final : Layer {
  struct Options {
    Index out = 0;
    bool bias = true;
    Activation activation = Activation::linear;
    bool softmax = false;
    Initializer initializer = kGlorotUniform;
  } options;

  Linear() = default;
  explicit Linear(const Options& o) : options(o) {}
  std::string_view type() const override { return "linear"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Batch normalisation over all axes but the last. Parameters: gamma if `scale`, beta if `center`, and the statistics
/// moving_mean and moving_variance, updated as momentum * moving + (1 - momentum) * batch. The defaults are Keras's.
struct BatchNorm final : Layer {
  struct Options {
    double epsilon = 1e-3;
    double momentum = 0.99;
    bool scale = true;
    bool center = true;
  } options;

  BatchNorm() = default;
  explicit BatchNorm(const Options& o) : options(o) {}
  std::string_view type() const override { return "batch_norm"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Layer normalisation over the last axis. Parameters: gamma, beta.
struct LayerNorm final : Layer {
  struct Options {
    double epsilon = 1e-6;
  } options;

  LayerNorm() = default;
  explicit LayerNorm(const Options& o) : options(o) {}
  std::string_view type() const override { return "layer_norm"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// A function of each element.
struct Activate final : Layer {
  Activation function = Activation::relu;

  Activate() = default;
  explicit Activate(Activation f) : function(f) {}
  std::string_view type() const override { return "activation"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Softmax over the last axis.
struct Softmax final : Layer {
  std::string_view type() const override { return "softmax"; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Zeros around an image.
struct ZeroPad final : Layer {
  Padding padding;

  ZeroPad() = default;
  explicit ZeroPad(const Padding& p) : padding(p) {}
  std::string_view type() const override { return "zero_pad"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// The largest value in each window.
struct MaxPool final : Layer {
  Window window;

  MaxPool() = default;
  explicit MaxPool(const Window& w) : window(w) {}
  std::string_view type() const override { return "max_pool"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// The mean of each window; padding is not counted.
struct AveragePool final : Layer {
  Window window;

  AveragePool() = default;
  explicit AveragePool(const Window& w) : window(w) {}
  std::string_view type() const override { return "average_pool"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// The mean of each channel: [N, H, W, C] -> [N, C], or [N, 1, 1, C] with `keep_dims`.
struct GlobalAveragePool final : Layer {
  bool keep_dims = false;

  explicit GlobalAveragePool(bool keep = false) : keep_dims(keep) {}
  std::string_view type() const override { return "global_average_pool"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// The largest value of each channel: [N, H, W, C] -> [N, C].
struct GlobalMaxPool final : Layer {
  std::string_view type() const override { return "global_max_pool"; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// In training, zeroes a share `rate` of the elements and scales the others by 1 / (1 - rate). Nothing otherwise.
struct Dropout final : Layer {
  struct Options {
    double rate = 0.5;
  } options;

  Dropout() = default;
  explicit Dropout(const Options& o) : options(o) {}
  std::string_view type() const override { return "dropout"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// [N, ...] -> [N, all the rest], in row-major order: height, width, channel.
struct Flatten final : Layer {
  std::string_view type() const override { return "flatten"; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// [N, ...] -> [N, shape...]; one extent may be -1.
struct Reshape final : Layer {
  std::vector<Index> shape;

  Reshape() = default;
  explicit Reshape(std::vector<Index> s) : shape(std::move(s)) {}
  std::string_view type() const override { return "reshape"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// The sum of two inputs of the same shape.
struct Add final : Layer {
  std::string_view type() const override { return "add"; }
  int arity() const override { return 2; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Inputs side by side along the last axis.
struct Concat final : Layer {
  std::string_view type() const override { return "concat"; }
  int arity() const override { return -1; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Puts one learned token before a sequence: [N, L, C] -> [N, L + 1, C]. Parameters: weight [1, C].
struct ClassToken final : Layer {
  std::string_view type() const override { return "class_token"; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Adds a learned vector to each position of a sequence [N, L, C]. Parameters: weight [L, C].
struct PositionEmbedding final : Layer {
  std::string_view type() const override { return "position_embedding"; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// Multi-head attention of a sequence with itself, from queries, keys and values side by side: [N, L, 3 C] -> [N, L, C]
/// (Vaswani et al. 2017).
struct SelfAttention final : Layer {
  struct Options {
    Index heads = 1;
  } options;

  SelfAttention() = default;
  explicit SelfAttention(const Options& o) : options(o) {}
  std::string_view type() const override { return "self_attention"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

/// One position of a sequence: [N, L, C] -> [N, C].
struct TakeToken final : Layer {
  Index position = 0;

  explicit TakeToken(Index p = 0) : position(p) {}
  std::string_view type() const override { return "take_token"; }
  void fields(Fields& fields) override;
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override;
};

}  // namespace graft::nn
