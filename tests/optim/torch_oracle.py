"""What PyTorch's optimizers make of a list of cases, in f64.

Usage: torch_oracle.py CASES.json  -> JSON on standard output

A case holds start values for the parameters "a" and "b", the options of an optimizer for each of them, and a schedule.
The gradient of element i of a parameter is scale_i * (w - target_i) + cos(w) with scale_i = 1 + i and target_i = i / 2.
"""
import json
import sys

import torch
from torch.optim import lr_scheduler


def make_optimizer(case, groups):
    o = case["options"]
    if o["algorithm"] == "sgd":
        return torch.optim.SGD(groups, lr=o["learning_rate"], momentum=o["momentum"], nesterov=o["nesterov"],
                               weight_decay=o["weight_decay"])
    kind = torch.optim.Adam if o["algorithm"] == "adam" else torch.optim.AdamW
    return kind(groups, lr=o["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"],
                weight_decay=o["weight_decay"])


def make_schedule(s, optimizer):
    if s["kind"] == "constant":
        main = lr_scheduler.ConstantLR(optimizer, factor=1)
    elif s["kind"] == "step":
        main = lr_scheduler.StepLR(optimizer, s["every"], gamma=s["decay"])
    else:
        main = lr_scheduler.CosineAnnealingLR(optimizer, s["total"] - s["warmup"])
    if s["warmup"] == 0:
        return main
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / s["warmup"], total_iters=s["warmup"] - 1)
    return lr_scheduler.SequentialLR(optimizer, [rise, main], milestones=[s["warmup"]])


def run(case):
    parameters = {name: torch.tensor(values, dtype=torch.float64, requires_grad=True)
                  for name, values in case["start"].items()}
    groups = [{"params": [parameters[name]], **case["groups"][name]} for name in sorted(parameters)]
    optimizer = make_optimizer(case, groups)
    schedule = make_schedule(case["schedule"], optimizer)
    rates = []
    for _ in range(case["steps"]):
        rates.append(optimizer.param_groups[0]["lr"])
        for w in parameters.values():
            i = torch.arange(w.numel(), dtype=torch.float64)
            w.grad = ((1 + i) * (w - i / 2) + torch.cos(w)).detach()
        if case["options"]["clip_norm"] > 0:
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), case["options"]["clip_norm"])
        optimizer.step()
        schedule.step()
    return {"rates": rates, "end": {name: w.tolist() for name, w in parameters.items()}}


with open(sys.argv[1]) as file:
    print(json.dumps([run(case) for case in json.load(file)]))
