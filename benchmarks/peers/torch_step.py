"""PyTorch's side of a comparison: the same networks and commands as benchmarks/model_step.cpp, which says what they are.

    python3 benchmarks/peers/torch_step.py --model resnet50 --work training --device cuda --precision bf16 --batch 32 --compile

It takes the form in which PyTorch is fastest: channels last, cuDNN choosing its kernels by measurement, weights in bf16 for
inference, autocast with weights in f32 for training, a fused optimizer on a GPU. --compile adds torch.compile, which records
CUDA graphs where it can.
"""

import contextlib

import torch
from torch.nn import functional as F
from torch_models import MODELS

import protocol


def peer_input(shape):
    """Element i is a hash of i, from -1 to 1, as in model_step.cpp: NHWC there, so numbered so here."""
    n, h, w, c = shape
    index = torch.arange(n * h * w * c, dtype=torch.int64)
    hashed = (index * 2654435761) & 0xFFFFFFFF
    values = (hashed >> 8).to(torch.float32) * 2.0**-23 - 1
    return values.reshape(shape).permute(0, 3, 1, 2)


def load_weights(model, network):
    """graft's tensors by name: convolutions [Co, Kh, Kw, Ci], depthwise ones [Kh, Kw, C]. What is frozen there is frozen here."""
    kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state, parameters, seen = model.state_dict(), dict(model.named_parameters()), set()
    constant = {key for key in state if key.endswith("num_batches_tracked")}
    constant |= {name for name, parameter in parameters.items() if not parameter.requires_grad}
    for name, shape, data in network.tensors:
        layer, kind = name.rsplit("/", 1)
        key = layer.replace(".", "/") + "." + kinds.get(kind, kind)
        if key not in state:
            key = layer
        value = torch.frombuffer(data, dtype=torch.float32).reshape(shape)
        if value.dim() == 4:
            value = value.permute(0, 3, 1, 2)
        elif value.dim() == 3:
            value = value.permute(2, 0, 1).unsqueeze(1)
        assert state[key].shape == value.shape, f"{name}: {tuple(value.shape)} does not fit {tuple(state[key].shape)}"
        with torch.no_grad():
            state[key].copy_(value)
        if layer in network.frozen and key in parameters:
            parameters[key].requires_grad_(False)
        seen.add(key)
    missing = set(state) - seen - constant
    assert not missing, f"no weights for {sorted(missing)[:5]}"


def count_operations(model, image, batch):
    """Multiplications and additions of a forward pass, without computing it."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        MODELS[model](image).eval()(torch.empty(batch, 3, image, image))
    return counter.get_total_flops()


class Stepper:
    def __init__(self, options):
        self.options = options
        self.training = options.work != "inference"
        self.half = options.precision == "bf16"
        self.kind = torch.device(options.device).type
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
        torch.manual_seed(1)
        if options.threads:
            torch.set_num_threads(options.threads)
        network = protocol.NetworkFile(options.weights) if options.weights else None
        self.model = MODELS[options.model](network.graph["input"]["shape"][0] if network else options.size)
        self.image = self.model.image
        self.parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.moving = set()
        if network:
            load_weights(self.model, network)
            self.moving = {name.replace(".", "/") for name in network.moving}
        self.input = peer_input((options.batch, self.image, self.image, 3)).to(options.device).contiguous(memory_format=torch.channels_last)
        self.labels = (torch.arange(options.batch) % 1000).to(options.device)
        self.step = None

    def describe(self):
        version = torch.__version__ + (f", cuDNN {torch.backends.cudnn.version()}" if torch.cuda.is_available() else "")
        o = self.options
        return {"peer": "torch.compile" if o.compile else "torch", "version": version, "model": o.model, "work": o.work, "device": o.device,
                "precision": o.precision, "batch": o.batch, "image": self.image, "parameters": self.parameters,
                "product_flops": count_operations(o.model, self.image, o.batch)}

    def prepare(self):
        """What the first step needs."""
        if self.step:
            return
        self.model.to(self.options.device, memory_format=torch.channels_last)
        self.set_mode()
        if self.half and not self.training:
            self.model.bfloat16()
            self.input = self.input.bfloat16()
        forward = self.forward = self.compiled() if self.options.compile else self.model
        if not self.training:
            def step():
                with self.without_gradients():
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

    def without_gradients(self):
        """The documentation of freezing has no_grad; eager mode is faster in inference mode."""
        return torch.no_grad() if self.options.compile else torch.inference_mode()

    def compiled(self):
        from torch._inductor import config

        config.freezing = self.kind == "cpu" and not self.training  # folds batch-norms, packs weights
        return torch.compile(self.model, mode="reduce-overhead" if self.kind == "cuda" else "default")

    def set_mode(self):
        """Training or inference; a frozen batch-norm keeps to its moving statistics."""
        self.model.train(self.training)
        for name, module in self.model.named_children():
            if name in self.moving:
                module.eval()

    def output(self):
        self.prepare()
        self.model.eval()
        with self.without_gradients():
            with torch.autocast(self.kind, torch.bfloat16) if self.half and self.training else contextlib.nullcontext():
                logits = (self.model if self.training else self.forward)(self.input)
        self.set_mode()
        return {"output": logits.float().flatten().tolist()}

    def update(self):
        self.prepare()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in trained]
        loss = self.step().item()
        change = sum((p.detach() - was).double().square().sum().item() for p, was in zip(trained, before)) ** 0.5
        return {"loss": loss, "change": change}

    def wait(self):
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def steps(self, count):
        self.prepare()
        for _ in range(self.options.warmup):
            self.step()
        self.options.warmup = 0
        done = protocol.timed_steps(self.step, count, self.wait)
        if self.kind == "cuda":
            done["peak_bytes"] = torch.cuda.max_memory_allocated()
        return done


if __name__ == "__main__":
    protocol.serve(Stepper, protocol.options("--compile"))
