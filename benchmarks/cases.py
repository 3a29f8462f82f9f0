"""A case of tools/bench, from the start of everyone who takes part to what the rounds say."""

import pathlib
import re
import statistics
import tempfile

import environments
import machine
from comparison import Contestant, Failed, largest_difference, ratio, roofline, start_in_turns, take_turns

ROOT = pathlib.Path(__file__).resolve().parents[1]
# How far logits may lie apart, as a share of the largest: what the roundings of a whole network come to.
SCORES_AGREE = {"f32": 1e-3, "tf32": 2e-2, "bf16": 1e-1}
# The same of the first step's loss, and of the length of what it changed all parameters by, which is the gradient's times the rate.
LOSSES_AGREE = {"f32": 2e-3, "tf32": 2e-2, "bf16": 5e-2}
CHANGES_AGREE = {"f32": 5e-2, "tf32": 1e-1, "bf16": 3e-1}
# What `finetune` trains.
LAST_BLOCK = {
    "vgg16": ["block5_*", "fc1", "fc2", "predictions"],
    "resnet50": ["conv5_block3_*", "predictions"],
    "mobilenet": ["conv_dw_13*", "conv_pw_13*", "conv_preds"],
    "inception_v3": [f"{layer}_{number}" for number in range(85, 94) for layer in ["conv2d", "batch_normalization"]] + ["predictions"],
    "vit_base": ["blocks.11.*", "norm", "head"],
}
# How many times as fast as a peer graft wants to be on a CPU.
TARGETS = {
    ("inference", "f32"): {"LibTorch": 1.3, "TorchScript": 1.0, "torch.compile": 1.0, "ONNX Runtime": 1.0, "OpenVINO": 1.0},
    ("inference", "bf16"): {"LibTorch": 1.5, "OpenVINO": 1.0},
    ("training", "f32"): {"LibTorch": 1.15, "torch.compile": 1.1},
    ("training", "bf16"): {"LibTorch": 1.5},
    ("mobilenet", "training", "f32"): {"LibTorch": 1.3, "torch.compile": 1.1},
    ("inception_v3", "training", "f32"): {"LibTorch": 1.3, "torch.compile": 1.1},
    ("mobilenet", "training", "bf16"): {"LibTorch": 4.0},
    ("mobilenet", "first", "f32"): {"LibTorch": 8.0},
}


def shown(command):
    """A contestant's words as they are kept: without this machine's folders and passing files."""
    return [pathlib.Path(word).name if word.startswith("/") else word for word in command[1:] if not re.match(r"--\w+=/", word)]


def target(options, case, name):
    """What graft wants to be against a peer, as a part of their ratio; empty where nothing is said."""
    kind = (case["work"], case["precision"])
    targets = TARGETS.get((case["model"], *kind), TARGETS.get(kind, {})) if options.device == "cpu" else {}
    return {"target": targets[name]} if name in targets else {}


def lower_to_the_best(case, ratios):
    """Of 16 images the target against LibTorch is no more than what the fastest other peer reaches against it."""
    kind = (case["work"], case["precision"], case["batch"])
    others = [against["ratio"] for name, against in ratios.items() if name in TARGETS["inference", "f32"] and name != "LibTorch"]
    if kind == ("inference", "f32", 16) and "target" in ratios.get("LibTorch", {}) and others:
        against = ratios["LibTorch"]
        against["target"] = round(min(against["target"], against["ratio"] / min(others)), 2)


def words_of(options, case, name):
    """A case as everyone's options say it."""
    return [f"--{key}={value}" for key, value in case.items()] + [f"--device={options.device}", f"--threads={options.peers[name].threads or options.threads}"]


def start_first(options, case, names):
    """The first contestant, and a file of its network, which all others start from."""
    shared = words_of(options, case, names[0]) + [f"--size={options.size}"]
    train = [f"--train={','.join(LAST_BLOCK[case['model']])}"] if case["work"] == "finetune" else []
    return Contestant(names[0], options.peers[names[0]].command + shared + train)


def command_of(options, case, name, weights):
    """What is run for a peer that starts from a network file."""
    peer = options.peers[name]
    try:
        return peer.command + words_of(options, case, name) + [f"--weights={weights}"] + ([environments.exported(weights, peer, case)] if peer.export else [])
    except ValueError as failure:
        raise Failed(f"{name}: {failure}") from failure


def check_counts(other, first):
    for count in ["parameters", "product_flops"]:
        own, theirs = first.description[count], other.description[count]
        if abs(own - theirs) > 0.01 * own:
            raise Failed(f"{other.name}: {count} {theirs}, {first.name} has {own}")


def check_logits(name, logits, reference, precision):
    """How far they are apart, as a share of the largest."""
    difference = largest_difference(logits, reference)
    if not difference <= SCORES_AGREE[precision]:
        raise Failed(f"{name}: logits differ by {difference:.1e} of the largest")
    return difference


def first_update(contestant, case):
    """The loss of its first step and how far that moved the parameters; of inference nothing."""
    return {} if case["work"] == "inference" else contestant.ask("update", 600)


