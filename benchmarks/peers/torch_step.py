"""PyTorch's side of a comparison: the same networks and commands as benchmarks/model_step.cpp, which says what they are.

    python3 benchmarks/peers/torch_step.py --model resnet50 --work training --device cuda --precision bf16 --batch 32 --compile

It takes the form in which PyTorch is fastest: channels last, cuDNN choosing its kernels by measurement, weights in bf16 for
inference, autocast with weights in f32 for training, a fused optimizer on a GPU. --compile adds torch.compile, which records
CUDA graphs where it can.
"""

import argparse
import contextlib
import json
import resource
import struct
import sys
import time

import torch
from torch.nn import functional as F
from torch_models import MODELS


def peer_input(shape):
    """Element i is a hash of i, from -1 to 1, as in model_step.cpp: NHWC there, so numbered so here."""
    n, h, w, c = shape
    index = torch.arange(n * h * w * c, dtype=torch.int64)
    hashed = (index * 2654435761) & 0xFFFFFFFF
    values = (hashed >> 8).to(torch.float32) * 2.0**-23 - 1
    return values.reshape(shape).permute(0, 3, 1, 2)


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}"
        yield name, torch.frombuffer(data, dtype=torch.float32, offset=begin, count=(end - begin) // 4).reshape(entry["shape"])


def load_weights(model, path):
    """graft's tensors by name: convolutions [Co, Kh, Kw, Ci], depthwise ones [Kh, Kw, C]."""
    kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state, seen = model.state_dict(), set()
    for name, value in read_safetensors(path):
        layer, kind = name.rsplit("/", 1)
        key = layer.replace(".", "/") + "." + kinds.get(kind, kind)
        if key not in state:
            key = layer
        if value.dim() == 4:
            value = value.permute(0, 3, 1, 2)
        elif value.dim() == 3:
            value = value.permute(2, 0, 1).unsqueeze(1)
        assert state[key].shape == value.shape, f"{name}: {tuple(value.shape)} does not fit {tuple(state[key].shape)}"
        with torch.no_grad():
            state[key].copy_(value)
        seen.add(key)
    constant = {key for key in state if key.endswith("num_batches_tracked")}
    constant |= {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    missing = set(state) - seen - constant
    assert not missing, f"no weights for {sorted(missing)[:5]}"


class Stepper:
    def __init__(self, options):
        self.options = options
        self.training = options.work == "training"
        self.half = options.precision == "bf16"
        self.kind = torch.device(options.device).type
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
        torch.manual_seed(1)
        if options.threads:
            torch.set_num_threads(options.threads)
        self.model = MODELS[options.model](options.size)
        self.image = self.model.image
        self.input = peer_input((options.batch, self.image, self.image, 3)).to(options.device).contiguous(memory_format=torch.channels_last)
        self.labels = (torch.arange(options.batch) % 1000).to(options.device)
        self.step = None

    def describe(self):
        weights = [p for p in self.model.parameters() if p.requires_grad]
        version = torch.__version__ + (f", cuDNN {torch.backends.cudnn.version()}" if torch.cuda.is_available() else "")
        o = self.options
        return {"peer": "torch.compile" if o.compile else "torch", "version": version, "model": o.model, "work": o.work, "device": o.device,
                "precision": o.precision, "batch": o.batch, "image": self.image, "parameters": sum(p.numel() for p in weights),
                "product_flops": self.product_flops()}

    def product_flops(self):
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
            model = MODELS[self.options.model](self.image).eval()
            model(torch.empty(self.options.batch, 3, self.image, self.image))
        return counter.get_total_flops()

    def weights(self, path):
        load_weights(self.model, path)
        return {"weights": path}

    def prepare(self):
        """What the first step needs: weights may still be given before."""
        if self.step:
            return
        self.model.to(self.options.device, memory_format=torch.channels_last).train(self.training)
        if self.half and not self.training:
            self.model.bfloat16()
            self.input = self.input.bfloat16()
        forward = torch.compile(self.model, mode="reduce-overhead" if self.kind == "cuda" else "default") if self.options.compile else self.model
        if not self.training:
            def step():
                with torch.inference_mode():
                    return forward(self.input)
        else:
            optimizer = torch.optim.SGD((p for p in self.model.parameters() if p.requires_grad), lr=1e-3, momentum=0.9, fused=self.kind == "cuda" or None)

            def step():
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(self.kind, torch.bfloat16) if self.half else contextlib.nullcontext():
                    loss = F.cross_entropy(forward(self.input), self.labels)
                loss.backward()
                optimizer.step()
                return loss
        self.step = step

    def output(self):
        self.prepare()
        self.model.eval()
        with torch.inference_mode():
            with torch.autocast(self.kind, torch.bfloat16) if self.half and self.training else contextlib.nullcontext():
                logits = self.model(self.input)
        self.model.train(self.training)
        return {"output": logits.float().flatten().tolist()}

    def wait(self):
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def steps(self, count):
        self.prepare()
        for _ in range(self.options.warmup):
            self.step()
        self.options.warmup = 0
        self.wait()
        began = time.perf_counter()
        for _ in range(count):
            self.step()
        self.wait()
        seconds = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated() if self.kind == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return {"steps": count, "seconds": seconds, "peak_bytes": peak}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=MODELS, default="resnet50")
    parser.add_argument("--work", choices=["inference", "training"], default="inference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()

    def say(line):
        print(json.dumps(line), flush=True)

    try:
        stepper = Stepper(options)
        say(stepper.describe())
        if options.steps:
            say(stepper.steps(options.steps))
            return
        for line in sys.stdin:
            command, *rest = line.split()
            say({"steps": lambda: stepper.steps(int(rest[0])), "output": stepper.output, "weights": lambda: stepper.weights(rest[0])}[command]())
    except Exception as error:  # what a peer cannot do, its partner has to hear of
        say({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
