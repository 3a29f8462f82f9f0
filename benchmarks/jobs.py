"""The jobs of tools/bench-jobs: what each contestant is asked to do, and a process of it from its start to its end."""

import dataclasses
import json
import os
import pathlib
import re
import statistics
import tempfile

import environments
import protocol
from comparison import Contestant, Failed, ratio, relative_distance, run_measured

ROOT = pathlib.Path(__file__).resolve().parents[1]
# How far features of some photos may lie apart, as a share of their norm. graft's resize and LibTorch's round one value in a thousand to the next
# level, which moves MobileNet's features by 2e-3 to 2e-2; without such a value they agree to 2e-6.
FEATURES_AGREE = 3e-2
PHOTOS_COMPARED = 8


@dataclasses.dataclass
class Model:
    last_block: str  # what `finetune` trains beside the head
    before: str  # the last layer before it
    probes: tuple
    depths: tuple  # what `depths` freezes up to


MODELS = {
    "mobilenet": Model(
        last_block="conv_dw_13*,conv_pw_13*", before="conv_pw_12_relu",
        probes=tuple(f"conv_pw_{block}_relu" for block in (1, 3, 5, 9, 11, 13)),
        depths=tuple(f"conv_pw_{block}_relu" for block in range(7, 13))),
    "resnet50": Model(
        last_block="conv5_block3_*", before="conv5_block2_out",
        probes=tuple(f"{block}_out" for block in ("conv2_block3", "conv3_block2", "conv3_block4", "conv4_block3", "conv4_block6", "conv5_block3")),
        depths=tuple(f"{block}_out" for block in ("conv4_block2", "conv4_block3", "conv4_block4", "conv4_block6", "conv5_block1", "conv5_block2"))),
}


@dataclasses.dataclass
class Job:
    rate: float  # at which Adam learns
    targets: dict  # how many times as fast as a peer graft wants to be
    later_targets: dict = dataclasses.field(default_factory=dict)  # the same of an epoch after the first
    cached: bool = True  # whether LibTorch with features kept by hand takes part


FROZEN, CACHED = "LibTorch, frozen", "LibTorch, cached"
CONTESTANTS = ["graft", CACHED, FROZEN]
JOBS = {
    "head": Job(1e-3, {FROZEN: 10, CACHED: 1.3}, {FROZEN: 100}),
    "finetune": Job(1e-4, {FROZEN: 2.5}),
    "probes": Job(1e-3, {FROZEN: 10}, cached=False),
    "depths": Job(1e-4, {FROZEN: 1.8}, cached=False),
}


@dataclasses.dataclass
class Task:
    """A job on a network and photos, with all that its contestants share."""

    graft: pathlib.Path
    network: pathlib.Path
    photos: pathlib.Path  # holds train/ and validation/
    model: str
    job: str
    epochs: int
    batch: int
    threads: int
    heads: dict = dataclasses.field(default_factory=dict)  # by seed, as first_head makes them

    def commands(self, name, seed, out):
        """The processes of a contestant, one after another, which leave what they make in a folder."""
        model, train, validation = MODELS[self.model], self.photos / "train", self.photos / "validation"
        learning = {"epochs": self.epochs, "batch": self.batch, "lr": JOBS[self.job].rate, "threads": self.threads, "seed": seed}
        if name == "graft":
            words = {
                "head": ["finetune"],
                "finetune": ["finetune", "--unfreeze", model.last_block],
                "probes": ["sweep", "--layers", ",".join(model.probes)],
                "depths": ["sweep", "--fine-tune", "--layers", ",".join(model.depths)],
            }[self.job]
            options = {"weights": self.network, "data": train, "validation": validation, "out": out / "run"} | learning
            return [[self.graft, *words, *(word for key, value in options.items() for word in (f"--{key}", value)), "--json"]]
        parts = {
            "head": [[]],
            "finetune": [[f"--frozen-to={model.before}"]],
            "probes": [[f"--cut={layer}"] for layer in model.probes],
            "depths": [[f"--frozen-to={layer}"] for layer in model.depths],
        }[self.job]
        options = {"network": self.network, "train": train, "validation": validation} | learning
        shared = [f"--{key}={value}" for key, value in options.items()] + (["--cached"] if name == CACHED else [])
        return [[environments.LIBTORCH_JOB, *shared, *part, f"--out={out}/trained{number}.pt"] for number, part in enumerate(parts)]


def without_folders(words):
    """Words of a command as they are kept: files by their names."""
    return [re.sub(r"(^|=)/\S*/", r"\1", str(word)) for word in words]


