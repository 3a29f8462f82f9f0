"""What the peers in Python share: options, graft's network file, and the loop that answers the commands of benchmarks/model_step.cpp."""

import argparse
import json
import resource
import struct
import sys
import time


def options(*flags, valued=()):
    """The options of every peer, and a peer's own: flags, and some with a value."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--work", choices=["inference", "training", "head", "finetune"], default="inference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0, help="step so often, say how long it took, and end")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--weights", help="a network file of graft, which also says what is frozen")
    parser.add_argument("--first", action="store_true", help="say the logits first, and count nothing")
    for name in flags:
        parser.add_argument(name, action="store_true")
    for name in valued:
        parser.add_argument(name)
    return parser.parse_args()


class NetworkFile:
    """What io::save_network wrote: the graph, and tensors as (name, shape, bytes)."""

    def __init__(self, path):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            data = memoryview(bytearray(file.read()))
        self.graph = json.loads(header.pop("__metadata__")["graft.network"])
        self.tensors = []
        for name, entry in header.items():
            assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}"
            begin, end = entry["data_offsets"]
            self.tensors.append((name, entry["shape"], data[begin:end]))
        self.frozen = {layer["name"] for layer in self.graph["layers"] if not layer.get("trainable", True)}
        self.moving = {layer["name"] for layer in self.graph["layers"] if layer.get("statistics") == "moving"}


def numpy_input(shape):
    """Element i of [N, H, W, C] is a hash of i, from -1 to 1, as in model_step.cpp."""
    import numpy

    index = numpy.arange(numpy.prod(shape), dtype=numpy.uint32)
    return ((index * numpy.uint32(2654435761) >> numpy.uint32(8)).astype(numpy.float32) * numpy.float32(2**-23) - 1).reshape(shape)


def timed_steps(step, count, wait=lambda: None):
    wait()
    began = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    seconds = time.perf_counter() - began
    return {"steps": count, "seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}


def say(line):
    print(json.dumps(line), flush=True)


def serve(make_stepper, chosen):
    """Makes the stepper and answers until the input ends. What a peer cannot do, its partner has to hear of."""
    try:
        stepper = make_stepper(chosen)
        say(stepper.output() if chosen.first else stepper.describe())
        if chosen.steps:
            say(stepper.steps(chosen.steps))
            return
        for line in sys.stdin:
            command, *rest = line.split()
            say({"steps": lambda: stepper.steps(int(rest[0])), "update": lambda: stepper.update(), "output": stepper.output}[command]())
    except Exception as error:
        say({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        sys.exit(1)
