"""What a measurement has to say about the machine that it was taken on."""

import datetime
import os
import pathlib
import platform
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]


def output_of(*command):
    """The output of a command, or an empty string where there is no such command or it fails."""
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=60, check=False, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def field(path, name):
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def free_bytes():
    """The memory that programs may still take."""
    return 1024 * int(field("/proc/meminfo", "MemAvailable").removesuffix("kB"))


def clocks():
    """The clocks of the first GPU now, what holds them down, its temperature and power; empty without one."""
    names = "clocks.sm,clocks.mem,temperature.gpu,power.draw"
    values = output_of("nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader,nounits", "--id=0")
    return dict(zip(["sm_mhz", "memory_mhz", "celsius", "watts"], (v.strip() for v in values.split(",")))) if values else {}


def instructions():
    """The widest instructions of the CPU that kernels are written for: a hypervisor may say no more of a model than its maker's name."""
    flags = field("/proc/cpuinfo", "flags").split()
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2"}
    return next((name for flag, name in known.items() if flag in flags), "")


def describe():
    gpu = output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0")
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    release = re.search(r"release (\S+),", output_of(nvcc, "--version"))
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "cpu": ", ".join(filter(None, [field("/proc/cpuinfo", "model name"), instructions()])),
        "cores": len(os.sched_getaffinity(0)),
        "memory": field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "gpu": gpu or "none",
        "cuda": release[1] if release else "none",
        "compiler": output_of("c++", "--version").split("\n")[0],
        "commit": os.environ.get("GRAFT_COMMIT") or output_of("git", "rev-parse", "--short", "HEAD") or "unknown",
    }