def busy_seconds():
    """Of all cores since the machine started, whoever they worked for."""
    user, nice, system, _, _, *interrupts = map(int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def run_process(name, command, cache):
    """What a process says, what it took, and the seconds of cores that others took meanwhile."""
    busy = busy_seconds()
    try:
        said, complaint, code, used = run_measured(command, env=dict(os.environ, XDG_CACHE_HOME=str(cache)))
    except OSError as error:
        raise Failed(f"{name}: {error}") from error
    others = max(0, busy_seconds() - busy - used["cpu_seconds"])
    try:
        answer = json.loads(said)
    except ValueError:
        answer = {"error": ((complaint + said).strip().splitlines() or ["ended without a word"])[-1]}
    if "error" in answer or code:
        raise Failed(f"{name}: {answer.get('error', f'ended with {code}')}")
    return answer, used, others


def scores(name, answer, run):
    """Validation accuracy after the last epoch, and the seconds of what is computed once and of each epoch, from what a process said and graft's run."""
    if name != "graft":
        return answer["epochs"][-1]["top1"], answer["frozen_seconds"], [epoch["seconds"] for epoch in answer["epochs"]]
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return epochs[-1]["validation"]["top1"], answer["frozen_seconds"], [epoch["seconds"] for epoch in epochs]


def first_head(task, seed):
    """Weights and bias of graft's head before its first step, f32 one after the other: who begins elsewhere ends elsewhere in so few steps."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (command,) = dataclasses.replace(task, epochs=1).commands("graft", seed, folder)
        command[command.index("--lr") + 1] = 1e-30  # changes nothing
        run_process("graft", command, folder / "cache")
        tensors = {name: data for name, _, data in protocol.NetworkFile(folder / "run/last.safetensors").tensors}
        return bytes(tensors["head/weight"]) + bytes(tensors["head/bias"])


def run_job(task, name, seed):
    """A contestant's whole job, with nothing kept from earlier ones."""
    done = {"version": "", "peak_bytes": 0, "seconds": 0, "others_seconds": 0, "top1": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "out").mkdir()
        begins = []
        if name != "graft" and task.job in ("head", "finetune"):
            if seed not in task.heads:
                task.heads[seed] = first_head(task, seed)
            (folder / "head").write_bytes(task.heads[seed])
            begins = [f"--head={folder}/head"]
        for command in task.commands(name, seed, folder / "out"):
            command = command + begins
            answer, used, others = run_process(name, command, folder / "cache")
            done["seconds"] += used["seconds"]
            done["others_seconds"] += others
            done["version"] = answer.get("version", "")  # graft's is the machine's commit
            done["peak_bytes"] = max(done["peak_bytes"], used["peak_bytes"])
            if "depths" in answer:  # graft's sweep has them all in one process
                done["top1"] += [depth["epochs"][-1]["validation"]["top1"] for depth in answer["depths"]]
                continue
            top1, frozen, epochs = scores(name, answer, folder / "out/run")
            done["top1"].append(top1)
            if task.job in ("head", "finetune"):
                done |= {"first_epoch_seconds": frozen + epochs[0], "later_epoch_seconds": statistics.fmean(epochs[1:]) if epochs[1:] else None}
    return done


def first_tensor(file):
    """The numbers of a safetensors file's only tensor."""
    with open(file, "rb") as stream:
        json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return list(memoryview(stream.read()).cast("f"))


def features_difference(task):
    """How far LibTorch's features of some photos are from graft's, as a share of their norm: it decodes, resizes and computes by itself."""
    photos = [photo for folder in sorted((task.photos / "validation").iterdir()) for photo in sorted(folder.iterdir())]
    chosen = [photos[i * len(photos) // PHOTOS_COMPARED] for i in range(PHOTOS_COMPARED)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        layer = protocol.NetworkFile(task.network).graph["features"]
        run_process("graft", [task.graft, "features", "--weights", task.network, "--layer", layer, *chosen, "-o", folder / "features.safetensors", "--json"], folder)
        answer, *_ = run_process("LibTorch", [environments.LIBTORCH_JOB, f"--network={task.network}", f"--validation={task.photos}/validation", f"--features={PHOTOS_COMPARED}"], folder)
        difference = relative_distance(answer["output"], first_tensor(folder / "features.safetensors"))
    if not difference <= FEATURES_AGREE:
        raise Failed(f"LibTorch: features of photos differ by {difference:.1e} of their norm")
    return difference


def random_network(build, model, file):
    """graft's random weights: what a job takes does not depend on them."""
    step = Contestant("graft", [str(build / "benchmarks/model_step"), "--model", model, "--work", "inference"])
    step.ask(f"weights {file}")
    step.close()


def summarize(case):
    """What the rounds so far say: medians, ratios to the first contestant, and whether accuracies differ by more than chance."""
    first, job = next(iter(case["contestants"])), JOBS[case["work"].split()[0]]
    own = case["contestants"][first]
    count = case["photos"]["validation"]
    accuracy = lambda found: statistics.fmean(value for values in found["top1"] for value in values)
    case["ratios"] = {}
    for name, found in case["contestants"].items():
        found |= {"median_ms": 1e3 * statistics.median(found["seconds"]), "best_ms": 1e3 * min(found["seconds"]), "mean_top1": accuracy(found)}
        if name == first:
            continue
        against = ratio(own["seconds"], found["seconds"])
        if name in job.targets and first == "graft":
            against["target"] = job.targets[name]
        if all(found.get("later_epoch_seconds", [None])) and all(own.get("later_epoch_seconds", [None])):
            against["later_epochs"] = ratio(own["later_epoch_seconds"], found["later_epoch_seconds"])
            if name in job.later_targets and first == "graft":
                against["later_epochs"]["target"] = job.later_targets[name]
        # Two standard errors of the difference of two shares of `count` photos, as if they were others each time.
        share = (count * (own["mean_top1"] + found["mean_top1"]) / 2 + 1) / (count + 2)
        against |= {"top1_difference": own["mean_top1"] - found["mean_top1"], "top1_noise": 2 * (2 * share * (1 - share) / count) ** 0.5}
        case["ratios"][name] = against
