"""The networks of a comparison as a PyTorch user writes them, layer by layer those of graft's zoo.

They are Keras's VGG16, ResNet50 (v1: a block's stride is on its first 1x1 convolution), MobileNet and InceptionV3, and timm's
ViT-B/16. torchvision's networks of these names differ in strides, paddings, epsilons and biases, so their times would answer
another question. Modules have graft's names for their layers, with `/` for the dots that PyTorch forbids in names, so that
weights can be handed over by name.
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, kernel, stride=1, padding=0, bias=True, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias, groups=groups)


class Named(nn.Module):
    """A module whose children are reached by graft's names: self["conv1_bn"]. For square images, of its usual size if none is given."""

    usual = 224

    def __init__(self, image=0):
        super().__init__()
        self.image = image or self.usual

    def add(self, name, module):
        self.add_module(name.replace(".", "/"), module)

    def __getitem__(self, name):
        return self._modules[name.replace(".", "/")]


class VGG16(Named):
    def __init__(self, image=0):
        super().__init__(image)
        self.blocks, channels = [], 3
        for block, depth in enumerate([2, 2, 3, 3, 3], 1):
            names = [f"block{block}_conv{i}" for i in range(1, depth + 1)]
            for name in names:
                self.add(name, conv(channels, min(512, 32 << block), 3, padding=1))
                channels = min(512, 32 << block)
            self.blocks.append(names)
        self.add("fc1", nn.Linear((self.image // 32) ** 2 * 512, 4096))
        self.add("fc2", nn.Linear(4096, 4096))
        self.add("predictions", nn.Linear(4096, 1000))

    def forward(self, x):
        for names in self.blocks:
            for name in names:
                x = F.relu(self[name](x), inplace=True)
            x = F.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens channels last, and so do fc1's weights
        x = F.relu(self["fc1"](x), inplace=True)
        return self["predictions"](F.relu(self["fc2"](x), inplace=True))


class ResNet50(Named):
    def __init__(self, image=0):
        super().__init__(image)
        self.add("conv1_conv", conv(3, 64, 7, 2, 3))
        self.add("conv1_bn", self.norm(64))
        self.blocks, channels = [], 64
        for stage, depth in enumerate([3, 4, 6, 3]):
            filters = 64 << stage
            for block in range(depth):
                name = f"conv{stage + 2}_block{block + 1}"
                stride = 2 if block == 0 and stage > 0 else 1
                if block == 0:
                    self.add(name + "_0_conv", conv(channels, 4 * filters, 1, stride))
                    self.add(name + "_0_bn", self.norm(4 * filters))
                for i, module in enumerate([conv(channels, filters, 1, stride), conv(filters, filters, 3, padding=1), conv(filters, 4 * filters, 1)], 1):
                    self.add(f"{name}_{i}_conv", module)
                    self.add(f"{name}_{i}_bn", self.norm(module.out_channels))
                self.blocks.append((name, block == 0))
                channels = 4 * filters
        self.add("predictions", nn.Linear(2048, 1000))

    @staticmethod
    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1.001e-5, momentum=0.01)

    def forward(self, x):
        x = F.relu(self["conv1_bn"](self["conv1_conv"](x)), inplace=True)
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)  # after a ReLU, zeros are as good as minus infinity
        for name, project in self.blocks:
            shortcut = self[name + "_0_bn"](self[name + "_0_conv"](x)) if project else x
            x = F.relu(self[name + "_1_bn"](self[name + "_1_conv"](x)), inplace=True)
            x = F.relu(self[name + "_2_bn"](self[name + "_2_conv"](x)), inplace=True)
            x = F.relu(self[name + "_3_bn"](self[name + "_3_conv"](x)) + shortcut, inplace=True)
        return self["predictions"](x.mean((2, 3)))


class MobileNet(Named):
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)]

    def __init__(self, image=0):
        super().__init__(image)
        self.add("conv1", conv(3, 32, 3, 2, bias=False))
        self.add("conv1_bn", self.norm(32))
        channels = 32
        for i, (filters, stride) in enumerate(self.blocks, 1):
            self.add(f"conv_dw_{i}", conv(channels, channels, 3, stride, 1 if stride == 1 else 0, bias=False, groups=channels))
            self.add(f"conv_dw_{i}_bn", self.norm(channels))
            self.add(f"conv_pw_{i}", conv(channels, filters, 1, bias=False))
            self.add(f"conv_pw_{i}_bn", self.norm(filters))
            channels = filters
        self.dropout = nn.Dropout(1e-3)
        self.add("conv_preds", conv(1024, 1000, 1))

    @staticmethod
    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        # A stride of 2 pads below and to the right alone.
        x = F.relu6(self["conv1_bn"](self["conv1"](F.pad(x, (0, 1, 0, 1)))), inplace=True)
        for i, (_, stride) in enumerate(self.blocks, 1):
            if stride == 2:
                x = F.pad(x, (0, 1, 0, 1))
            x = F.relu6(self[f"conv_dw_{i}_bn"](self[f"conv_dw_{i}"](x)), inplace=True)
            x = F.relu6(self[f"conv_pw_{i}_bn"](self[f"conv_pw_{i}"](x)), inplace=True)
        return self["conv_preds"](self.dropout(x.mean((2, 3), keepdim=True))).flatten(1)


