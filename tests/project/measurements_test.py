"""The tools around measurements, on made-up measurements: tools/bench, tools/results-table, tools/spills, tools/gpu-check.

    python3 tests/project/measurements_test.py BUILD
"""

import importlib.machinery
import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build/release"
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "benchmarks"))

import comparison  # noqa: E402


def load(tool):
    """A script of tools/ as a module."""
    loader = importlib.machinery.SourceFileLoader(tool.replace("-", "_"), str(ROOT / "tools" / tool))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def run(*command):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, check=False)


class Ratio(unittest.TestCase):
    def test_is_that_of_the_rounds_whatever_the_machine_does(self):
        # The machine gets slower tenfold while the second stays twice as slow as the first.
        own = [1.0, 2.0, 5.0, 10.0]
        found = comparison.ratio(own, [2 * t for t in own])
        self.assertAlmostEqual(found["ratio"], 2)
        self.assertAlmostEqual(found["low"], 2)
        self.assertAlmostEqual(found["high"], 2)

    def test_interval(self):
        # Logarithms -d, 0, d have mean 0 and deviation d: half a width of t(2) d / sqrt(3), t(2) = 4.303.
        d = math.log(1.1)
        found = comparison.ratio([1, 1, 1], [math.exp(-d), 1, math.exp(d)])
        self.assertAlmostEqual(found["ratio"], 1)
        self.assertAlmostEqual(math.log(found["high"]), 4.303 * d / math.sqrt(3))
        self.assertAlmostEqual(math.log(found["low"]), -4.303 * d / math.sqrt(3))

    def test_difference_sees_a_wrong_logit(self):
        self.assertAlmostEqual(comparison.largest_difference([1, -4, 2.4], [1, -4, 2]), 0.1)
        self.assertRaises(comparison.Failed, comparison.largest_difference, [1], [1, 2])
        self.assertRaises(comparison.Failed, comparison.largest_difference, [1, math.nan], [1, 2])


