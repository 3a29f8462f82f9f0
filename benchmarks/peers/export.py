"""Writes a network of torch_models with the weights of a network file as TorchScript or ONNX, and beside it what it counts, as JSON.

    python3 benchmarks/peers/export.py --weights resnet50.safetensors --model resnet50 --batch 16 --format onnx --out resnet50.onnx
"""

import argparse
import json
import pathlib

import torch
from torch_models import MODELS
from torch_step import count_operations, load_weights

from protocol import NetworkFile


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--format", choices=["onnx", "torchscript"], required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()

    network = NetworkFile(options.weights)
    model = MODELS[options.model](network.graph["input"]["shape"][0]).eval()
    parameters = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
    load_weights(model, network)
    model.requires_grad_(False)
    counts = {"image": model.image, "batch": options.batch, "parameters": parameters,
              "product_flops": count_operations(options.model, model.image, options.batch)}
    example = torch.zeros(options.batch, 3, model.image, model.image)
    if options.precision == "bf16":
        model, example = model.bfloat16(), example.bfloat16()
    if options.format == "onnx":
        torch.onnx.export(model, (example,), options.out, input_names=["images"], output_names=["logits"], dynamo=True, external_data=False, verbose=False)
    else:
        model = model.to(memory_format=torch.channels_last)
        torch.jit.trace(model, example.contiguous(memory_format=torch.channels_last)).save(str(options.out))
    pathlib.Path(f"{options.out}.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
