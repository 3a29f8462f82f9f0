#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graft/nn/network.h"

/// The networks that graft knows by name. Layers, shapes, paddings and epsilons are those of Keras's applications
/// (timm's for the Vision Transformer), so that their weights can be imported by name.
namespace graft::models {

/// What follows the convolutions of a network without its top.
enum class Pooling : std::uint8_t { none, average, max };

struct Options {
  bool include_top = true;          ///< the classifier of the original
  Index classes = 1000;             ///< of the top
  Pooling pooling = Pooling::none;  ///< without the top
  Index height = 0;                 ///< 0 for the network's usual size
  Index width = 0;
  double alpha = 1.0;  ///< MobileNet's width multiplier
};

/// VGG (Simonyan and Zisserman 2014): 224x224, 16 or 19 weighted layers.
nn::Network vgg16(const Options& options = {});
nn::Network vgg19(const Options& options = {});
/// ResNet v1 (He et al. 2015): 224x224; the stride of a block is on its first 1x1 convolution.
nn::Network resnet50(const Options& options = {});
nn::Network resnet101(const Options& options = {});
nn::Network resnet152(const Options& options = {});
/// MobileNet v1 (Howard et al. 2017): 224x224, any width multiplier.
nn::Network mobilenet(const Options& options = {});
/// Inception v3 (Szegedy et al. 2015): 299x299.
nn::Network inception_v3(const Options& options = {});
/// EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excite, with ReLU6: 224x224. Named as
/// Keras's EfficientNetB0.
nn::Network efficientnet_lite0(const Options& options = {});
/// The same as PyTorch's timm trained it: padded by the same zeros on all sides, with its own epsilon and
/// preprocessing. timm calls the other one tf_efficientnet_lite0; their weights have the same names.
nn::Network timm_efficientnet_lite0(const Options& options = {});
/// Vision Transformers (Dosovitskiy et al. 2020) of 16x16 patches: 224x224. Named as timm's vit_*_patch16_224.
nn::Network vit_tiny(const Options& options = {});
nn::Network vit_small(const Options& options = {});
nn::Network vit_base(const Options& options = {});

/// The names that `make` knows.
std::vector<std::string> names();
/// A network by name: `vgg16`, `resnet50`, `mobilenet`, `inception_v3`, ... Throws Error for an unknown name or options
/// that do not fit.
nn::Network make(std::string_view name, const Options& options = {});

}  // namespace graft::models
