"""What tests of the tools around measurements share: how they are run, who is there, and made-up results. Imported by a test, whose first argument is BUILD."""

import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build/release"
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks/peers")]

import environments  # noqa: E402


def load(tool):
    """A script of tools/ as a module."""
    loader = importlib.machinery.SourceFileLoader(tool.replace("-", "_"), str(ROOT / "tools" / tool))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def run(*command, **environment):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, check=False, env=os.environ | environment)


def is_there(name):
    """Whether a peer of a CPU is installed."""
    peer = environments.peers(BUILD, "cpu")[name]
    needs = [peer.package] if peer.package else []
    needs += ["torch"] if peer.export or peer.package == "torch" else []
    finds = "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))"
    python = peer.command[0] if peer.package else environments.python("torch")
    return pathlib.Path(peer.command[0]).exists() and run(python, "-c", finds, *needs).returncode == 0


RESULT = {
    "machine": {"date": "2026-01-02", "cpu": "Some <CPU> 9000", "cores": 16, "memory": "128 GB", "gpu": "NVIDIA H100 80GB HBM3, 580.1, 81559 MiB", "cuda": "13.0", "commit": "abc1234"},
    "command": "tools/bench --device cuda", "device": "cuda", "threads": 16, "not_run": [],
    "cases": [{"model": "resnet50", "work": "training", "precision": "bf16", "batch": 256, "asked_batch": 256, "left_out": {},
               "contestants": {name: {"images_per_second": speed, "median_ms": 256e3 / speed, "peak_bytes": 9e9, "installed_bytes": 2e7, "version": "1"}
                               for name, speed in [("graft, captured", 3000.4), ("graft native, captured", 2000.0), ("torch", 2500.0)]},
               "ratios": {"torch": {"ratio": 1.2, "low": 1.15, "high": 1.25}}}],
}
CPU_RESULT = {
    "machine": {"date": "2026-01-02", "cpu": "Some <CPU> 9000", "cores": 2, "memory": "24 GB", "gpu": "none", "cuda": "none", "commit": "abc1234"},
    "command": "tools/bench", "device": "cpu", "threads": 2, "not_run": [],
    "cases": [{"model": "resnet50", "work": "inference", "precision": "f32", "batch": 16, "asked_batch": 16, "left_out": {"Keras": "Keras: No module named 'keras'"},
               "ceiling": {"ms": 400.0, "rates": []},
               "contestants": {"graft": {"images_per_second": 30.0, "median_ms": 533.0, "share_of_ceiling": 0.75, "peak_bytes": 3e8, "installed_bytes": 2e7, "version": "0.1"},
                               "LibTorch": {"images_per_second": 20.0, "median_ms": 800.0, "share_of_ceiling": 0.5, "peak_bytes": 9e8, "installed_bytes": 5e8, "version": "2.15"}},
               "ratios": {"LibTorch": {"ratio": 1.5, "low": 1.4, "high": 1.6, "logit_difference": 1e-6}}}],
}
README = "before\n<!-- results: written by tools/results-table -->\nold\n<!-- end of results -->\nafter\n"
