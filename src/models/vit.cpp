#include "models/support.h"

namespace graft::models {
namespace {

constexpr Index kPatch = 16;
constexpr int kDepth = 12;
constexpr nn::Initializer kInitializer = nn::truncated_normal(0.02);

nn::Network vit(std::string_view name, const Options& o, Index width, Index heads) {
  nn::Builder b = start(name, o, 224, kPatch);
  Node x =
      b.add("patch_embed.proj",
            nn::Conv2d({.out = width, .kernel = kPatch, .stride = kPatch, .initializer = nn::kLecunNormal}), b.input());
  x = b.add("patch_embed", nn::Reshape({-1, width}), x);  // one token a patch
  x = b.add("cls_token", nn::ClassToken(), x);
  x = b.add("pos_embed", nn::PositionEmbedding(), x);
  for (int i = 0; i < kDepth; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    Node y = b.add(block + "norm1", nn::LayerNorm(), x);
    y = b.add(block + "attn.qkv", nn::Linear({.out = 3 * width, .initializer = kInitializer}), y);
    y = b.add(block + "attn", nn::SelfAttention({.heads = heads}), y);
    y = b.add(block + "attn.proj", nn::Linear({.out = width, .initializer = kInitializer}), y);
    x = b.add(block + "add1", nn::Add(), std::vector<Node>{x, y});
    y = b.add(block + "norm2", nn::LayerNorm(), x);
    y = b.add(block + "mlp.fc1", nn::Linear({.out = 4 * width, .initializer = kInitializer}), y);
    y = b.add(block + "mlp.act", nn::Activate(Activation::gelu), y);
    y = b.add(block + "mlp.fc2", nn::Linear({.out = width, .initializer = kInitializer}), y);
    x = b.add(block + "add2", nn::Add(), std::vector<Node>{x, y});
  }
  x = b.add("norm", nn::LayerNorm(), x);
  x = b.add("class_token_out", nn::TakeToken(0), x);
  b.features(x);
  if (o.include_top) x = b.add("head", nn::Linear({.out = o.classes, .softmax = true, .initializer = kInitializer}), x);
  Preprocessing preprocessing = tf_preprocessing();
  preprocessing.resampling = Resampling::bicubic;
  return with_preprocessing(b.build(x), preprocessing);
}

}  // namespace

nn::Network vit_tiny(const Options& options) { return vit("vit_tiny", options, 192, 3); }
nn::Network vit_small(const Options& options) { return vit("vit_small", options, 384, 6); }
nn::Network vit_base(const Options& options) { return vit("vit_base", options, 768, 12); }

}  // namespace graft::models
