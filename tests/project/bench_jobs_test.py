"""tools/bench-jobs, with a program in LibTorch's place.

    python3 tests/project/bench_jobs_test.py BUILD
"""

import json
import math
import pathlib
import struct
import sys
import tempfile
import unittest

from measuring import BUILD, CPU_RESULT, README, ROOT, run  # first: it says where the others are

import comparison  # noqa: E402
import environments  # noqa: E402


def bmp(width, height, colour):
    """A picture of one colour."""
    row = bytes(colour) * width
    rows = (row + b"\0" * (-len(row) % 4)) * height
    return struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + len(rows), 0, 54, 40, width, height, 1, 24, 0, len(rows), 0, 0, 0, 0) + rows


# In LibTorch's place: features are graft's, every second photo is named rightly, nothing is trained.
FAKE_PEER = """#!{python}
import json, pathlib, subprocess, sys
sys.path[:0] = {paths}
import jobs
options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
if "features" in options:
    photos, count, file = sorted(pathlib.Path(options["validation"]).glob("*/*")), int(options["features"]), options["network"] + ".features"
    chosen = [photos[i * len(photos) // count] for i in range(count)]
    subprocess.run([{graft!r}, "features", "--weights", options["network"], "--layer", "conv_pw_13_relu", *chosen, "-o", file], check=True, capture_output=True)
    print(json.dumps({{"output": jobs.first_tensor(file)}}))
else:
    print(json.dumps({{"version": "1", "frozen_seconds": 0, "epochs": [{{"seconds": 0.5, "top1": 0.5}}] * int(options["epochs"])}}))
"""


class BenchJobs(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        step = comparison.Contestant("graft", [str(BUILD / "benchmarks/model_step"), "--model=mobilenet", "--size=32"])
        step.ask(f"weights {self.folder}/mobilenet.safetensors")
        step.close()
        for part, count in [("train", 8), ("validation", 3)]:
            for label, name in enumerate(["dark", "light"]):
                (self.folder / "photos" / part / name).mkdir(parents=True)
                for number in range(count):
                    (self.folder / "photos" / part / name / f"{number}.bmp").write_bytes(bmp(40, 30, (200 * label + number, 100, 50)))

    def put_fake_peer(self):
        program = self.folder / "cache/graft/bench/libtorch_job"
        program.parent.mkdir(parents=True)
        paths = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks/peers")]
        program.write_text(FAKE_PEER.format(python=sys.executable, paths=paths, graft=str(BUILD / "graft")))
        program.chmod(0o755)

    def bench(self, *more, cache="cache"):
        done = run(ROOT / "tools/bench-jobs", "--build", BUILD, "--weights", f"mobilenet={self.folder}/mobilenet.safetensors", "--data", self.folder / "photos", "--epochs", 2,
                   "--batch", 4, "--rounds", 2, "--threads", 1, "--out", self.folder / "jobs.json", *more, XDG_CACHE_HOME=str(self.folder / cache) if cache else environments.CACHE.parent)
        out = self.folder / "jobs.json"
        return done, out.read_text() if out.exists() else ""

    def test_compares_whole_jobs_and_goes_on_where_it_stopped(self):
        self.put_fake_peer()
        done, text = self.bench()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        cases = json.loads(text)["cases"]
        self.assertEqual([case["work"] for case in cases], ["head job", "finetune job", "probes job", "depths job"])
        for case, depths in zip(cases, [1, 1, 6, 6]):
            for name in ["graft", "LibTorch, frozen"] + (["LibTorch, cached"] if depths == 1 else []):
                found = case["contestants"][name]
                self.assertEqual([len(values) for values in found["top1"]], [depths, depths])
                self.assertEqual(len(found["seconds"]), 2)
                self.assertGreater(found["peak_bytes"], 1e6)
            self.assertEqual(len(case["contestants"]["LibTorch, frozen"]["commands"]), depths)
            self.assertEqual(case["features_difference"], 0)
            self.assertGreater(case["ratios"]["LibTorch, frozen"]["ratio"], 0)
        head = cases[0]
        self.assertEqual(head["ratios"]["LibTorch, frozen"]["target"], 10)
        self.assertAlmostEqual(head["contestants"]["LibTorch, frozen"]["later_epoch_seconds"][0], 0.5)
        self.assertAlmostEqual(head["ratios"]["LibTorch, frozen"]["later_epochs"]["ratio"],
                               math.prod(0.5 / own for own in head["contestants"]["graft"]["later_epoch_seconds"]) ** 0.5)
        self.assertNotIn(str(self.folder), text)
        self.assertNotIn(str(BUILD), text)

        again, _ = self.bench()
        self.assertNotIn("round", again.stdout, "what is there already is not run again")
        other, _ = self.bench("--epochs", 3)
        self.assertEqual(other.returncode, 1)
        self.assertIn("other options", other.stdout)

        (self.folder / "jobs.json").write_text(json.dumps(json.loads(text) | {"machine": CPU_RESULT["machine"]}))
        self.assertEqual(run(ROOT / "tools/bench-page", "--add", self.folder / "jobs.json", "--results", self.folder / "results").returncode, 0)
        page = (self.folder / "results/2026-01-02-some-cpu-9000-jobs.html").read_text()
        for words in ["A new head on a frozen backbone", "target 10x", "Epochs after the first, graft against LibTorch, frozen", "Validation accuracy: graft"]:
            self.assertIn(words, page)
        (self.folder / "README.md").write_text(README)
        self.assertEqual(run(ROOT / "tools/results-table", "--results", self.folder / "results", "--readme", self.folder / "README.md").returncode, 0)
        self.assertIn("Seconds from photos to a trained network on 2 cores", (self.folder / "README.md").read_text())

    def test_leaves_out_who_is_not_there(self):
        done, text = self.bench("--jobs", "head")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        case = json.loads(text)["cases"][0]
        self.assertEqual(list(case["contestants"]), ["graft"])
        self.assertIn("tools/bench --install", case["left_out"]["LibTorch, frozen"])

    def test_leaves_out_who_does_not_compute_the_same(self):
        self.put_fake_peer()
        program = self.folder / "cache/graft/bench/libtorch_job"
        program.write_text(program.read_text().replace("jobs.first_tensor(file)", "jobs.first_tensor(file)[::-1]"))
        _, text = self.bench("--jobs", "head")
        self.assertIn("features of photos differ", json.loads(text)["cases"][0]["left_out"]["LibTorch, cached"])

    def test_refuses_what_it_does_not_know(self):
        done, _ = self.bench("--jobs", "everything")
        self.assertEqual(done.returncode, 2)
        self.assertIn("got 'everything'", done.stderr)

    @unittest.skipUnless(environments.LIBTORCH_JOB.exists(), "LibTorch's program is not installed")
    def test_libtorch_does_the_same_jobs(self):
        made = run(environments.python("torch"), ROOT / "benchmarks/peers/views.py", "--out", self.folder / "made", "--count", 40)
        self.assertEqual(made.returncode, 0, made.stderr)
        done, text = self.bench("--data", self.folder / "made", "--rounds", 1, cache=None)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for case in json.loads(text)["cases"]:
            self.assertEqual(case["left_out"], {})
            self.assertLess(case["features_difference"], 1e-2)


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
