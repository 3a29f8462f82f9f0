"""What timm makes of one of its models with random weights: files in three layouts, and the numbers to expect.

Usage: timm_oracle.py MODEL FOLDER   with MODEL one of efficientnet_lite0, timm_efficientnet_lite0, vit_tiny, vit_small, vit_base

FOLDER gets
  zip.pt, stream.pt, weights.safetensors   the same state dict, in both formats of torch.save and as safetensors
  forward.safetensors   f32: `input`, the values of graft's nodes (NHWC), and `logits`
  full.safetensors      f32: `input` and `logits` at the model's usual size, with full.pt where the weights depend on the size
"""
import os
import sys

import timm
import torch
from safetensors.torch import save_file

CLASSES = 10
BATCH = 2


def efficientnet_nodes(model):
    """graft's node (Keras's name) for each of timm's modules; timm's batch-norms hold the activation behind them."""
    nodes = {"conv_stem": "stem_conv", "bn1": "stem_activation", "conv_head": "top_conv", "bn2": "top_activation", "global_pool": "avg_pool"}
    separable = {"conv_dw": "_dwconv", "bn1": "_activation", "conv_pw": "_project_conv", "bn2": "_project_bn"}
    inverted = {"conv_pw": "_expand_conv", "bn1": "_expand_activation", "conv_dw": "_dwconv", "bn2": "_activation",
                "conv_pwl": "_project_conv", "bn3": "_project_bn"}
    for s, stage in enumerate(model.blocks):
        for b, block in enumerate(stage):
            name = f"block{s + 1}{chr(ord('a') + b)}"
            parts = inverted if hasattr(block, "conv_pwl") else separable
            nodes.update({f"blocks.{s}.{b}.{module}": name + suffix for module, suffix in parts.items()})
            if block.has_skip:
                nodes[f"blocks.{s}.{b}"] = name + "_add"
    return nodes


def vit_nodes(model):
    nodes = {name: name for name in ("patch_embed.proj", "patch_embed")}
    for i in range(len(model.blocks)):
        nodes.update({f"blocks.{i}.{part}": f"blocks.{i}.{part}"
                      for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2")})
        nodes[f"blocks.{i}"] = f"blocks.{i}.add2"
    return {**nodes, "norm": "norm"}


MODELS = {
    "efficientnet_lite0": dict(make="tf_efficientnet_lite0", size=(75, 64), nodes=efficientnet_nodes),
    "timm_efficientnet_lite0": dict(make="efficientnet_lite0", size=(75, 64), nodes=efficientnet_nodes),
    "vit_tiny": dict(make="vit_tiny_patch16_224", size=(64, 64), nodes=vit_nodes, by_size=True),
    "vit_small": dict(make="vit_small_patch16_224", size=(64, 64), nodes=vit_nodes, by_size=True),
    "vit_base": dict(make="vit_base_patch16_224", size=(64, 64), nodes=vit_nodes, by_size=True),
}
FULL = 224


def build(entry, size):
    options = dict(img_size=size) if entry.get("by_size") else {}
    return timm.create_model(entry["make"], num_classes=CLASSES, **options).eval()


@torch.no_grad()
def calibrate(model, images):
    """Random weights with which every convolution and linear layer gives numbers of order one on the images, logits included."""
    def scale(module, _, out):
        rms = out.square().mean().sqrt()
        module.weight /= rms
        if module.bias is None:
            return out / rms
        module.bias.normal_(0, 0.1)
        return out / rms + module.bias.reshape(-1, *[1] * (out.dim() - 2) if out.dim() == 4 else [])

    def statistics(module, inputs):
        x, n = inputs[0], module.num_features
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        module.running_mean.copy_(mean + 0.2 * variance.sqrt() * torch.randn(n))
        module.running_var.copy_((variance + 1e-2) * torch.empty(n).uniform_(0.5, 2))

    hooks = []
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.weight.normal_()
            if module.bias is not None:
                module.bias.zero_()
            hooks.append(module.register_forward_hook(scale))
        elif hasattr(module, "running_mean") or isinstance(module, torch.nn.LayerNorm):
            module.weight.uniform_(0.8, 1.2)
            module.bias.normal_(0, 0.2)
            if hasattr(module, "running_mean"):
                hooks.append(module.register_forward_pre_hook(statistics))
    for name in ("cls_token", "pos_embed"):
        if hasattr(model, name):
            getattr(model, name).normal_()
    model(images)
    for hook in hooks:
        hook.remove()


def channels_last(value):
    return (value.permute(0, 2, 3, 1) if value.dim() == 4 else value).contiguous().clone()


@torch.no_grad()
def forward(model, images, nodes):
    modules, tensors = dict(model.named_modules()), {"input": channels_last(images)}
    hooks = [modules[name].register_forward_hook(lambda _, __, out, node=node: tensors.__setitem__(node, channels_last(out)))
             for name, node in nodes.items()]
    tensors["logits"] = model(images)
    for hook in hooks:
        hook.remove()
    return tensors


def main(name, folder):
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(7)
    entry = MODELS[name]
    model = build(entry, entry["size"])
    calibrate(model, torch.randn(8, 3, *entry["size"]))
    state = model.state_dict()
    torch.save(state, f"{folder}/zip.pt")
    torch.save(state, f"{folder}/stream.pt", _use_new_zipfile_serialization=False)
    save_file(state, f"{folder}/weights.safetensors")
    save_file(forward(model, torch.randn(BATCH, 3, *entry["size"]), entry["nodes"](model)), f"{folder}/forward.safetensors")

    images = torch.randn(1, 3, FULL, FULL)
    if entry.get("by_size"):
        model = build(entry, FULL)
        calibrate(model, images)
        torch.save(model.state_dict(), f"{folder}/full.pt")
    save_file(forward(model, images, {}), f"{folder}/full.safetensors")


main(*sys.argv[1:])
