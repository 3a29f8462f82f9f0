"""Where a comparison's contestants are, how each is started, and how much of a disk it takes.

Peers live in virtual environments under the user's cache, which `tools/bench --install` fills: `torch` for all that needs
PyTorch, and for ONNX Runtime and OpenVINO, which run what it exports; `tensorflow` for Keras. LibTorch's programs are compiled there.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "graft"
PACKAGES = {"torch": ["torch", "numpy", "pillow", "onnx", "onnxscript", "onnxruntime", "openvino"], "tensorflow": ["keras", "tensorflow"]}
LIBTORCH, LIBTORCH_JOB = CACHE / "bench/libtorch_step", CACHE / "bench/libtorch_job"
# What each of LibTorch's programs is made of beside its own source, and the libraries that it needs beside LibTorch's.
LIBTORCH_PARTS = {LIBTORCH: (["command_line", "layers", "network"], []), LIBTORCH_JOB: (["command_line", "layers", "network", "photos"], ["-lturbojpeg"])}


@dataclasses.dataclass
class Peer:
    command: list
    export: str = ""  # the format of a file that it runs, which export.py makes from the weights
    package: str = ""  # of Python, which stands for what is installed; otherwise the program and its libraries
    works: tuple = ("inference", "training", "head", "finetune", "first")
    threads: int = 0  # its own number of them, if not that of everyone


def python(environment):
    """The interpreter of an environment, or what stands in for it."""
    own = CACHE / "bench" / environment / "bin/python"
    others = [os.environ.get("GRAFT_ORACLE_PYTHON"), CACHE / "oracle/bin/python"] if environment == "torch" else []
    return next((str(path) for path in [own, *others] if path and pathlib.Path(path).exists()), sys.executable)


def peers(build, device):
    """Who can take part, by name."""
    step = [str(ROOT / build / "benchmarks/model_step")]
    engines = {"graft": "auto", "graft native": "native", "graft library": "library"}
    known = {name: Peer(step + ["--engine", engine]) for name, engine in engines.items()}
    script = lambda name, environment="torch": [python(environment), str(ROOT / "benchmarks/peers" / name)]
    known["torch"] = Peer(script("torch_step.py"), package="torch")
    known["torch.compile"] = Peer(script("torch_step.py") + ["--compile"], package="torch")
    if device != "cpu":
        return known | {name + ", captured": Peer(known[name].command + ["--captured"]) for name in engines}
    training = ("head", "finetune")
    known["graft, tuned"] = Peer(known["graft"].command + ["--tuned"], works=("inference", "training"))
    known["graft, cached"] = Peer(known["graft"].command + ["--cached"], works=training)
    known["LibTorch"] = Peer([str(LIBTORCH)])
    known["LibTorch, cached"] = Peer([str(LIBTORCH), "--cached"], works=training)
    known["TorchScript"] = Peer([str(LIBTORCH)], export="torchscript", works=("inference", "first"))
    known["Keras"] = Peer(script("keras_step.py", "tensorflow"), package="tensorflow")
    known["ONNX Runtime"] = Peer(script("onnx_step.py"), export="onnx", package="onnxruntime", works=("inference", "first"))
    known["OpenVINO"] = Peer(script("onnx_step.py") + ["--openvino"], export="onnx", package="openvino", works=("inference", "first"))
    return known


def output_of(*command):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, check=True).stdout.strip()


def exported(weights, peer, case):
    """The option that names the file a peer runs, which is made beside the weights if it is not there yet. Throws ValueError if it cannot be made."""
    precision = case["precision"] if peer.export == "torchscript" else "f32"
    option, ending = {"onnx": ("--onnx", "onnx"), "torchscript": ("--script", "pt")}[peer.export]
    file = pathlib.Path(f"{weights}.{precision}.{ending}")
    if not file.exists():
        words = ["--weights", weights, "--model", case["model"], "--batch", case["batch"], "--precision", precision, "--format", peer.export, "--out", file]
        done = subprocess.run([python("torch"), str(ROOT / "benchmarks/peers/export.py"), *map(str, words)], text=True, capture_output=True, check=False)
        if done.returncode:
            raise ValueError(f"export to {peer.export}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return f"{option}={file}"


def sources_digest(torch):
    """Of LibTorch's programs: their sources and the LibTorch that they are linked to."""
    files = sorted((ROOT / "benchmarks/libtorch").glob("*.[ch]*")) + [torch / "version.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def torch_folder():
    return pathlib.Path(output_of(python("torch"), "-c", "import importlib.util; print(importlib.util.find_spec('torch').submodule_search_locations[0])"))


def build_libtorch():
    """By hand, against two of PyTorch's libraries: find_package(Torch) would ask for CUDA, and load its libraries."""
    torch, folder = torch_folder(), CACHE / "bench"
    stamp, digest = folder / "libtorch.digest", sources_digest(torch)
    if all(program.exists() for program in LIBTORCH_PARTS) and stamp.exists() and stamp.read_text() == digest:
        return
    print("compiling LibTorch's programs", flush=True)
    compiler = [os.environ.get("CXX", "c++"), "-std=c++20", "-O2"]
    includes = ["-isystem", torch / "include", "-isystem", torch / "include/torch/csrc/api/include"]
    libraries = [f"-L{torch}/lib", "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10", "-Wl,--as-needed", f"-Wl,-rpath,{torch}/lib"]
    with tempfile.TemporaryDirectory() as scratch:
        objects = {source.stem: pathlib.Path(scratch, source.stem + ".o") for source in (ROOT / "benchmarks/libtorch").glob("*.cpp")}
        for name, file in sorted(objects.items()):
            subprocess.run([*compiler, *includes, "-c", ROOT / f"benchmarks/libtorch/{name}.cpp", "-o", file], check=True)
        for program, (parts, more) in LIBTORCH_PARTS.items():
            subprocess.run([*compiler, *(objects[name] for name in [program.name, *parts]), *libraries, *more, "-o", program], check=True)
    stamp.write_text(digest)


def install():
    """Makes the environments that are not there yet. PyTorch is not installed twice: the tests' environment lends its own."""
    for name, packages in PACKAGES.items():
        folder = CACHE / "bench" / name
        stamp = folder / "graft-requirements"
        lender = next((path for path in [os.environ.get("GRAFT_ORACLE_PYTHON"), CACHE / "oracle/bin/python"] if path and pathlib.Path(path).exists()), None)
        wanted = [package for package in packages if not (lender and package == "torch")]
        if stamp.exists() and stamp.read_text() == " ".join(wanted):
            continue
        print(f"installing {', '.join(wanted)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        if lender and name == "torch":
            paths = "import sysconfig; print(sysconfig.get_path('purelib'))"
            pathlib.Path(output_of(folder / "bin/python", "-c", paths), "lent.pth").write_text(output_of(lender, "-c", paths) + "\n")
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
        stamp.write_text(" ".join(wanted))
    build_libtorch()


# Prints the bytes of a package and of all that it requires.
PACKAGE_BYTES = """
import importlib.metadata, re, sys
seen, bytes, waiting = set(), 0, [sys.argv[1]]
while waiting:
    name = re.sub("[-_.]+", "-", waiting.pop()).lower()
    if name in seen: continue
    seen.add(name)
    try: found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError: continue
    bytes += sum(file.locate().stat().st_size for file in found.files or [] if file.locate().exists())
    waiting += [re.match("[A-Za-z0-9._-]+", need)[0] for need in found.requires or [] if "extra ==" not in need]
print(bytes)
"""
OF_THE_SYSTEM = re.compile(r"/(ld-linux|libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s)[-.]")


@functools.cache
def installed_bytes(program, package):
    """Of a Python's package with all that it requires; without one, of a program and the shared libraries that it loads, but for those of every system."""
    if package:
        return int(output_of(program, "-c", PACKAGE_BYTES, package))
    loaded = subprocess.run(["ldd", program], text=True, capture_output=True, check=False).stdout  # ldd fails for a program that loads none
    libraries = re.findall(r"=> (/\S+)", loaded)
    files = {pathlib.Path(path).resolve() for path in [program, *libraries] if not OF_THE_SYSTEM.search(path)}
    return sum(file.stat().st_size for file in files)