def check_update(name, found, reference, precision):
    """How far loss and change are apart, as shares."""
    differences = {}
    for key, agree in [("loss", LOSSES_AGREE), ("change", CHANGES_AGREE)] if reference else []:
        difference = differences[f"{key}_difference"] = abs(found[key] - reference[key]) / abs(reference[key])
        if not difference <= agree[precision]:
            raise Failed(f"{name}: the first step's {key} is {found[key]}, expected {reference[key]}")
    return differences


def join(options, case, names, first, weights, left_out):
    """Starts the others; whoever does not compute the same is left out. Returns who is kept and how close they are."""
    reference, kept, report = first.ask("output")["output"], [first], {}
    update = first_update(first, case)
    for name in names[1:]:
        other = None
        try:
            other = Contestant(name, command_of(options, case, name, weights))
            check_counts(other, first)
            difference = check_logits(name, other.ask("output", 600)["output"], reference, case["precision"])
            report[name] = {"logit_difference": difference} | check_update(name, first_update(other, case), update, case["precision"])
            other.ask("steps 1", 600)  # whatever is made at the first step, a compiler's work among it
            kept.append(other)
        except Failed as failure:
            left_out[name] = str(failure)
            if other:
                other.close()
            if "memory" in str(failure).lower():
                raise
    return kept, report


def compare(options, case, first, times, peaks, differences, rates, products):
    """What the rounds say: each contestant's times, its ratio to the first and, where a probe was asked, its share of the roofline."""
    found = {"contestants": {}, "ratios": {}}
    lower = [roofline(products, rate, case["precision"]) for rate in rates]
    if lower:
        found["ceiling"] = {"ms": 1e3 * statistics.median(lower), "rates": rates}
    for name, seconds in times.items():
        ordered = sorted(seconds)
        median = ordered[len(ordered) // 2]
        about = {"best_ms": 1e3 * ordered[0], "median_ms": 1e3 * median, "images_per_second": case["batch"] / median, "seconds": seconds,
                 "peak_bytes": peaks.get(name, 0), "installed_bytes": environments.installed_bytes(options.peers[name].command[0], options.peers[name].package)}
        if lower:
            about["share_of_ceiling"] = statistics.geometric_mean(least / taken for least, taken in zip(lower, seconds))
        found["contestants"][name] = about
        if name != first:
            found["ratios"][name] = ratio(times[first], seconds) | differences[name] | target(options, case, name)
    lower_to_the_best(case, found["ratios"])
    return found


def run_steps(options, case, names):
    """Steps of processes that are ready."""
    left_out, clocks, running = {}, [machine.clocks()], []
    try:
        first = start_first(options, case, names)
        running.append(first)
        with tempfile.TemporaryDirectory() as folder:
            weights = first.ask(f"weights {folder}/weights.safetensors")["weights"]
            kept, differences = join(options, case, names, first, weights, left_out)
            running += kept[1:]
            probe = None
            if options.ceiling:
                probe = Contestant("probe", [str(ROOT / options.build / "benchmarks/cpu_probe"), f"--threads={options.threads}"])
                running.append(probe)
            products = first.ask("products")["products"] if probe else []
            times, peaks, rates = take_turns(kept, options.rounds, options.chunk, probe)
    finally:
        for contestant in running:
            contestant.close()
    found = compare(options, case, first.name, times, peaks, differences, rates, products)
    for contestant in kept:
        found["contestants"][contestant.name] |= {"version": contestant.description["version"], "command": shown(contestant.command)}
    if probe:
        found["ceiling"]["with"] = probe.description
    return dict(case, **found, left_out=left_out, clocks=clocks + [machine.clocks()], image=first.description["image"], product_flops=first.description["product_flops"])


def run_first(options, case, names):
    """Whole processes, from their start to their first logits."""
    inference, left_out, commands = dict(case, work="inference"), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        first = start_first(options, inference, names)
        try:
            weights = first.ask(f"weights {folder}/weights.safetensors")["weights"]
        finally:
            first.close()
        for name in names:
            try:
                commands[name] = command_of(options, inference, name, weights) + ["--first"]
            except Failed as failure:
                left_out[name] = str(failure)
        times, logits, failed = start_in_turns(commands, options.rounds)
    left_out |= failed
    if names[0] not in times:
        raise Failed(left_out[names[0]])
    differences = {}
    for name in [name for name in times if name != names[0]]:
        try:
            differences[name] = {"logit_difference": check_logits(name, logits[name], logits[names[0]], case["precision"])}
        except Failed as failure:
            left_out[name] = str(failure)
            del times[name]
    return dict(case, **compare(options, case, names[0], times, {}, differences, [], []), left_out=left_out, image=first.description["image"])


def run_case(options, case):
    names = [name for name in options.contestants if case["work"] in options.peers[name].works]
    if not names:
        raise Failed("nobody takes part")
    return (run_first if case["work"] == "first" else run_steps)(options, case, names)