class Bench(unittest.TestCase):
    def bench(self, folder, *more):
        return run(sys.executable, ROOT / "tools/bench", "--device", "cpu", "--build", BUILD, "--models", "mobilenet", "--size", 32, "--batches", 2, "--precisions", "f32",
                   "--rounds", 2, "--chunk", 0.01, "--contestants", "graft;graft native;torch", "--out", folder / "bench.json", *more)

    def test_takes_turns_checks_and_goes_on_where_it_stopped(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            done = self.bench(folder)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            report = json.loads((folder / "bench.json").read_text())
            self.assertEqual([case["work"] for case in report["cases"]], ["inference", "training"])
            for case in report["cases"]:
                self.assertEqual(len(case["contestants"]["graft"]["seconds"]), 2)
                self.assertGreater(case["ratios"]["graft native"]["ratio"], 0)
                self.assertLess(case["ratios"]["graft native"]["logit_difference"], 1e-4)
                self.assertTrue("torch" in case["ratios"] or "torch" in case["left_out"])
            self.assertEqual(self.bench(folder).stdout, "", "what is there already is not run again")

    def test_says_why_a_case_was_not_run(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            done = self.bench(folder, "--models", "no_such_network", "--work", "inference")
            self.assertEqual(done.returncode, 1)
            self.assertIn("no_such_network", json.loads((folder / "bench.json").read_text())["not_run"][0]["reason"])


RESULT = {
    "machine": {"date": "2026-01-02", "gpu": "NVIDIA H100 80GB HBM3, 580.1, 81559 MiB", "cuda": "13.0", "commit": "abc1234"},
    "command": "tools/bench --device cuda", "device": "cuda",
    "cases": [{"model": "resnet50", "work": "training", "precision": "bf16", "batch": 256,
               "contestants": {"graft, captured": {"images_per_second": 3000.4}, "graft native, captured": {"images_per_second": 2000.0}, "torch": {"images_per_second": 2500.0}},
               "ratios": {"torch": {"ratio": 1.2, "low": 1.15, "high": 1.25}}}],
}
README = "before\n<!-- results: written by tools/results-table -->\nold\n<!-- end of results -->\nafter\n"


class ResultsTable(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        (self.folder / "README.md").write_text(README)
        self.addCleanup(self.scratch.cleanup)

    def table(self, *more):
        done = run(ROOT / "tools/results-table", "--results", self.folder / "results", "--readme", self.folder / "README.md", *more)
        return done, (self.folder / "README.md").read_text()

    def test_says_that_nothing_was_measured(self):
        done, readme = self.table()
        self.assertEqual((done.returncode, readme), (0, README.replace("old", "On a GPU: not yet measured.")))

    def test_writes_what_was_measured(self):
        (self.folder / "bench.json").write_text(json.dumps(RESULT))
        done, readme = self.table("--add", self.folder / "bench.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("| ResNet50, training | 256 | bf16 | 3,000 | 2,000 | 2,500: 1.20x (1.15 to 1.25) | - |", readme)
        self.assertIn("H100", readme)
        self.assertEqual(self.table("--check")[0].returncode, 0)
        (self.folder / "README.md").write_text(readme.replace("3,000", "4,000"))
        self.assertEqual(self.table("--check")[0].returncode, 1)

    def test_refuses_numbers_without_their_machine(self):
        (self.folder / "bench.json").write_text(json.dumps(RESULT | {"machine": RESULT["machine"] | {"gpu": "none"}}))
        done, readme = self.table("--add", self.folder / "bench.json")
        self.assertEqual((done.returncode, readme), (1, README))
        self.assertIn("'gpu' is missing", done.stderr)

    def test_readme_is_up_to_date(self):
        done = run(ROOT / "tools/results-table", "--check")
        self.assertEqual(done.returncode, 0, done.stderr)


PTXAS = """ptxas info    : Compiling entry function '_ZN5graft4cuda9my_kernelIfEEvPT_' for 'sm_90'
ptxas info    : Function properties for _ZN5graft4cuda9my_kernelIfEEvPT_
    48 bytes stack frame, {stores} bytes spill stores, {stores} bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
"""


class Spills(unittest.TestCase):
    def spills(self, stores, known):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            if stores is not None:
                (folder / "a.cu.o.resources").write_text(PTXAS.format(stores=stores))
            (folder / "known.txt").write_text("# a comment\n" + known)
            return run(ROOT / "tools/spills", folder, "--known", folder / "known.txt", "--show", 1)

    def test_list(self):
        line = "sm_90 my_kernel<float>: the sums of eight columns are worth it\n"
        for stores, known, status, says in [
            (0, "", 0, "1 kernels, 0 spill"),
            (24, "", 1, "spills 24 bytes of stores and 24 of loads: sm_90 cuda::my_kernel<float>"),
            (24, line, 0, "0 of them unlisted"),
            (24, line.replace("sm_90", "sm_80"), 1, "1 of them unlisted"),
            (0, line, 1, "spills no more"),
            (24, "sm_90 my_kernel<float>\n", 1, "expected ARCHITECTURE KERNEL: REASON"),
            (None, "", 1, "holds no *.resources"),
        ]:
            with self.subTest(stores=stores, known=known):
                done = self.spills(stores, known)
                self.assertEqual(done.returncode, status, done.stdout + done.stderr)
                self.assertIn(says, done.stdout + done.stderr)


NCU = '''==PROF== Connected to process 1
{"peer": "graft"}
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","1","void relu_kernel<float>(float *)","gpu__time_duration.sum","ns","1,000"
"1","1","void gemm_kernel<float, 3>(int)","gpu__time_duration.sum","ns","700"
"2","1","void gemm_kernel<float, 4>(int)","gpu__time_duration.sum","ns","900"
"3","1","fill(int)","gpu__time_duration.sum","ns","5"
'''


class GpuCheck(unittest.TestCase):
    def test_finds_the_slowest_kernels(self):
        slowest = load("gpu-check").slowest_kernels(NCU, 2)
        self.assertEqual([(launch, together) for launch, _, together in slowest], [(2, 1600.0), (0, 1000.0)])
        self.assertEqual(load("gpu-check").slowest_kernels("==ERROR== no counters", 2), [])

    def test_a_failing_part_does_not_stop_the_next(self):
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run([ROOT / "tools/gpu-check", "profile", "ladder"], env={"OUT": scratch, "PATH": "/usr/bin:/bin"}, text=True, capture_output=True, check=False)
            summary = json.loads((pathlib.Path(scratch) / "summary.json").read_text())
            self.assertEqual(set(summary), {"profile", "ladder"}, done.stdout + done.stderr)
            if not load("gpu-check").gpu_is_there():
                self.assertEqual(done.returncode, 1)
                self.assertIn("no GPU", summary["profile"]["result"])


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
