"""What graft takes for N photos: a folder of generated ones, and its commands on it, each a process whose time and memory are counted."""

import json
import math
import pathlib
import struct
import tempfile
import zlib

from comparison import Contestant, Failed, run_measured

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLASSES = ["blue", "green", "orange", "red"]
PICTURES, WIDTH, HEIGHT = 256, 160, 120
EPOCHS = 3
MEMORY_BOUND = 32 << 20  # for features in memory: 32,768 photos of MobileNet 0.25
# What a photo may add to the memory of a process: its path and its row in lists, each a few times. Beside that two runs of the same command differ by some MB.
LISTED_BYTES, NOISE = 512, 8 << 20


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(number):
    """A PNG of slanted waves, up to where its end would stand."""
    period = 24 + number % 61
    wave = bytes(int(128 + 100 * math.sin(2 * math.pi * (x / period + colour * (number % 7) / 7))) for x in range(period) for colour in range(3))
    strip = wave * (WIDTH // period + 2)
    rows = b"".join(b"\0" + strip[begin : begin + 3 * WIDTH] for begin in (3 * (y * (1 + number % 5) % period) for y in range(HEIGHT)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows, 9))


class Photos:
    """`photos/CLASS/N.png`: a few hundred pictures again and again. Each file has its number as a comment, since graft computes what is the same byte for byte but once."""

    def __init__(self, folder):
        self.folder, self.count = folder / "photos", 0
        self.pictures = [picture(number) for number in range(PICTURES)]
        for name in CLASSES:
            (self.folder / name).mkdir(parents=True)

    def grow(self, count):
        for number in range(self.count, count):
            content = self.pictures[number % PICTURES] + chunk(b"tEXt", b"Comment\0" + str(number).encode()) + chunk(b"IEND", b"")
            (self.folder / CLASSES[number % len(CLASSES)] / f"{number}.png").write_bytes(content)
        self.count = max(self.count, count)


def run_graft(command, folder):
    """What a command of graft prints, and what it took."""
    said, complaint, code, used = run_measured(command, cwd=folder)
    if code != 0:
        raise Failed(f"graft {command[1]}: {(complaint.strip().splitlines() or [f'ended with {code}'])[-1]}")
    return said, used


class Commands:
    """graft's commands on a growing folder of photos, in a folder that is removed at the end."""

    def __init__(self, options):
        self.scratch = tempfile.TemporaryDirectory(prefix="graft-photos-")
        self.folder = pathlib.Path(self.scratch.name)
        self.graft = ROOT / options.build / "graft"
        self.shared = ["--weights", "backbone.safetensors", "--threads", options.threads, "--json", "--quiet"]
        step = Contestant("graft", [str(ROOT / options.build / "benchmarks/model_step"), "--model=mobilenet", "--alpha=0.25", "--size=128"])
        try:
            step.ask(f"weights {self.folder}/backbone.safetensors")
        finally:
            step.close()
        self.photos = Photos(self.folder)

    def close(self):
        self.scratch.cleanup()

    def run(self, way, count):
        """A way's seconds and peak memory for the first `count` photos, with nothing left from a run before."""
        self.photos.grow(count)
        with tempfile.TemporaryDirectory(dir=self.folder) as run:
            if way == "features":
                return run_graft([self.graft, "features", *self.shared, "--layer", "global_average_pooling2d", "-o", f"{run}/features.safetensors", "photos"], self.folder)[1]
            bound = MEMORY_BOUND / (1 << 30) if way == "finetune, in memory" else 0
            printed, found = run_graft([self.graft, "finetune", *self.shared, "--data", "photos", "--head", "none", "--epochs", EPOCHS, "--batch", 16, "--out", f"{run}/run",
                                        "--cache", f"{run}/cache", "--cache-memory", bound], self.folder)
            decision = json.loads(pathlib.Path(run, "run/run.json").read_text())["frozen_features"]
            return found | {"frozen_seconds": json.loads(printed)["frozen_seconds"], "decision": decision}


def verdict(points):
    """Whether the memory of a way stayed flat from its fewest photos to its most; None where there is nothing to compare."""
    if len(points) < 2:
        return None
    first, *_, last = sorted(points, key=lambda point: point["photos"])
    grown = max(point["peak_bytes"] for point in points) - first["peak_bytes"]
    allowed = NOISE + LISTED_BYTES * (last["photos"] - first["photos"]) + (MEMORY_BOUND if first["way"] == "finetune, in memory" else 0)
    return {"way": first["way"], "from": first["photos"], "to": last["photos"], "grown_bytes": grown, "allowed_bytes": allowed, "flat": grown <= allowed}