class InceptionV3(Named):
    """Convolutions are numbered in the order of their creation, which is that of their use."""

    usual = 299

    def __init__(self, image=0):
        super().__init__(image)
        self.count = 0
        self.plan = [self.conv(3, 32, 3, 2, 0), self.conv(32, 32, 3, 1, 0), self.conv(32, 64, 3), self.conv(64, 80, 1), self.conv(80, 192, 3, 1, 0)]
        self.a, channels = [], 192
        for pool in [32, 64, 64]:
            self.a.append([[self.conv(channels, 64, 1)], [self.conv(channels, 48, 1), self.conv(48, 64, 5)],
                           [self.conv(channels, 64, 1), self.conv(64, 96, 3), self.conv(96, 96, 3)], [self.conv(channels, pool, 1)]])
            channels = 64 + 64 + 96 + pool
        self.to_b = [[self.conv(channels, 384, 3, 2, 0)], [self.conv(channels, 64, 1), self.conv(64, 96, 3), self.conv(96, 96, 3, 2, 0)]]
        self.b, channels = [], 768
        for f in [128, 160, 160, 192]:
            self.b.append([[self.conv(channels, 192, 1)], [self.conv(channels, f, 1), self.conv(f, f, (1, 7)), self.conv(f, 192, (7, 1))],
                           [self.conv(channels, f, 1), self.conv(f, f, (7, 1)), self.conv(f, f, (1, 7)), self.conv(f, f, (7, 1)), self.conv(f, 192, (1, 7))],
                           [self.conv(channels, 192, 1)]])
        self.to_c = [[self.conv(768, 192, 1), self.conv(192, 320, 3, 2, 0)],
                     [self.conv(768, 192, 1), self.conv(192, 192, (1, 7)), self.conv(192, 192, (7, 1)), self.conv(192, 192, 3, 2, 0)]]
        self.c, channels = [], 1280
        for _ in range(2):
            self.c.append(([self.conv(channels, 320, 1)], [self.conv(channels, 384, 1)], [self.conv(384, 384, (1, 3))], [self.conv(384, 384, (3, 1))],
                           [self.conv(channels, 448, 1), self.conv(448, 384, 3)], [self.conv(384, 384, (1, 3))], [self.conv(384, 384, (3, 1))],
                           [self.conv(channels, 192, 1)]))
            channels = 2048
        self.add("predictions", nn.Linear(2048, 1000))

    def conv(self, inputs, outputs, kernel, stride=1, padding="same"):
        suffix = f"_{self.count}" if self.count else ""
        self.count += 1
        self.add("conv2d" + suffix, conv(inputs, outputs, kernel, stride, padding, bias=False))
        norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        norm.weight.requires_grad_(False)  # Keras's has no scale here; with none at all PyTorch would leave cuDNN's kernel
        self.add("batch_normalization" + suffix, norm)
        return suffix

    def run(self, x, suffixes):
        for suffix in suffixes:
            x = F.relu(self["batch_normalization" + suffix](self["conv2d" + suffix](x)), inplace=True)
        return x

    @staticmethod
    def average(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def forward(self, x):
        x = F.max_pool2d(self.run(x, self.plan[:3]), 3, 2)
        x = F.max_pool2d(self.run(x, self.plan[3:]), 3, 2)
        for one, five, three, pool in self.a:
            x = torch.cat([self.run(x, one), self.run(x, five), self.run(x, three), self.run(self.average(x), pool)], 1)
        x = torch.cat([self.run(x, self.to_b[0]), self.run(x, self.to_b[1]), F.max_pool2d(x, 3, 2)], 1)
        for one, seven, twice, pool in self.b:
            x = torch.cat([self.run(x, one), self.run(x, seven), self.run(x, twice), self.run(self.average(x), pool)], 1)
        x = torch.cat([self.run(x, self.to_c[0]), self.run(x, self.to_c[1]), F.max_pool2d(x, 3, 2)], 1)
        for one, stem, wide, tall, deep, deep_wide, deep_tall, pool in self.c:
            s, d = self.run(x, stem), self.run(x, deep)
            x = torch.cat([self.run(x, one), self.run(s, wide), self.run(s, tall), self.run(d, deep_wide), self.run(d, deep_tall),
                           self.run(self.average(x), pool)], 1)
        return self["predictions"](x.mean((2, 3)))


class ViTBase(Named):
    width, heads, depth = 768, 12, 12

    def __init__(self, image=0):
        super().__init__(image)
        w = self.width
        self.add("patch_embed.proj", conv(3, w, 16, 16))
        self.cls_token = nn.Parameter(torch.zeros(1, w))
        self.pos_embed = nn.Parameter(torch.zeros((self.image // 16) ** 2 + 1, w))
        for i in range(self.depth):
            self.add(f"blocks.{i}.norm1", nn.LayerNorm(w, eps=1e-6))
            self.add(f"blocks.{i}.attn.qkv", nn.Linear(w, 3 * w))
            self.add(f"blocks.{i}.attn.proj", nn.Linear(w, w))
            self.add(f"blocks.{i}.norm2", nn.LayerNorm(w, eps=1e-6))
            self.add(f"blocks.{i}.mlp.fc1", nn.Linear(w, 4 * w))
            self.add(f"blocks.{i}.mlp.fc2", nn.Linear(4 * w, w))
        self.add("norm", nn.LayerNorm(w, eps=1e-6))
        self.add("head", nn.Linear(w, 1000))

    def forward(self, x):
        n = x.shape[0]
        x = self["patch_embed.proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(n, 1, -1).to(x.dtype), x], 1) + self.pos_embed
        for i in range(self.depth):
            block = f"blocks.{i}."
            y = self[block + "attn.qkv"](self[block + "norm1"](x))
            q, k, v = y.reshape(n, -1, 3, self.heads, self.width // self.heads).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, self.width)
            x = x + self[block + "attn.proj"](y)
            y = F.gelu(self[block + "mlp.fc1"](self[block + "norm2"](x)))
            x = x + self[block + "mlp.fc2"](y)
        return self["head"](self["norm"](x)[:, 0])


MODELS = {"vgg16": VGG16, "resnet50": ResNet50, "mobilenet": MobileNet, "inception_v3": InceptionV3, "vit_base": ViTBase}
