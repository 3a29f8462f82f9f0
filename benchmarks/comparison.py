"""Processes that take turns at the same step, and what their times say about each other.

Machines change their speed within minutes, so two numbers taken one after the other say little. Here every round asks each
contestant for a few steps, in an order that turns round; the ratio of two contestants is taken within a round, and its
interval over the rounds.
"""

import json
import math
import os
import selectors
import statistics
import subprocess
import tempfile
import time

# Student's t, 97.5 %, for 1 to 30 degrees of freedom.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080,
     2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]


class Failed(Exception):
    """A contestant said why it cannot go on, or went away."""


class NoRoom(Failed):
    """What would need more than the machine has was not tried."""


class Contestant:
    """A program that speaks the commands of benchmarks/model_step.cpp."""

    def __init__(self, name, command, start_seconds=120):
        self.name = name
        self.command = command
        try:
            self.said = tempfile.TemporaryFile("w+", errors="replace")
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, bufsize=1)
        except OSError as error:
            raise Failed(f"{name}: {error}") from error
        try:
            self.description = self.answer(start_seconds)
        except Failed:
            self.close()
            raise

    def answer(self, seconds):
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            if not waiting.select(seconds):
                self.process.kill()
                raise Failed(f"{self.name}: no answer within {seconds} s")
        line = self.process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            self.process.kill()
            self.process.wait()
            self.said.seek(0)
            said = (self.said.read() + line).strip().splitlines()
            raise Failed(f"{self.name}: {said[-1] if said else 'ended without a word'}") from None
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, command, seconds=120):
        try:
            self.process.stdin.write(command + "\n")
        except OSError:
            pass  # it is gone; its last words are read below
        return self.answer(seconds)

    def close(self):
        for stream in (self.process.stdin, self.process.stdout, self.said):
            try:
                stream.close()
            except OSError:
                pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_measured(command, **where):
    """What a process says and complains, its exit code, and what it took: seconds, those of all its threads, and the most bytes that it held."""
    with tempfile.TemporaryFile("w+", errors="replace") as output, tempfile.TemporaryFile("w+", errors="replace") as errors:
        began = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=errors, **where)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # whoever stops this stops the command too
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (output, errors):
            file.seek(0)
        return output.read(), errors.read(), process.returncode, {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss << 10}


def ratio(times, others):
    """How many times as fast as `others` the first are: the geometric mean of the rounds' ratios and its 95 % interval."""
    logs = [math.log(other / own) for own, other in zip(times, others)]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return {"ratio": math.exp(mean)}
    freedom = len(logs) - 1
    half = (T[freedom - 1] if freedom <= len(T) else 1.96) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"ratio": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}


def is_reached(against):
    """Whether a ratio is its target's: the lower end of its interval may be 3 % below."""
    return against.get("low", against["ratio"]) >= 0.97 * against["target"]


def largest_difference(output, reference):
    """Between two lists of logits, as a share of the largest."""
    if len(output) != len(reference):
        raise Failed(f"{len(output)} logits instead of {len(reference)}")
    if not all(map(math.isfinite, output + reference)):
        raise Failed("a logit is not finite")
    return max(abs(a - b) for a, b in zip(output, reference)) / max(abs(b) for b in reference)


def relative_distance(output, reference):
    """Of two vectors, as a share of the second's length."""
    if len(output) != len(reference):
        raise Failed(f"{len(output)} numbers instead of {len(reference)}")
    return math.dist(output, reference) / math.hypot(*reference)


def roofline(products, rates, precision):
    """Seconds that products [operations, bytes] take at least on a machine that reaches these rates."""
    return sum(max(operations / rates[precision], moved / rates["copy"]) for operations, moved in products)


def take_turns(contestants, rounds, chunk_seconds, probe=None):
    """Seconds a step, by contestant and round, and what the probe says each round. Each gets as many steps a round as take about chunk_seconds."""
    counts, peaks, rates = {}, {}, []
    for contestant in contestants:
        contestant.ask("steps 1", 600)
        once = contestant.ask("steps 1", 600)["seconds"]
        if once < chunk_seconds:  # else one step fills a turn, whatever it takes exactly
            once = contestant.ask("steps 3", 600)["seconds"] / 3
        counts[contestant.name] = max(1, min(1000, round(chunk_seconds / once)))
    times = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        if probe:
            rates.append(probe.ask("rates"))
        turn = number % len(contestants)
        for contestant in contestants[turn:] + contestants[:turn]:
            done = contestant.ask(f"steps {counts[contestant.name]}", 300)
            times[contestant.name].append(done["seconds"] / done["steps"])
            peaks[contestant.name] = done["peak_bytes"]
    return times, peaks, rates


def start_in_turns(commands, rounds):
    """Seconds from the start of a process to its first logits, by name and round, and the logits; a round before them brings all files into memory."""
    times, logits, left_out = {name: [] for name in commands}, {}, {}
    names = list(commands)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in [name for name in names[turn:] + names[:turn] if name not in left_out]:
            began = time.perf_counter()
            try:
                started = Contestant(name, commands[name])
            except Failed as failure:
                left_out[name] = str(failure)
                continue
            seconds = time.perf_counter() - began
            started.close()
            logits[name] = started.description["output"]
            if number > 0:
                times[name].append(seconds)
    return {name: found for name, found in times.items() if name not in left_out}, logits, left_out
