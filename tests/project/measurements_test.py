"""The tools around measurements, on made-up measurements: tools/bench, tools/bench-scale, tools/bench-page, tools/results-table, tools/spills, tools/gpu-check.

    python3 tests/project/measurements_test.py BUILD
"""

import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from measuring import BUILD, CPU_RESULT, README, RESULT, ROOT, is_there, load, run  # first: it says where the others are

import cases  # noqa: E402
import comparison  # noqa: E402
import photos  # noqa: E402


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

    def test_target(self):
        for low, target, reached in [(1.27, 1.3, True), (1.25, 1.3, False), (1.5, 1.3, True)]:
            self.assertEqual(comparison.is_reached({"ratio": 2, "low": low, "high": 3, "target": target}), reached)
        self.assertFalse(comparison.is_reached({"ratio": 1.2, "target": 1.3}))

    def test_target_is_no_more_than_the_best_peer_reaches(self):
        for best, batch, target in [(1.0, 16, 1.2), (0.9, 16, 1.3), (1.0, 1, 1.3)]:
            ratios = {"LibTorch": {"ratio": 1.2, "target": 1.3}, "OpenVINO": {"ratio": best}, "ONNX Runtime": {"ratio": 1.5}, "graft, tuned": {"ratio": 0.5}}
            cases.lower_to_the_best({"work": "inference", "precision": "f32", "batch": batch}, ratios)
            self.assertEqual(ratios["LibTorch"]["target"], target)

    def test_difference_sees_a_wrong_logit(self):
        self.assertAlmostEqual(comparison.largest_difference([1, -4, 2.4], [1, -4, 2]), 0.1)
        self.assertRaises(comparison.Failed, comparison.largest_difference, [1], [1, 2])
        self.assertRaises(comparison.Failed, comparison.largest_difference, [1, math.nan], [1, 2])


class Update(unittest.TestCase):
    def test_tells_a_step_that_does_something_else(self):
        reference = {"loss": 7.0, "change": 2.0}
        self.assertAlmostEqual(cases.check_update("other", {"loss": 7.007, "change": 2.02}, reference, "f32")["change_difference"], 0.01)
        for other in [{"loss": 7.1, "change": 2.0}, {"loss": 7.0, "change": 0.0}, {"loss": math.nan, "change": 2.0}]:
            self.assertRaises(comparison.Failed, cases.check_update, "other", other, reference, "f32")
        self.assertEqual(cases.check_update("other", {}, {}, "f32"), {})


class Ceiling(unittest.TestCase):
    def test_is_the_sum_of_what_holds_each_product_back(self):
        # The first waits for its operations, 100 / 10, the second for its memory, 50 / 5.
        self.assertAlmostEqual(comparison.roofline([[100, 10], [1, 50]], {"f32": 10, "bf16": 1e9, "copy": 5}, "f32"), 20)

    def test_probe_answers(self):
        probe = comparison.Contestant("probe", [str(BUILD / "benchmarks/cpu_probe"), "--threads=1"])
        rates = probe.ask("rates")
        probe.close()
        self.assertEqual(probe.description["threads"], 1)
        for rate in ["f32", "bf16", "copy"]:
            self.assertGreater(rates[rate], 1e8)

    def test_products_of_vgg16(self):
        # 13 convolutions and 3 linear layers; a backward has two more each, but for the gradient of the image.
        for work, count in [("inference", 16), ("training", 3 * 16 - 1), ("head", 2), ("finetune", 3 * 4 - 1)]:
            with self.subTest(work=work):
                train = ["--train=block5_conv3,fc1,fc2,predictions"] if work == "finetune" else []
                step = comparison.Contestant("graft", [str(BUILD / "benchmarks/model_step"), "--model=vgg16", "--size=32", f"--work={work}", *train])
                products = step.ask("products")["products"]
                step.close()
                self.assertEqual(len(products), count)
                if work == "inference":
                    # 3x3 windows of 3 channels at 32x32 pixels; 4096 numbers in, 1000 out.
                    self.assertEqual(products[0], [2 * 9 * 3 * 64 * 32 * 32, 4 * (32 * 32 * (3 + 64) + 9 * 3 * 64)])
                    self.assertEqual(products[-1], [2 * 4096 * 1000, 4 * (4096 + 1000 + 4096 * 1000)])
                    self.assertEqual(sum(operations for operations, _ in products), step.description["product_flops"])


class Bench(unittest.TestCase):
    def bench(self, folder, *more):
        return run(sys.executable, ROOT / "tools/bench", "--device", "cpu", "--build", BUILD, "--models", "mobilenet", "--size", 32, "--batches", 2, "--precisions", "f32",
                   "--rounds", 2, "--chunk", 0.01, "--contestants", "graft, cached;graft;graft native;LibTorch;LibTorch, cached;torch", "--out", folder / "bench.json", *more)

    def test_takes_turns_checks_and_goes_on_where_it_stopped(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            done = self.bench(folder)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            report = json.loads((folder / "bench.json").read_text())
            self.assertEqual([case["work"] for case in report["cases"]], ["inference", "training", "head", "finetune", "first"])
            for case in report["cases"]:
                self.check(case, ["graft native", "LibTorch", "torch"])
                self.assertEqual(len(case["contestants"]["graft"]["seconds"]), 2)
                self.assertGreater(case["contestants"]["graft"]["installed_bytes"], 1e6)
                self.assertEqual(case["work"] == "first", "share_of_ceiling" not in case["contestants"]["graft"])
                if case["work"] in ("head", "finetune"):
                    self.check(case, ["graft", "LibTorch, cached"])
            self.assertEqual(self.bench(folder).stdout, "", "what is there already is not run again")

    def check(self, case, names):
        """Whoever is there takes part with the same logits; whoever is not is left out."""
        for name in names:
            with self.subTest(name=name, work=case["work"]):
                self.assertIn(name, case["ratios"] if name.startswith("graft") or is_there(name) else case["left_out"], case["left_out"])
                if name in case["ratios"]:
                    self.assertGreater(case["ratios"][name]["ratio"], 0)
                    self.assertLess(case["ratios"][name]["logit_difference"], 1e-4)
                    self.assertEqual("loss_difference" in case["ratios"][name], case["work"] in ("training", "head", "finetune"))

    def test_peers_that_run_inference(self):
        names = ["TorchScript", "Keras", "ONNX Runtime", "OpenVINO"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            done = self.bench(folder, "--work", "inference", "--contestants", "graft;" + ";".join(names))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.check(json.loads((folder / "bench.json").read_text())["cases"][0], names)

    def test_refuses_a_contestant_that_it_does_not_know(self):
        done = self.bench(pathlib.Path("."), "--contestants", "graft;caffe")
        self.assertEqual(done.returncode, 2)
        self.assertIn("got 'caffe'", done.stderr)

    def test_says_why_a_case_was_not_run(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            done = self.bench(folder, "--models", "no_such_network", "--work", "inference")
            self.assertEqual(done.returncode, 1)
            self.assertIn("no_such_network", json.loads((folder / "bench.json").read_text())["not_run"][0]["reason"])


class BenchScale(unittest.TestCase):
    def scale(self, folder, *more):
        return run(ROOT / "tools/bench-scale", "--build", BUILD, "--models", "mobilenet", "--work", "inference", "--batches", "1,2", "--thread-counts", "1,2", "--batch", 1, "--size", 32,
                   "--sizes", "32,64", "--photos", "8,16", "--rounds", 2, "--chunk", 0.01, "--out", folder / "scale.json", *more)

    def test_measures_draws_and_goes_on_where_it_stopped(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            self.assertEqual(self.scale(folder, "--axes", "batch,threads").returncode, 0)
            done = self.scale(folder)
            # Not its status: a sanitizer keeps what is freed, so that memory grows with the second eight photos.
            self.assertNotIn("not run", done.stdout + done.stderr)
            self.assertIn("features: from 8 to 16 photos", done.stdout)
            report = json.loads((folder / "scale.json").read_text())
            steps = [point for point in report["points"] if point["axis"] != "photos"]
            self.assertEqual([(point["axis"], point["batch"], point["threads"], point["image"]) for point in steps],
                             [("batch", 1, report["threads"], 32), ("batch", 2, report["threads"], 32), ("threads", 1, 1, 32), ("threads", 1, 2, 32),
                              ("image", 1, report["threads"], 32), ("image", 1, report["threads"], 64)])
            for point in steps:
                self.assertEqual(list(point["contestants"]), ["graft"] + ["LibTorch"] * is_there("LibTorch"), point["left_out"])
                self.assertGreater(point["contestants"]["graft"]["peak_bytes"], 1e6)
                self.assertEqual(set(point["speed_up"]), set(point["contestants"]) if point["threads"] == 2 and point["axis"] == "threads" else set())
            counted = [(point["photos"], point["way"]) for point in report["points"] if point["axis"] == "photos"]
            self.assertEqual(counted, [(count, way) for count in (8, 16) for way in ("finetune, in a file", "finetune, in memory", "features")])
            for point in report["points"]:
                if point["axis"] == "photos":
                    self.assertGreater(point["peak_bytes"], 1e6)
                    if point["way"] != "features":
                        self.assertIn("of the cache folder" if point["way"].endswith("a file") else "of memory", point["decision"])
            self.assertNotIn(str(folder), (folder / "scale.json").read_text())
            self.assertNotIn("ms", self.scale(folder).stdout, "what is there already is not run again")
            self.check_page(folder)

    def check_page(self, folder):
        """The page has two charts of each axis and network, can be filed, and does not confuse README's table."""
        self.assertEqual(run(ROOT / "tools/bench-page", folder / "scale.json").returncode, 0)
        text = (folder / "scale.html").read_text()
        self.assertEqual(text.count('role="img"'), 8)
        for words in ["MobileNet, inference, batch 1, 32x32 pixels", "images/s", "times one thread", "ms an image", "peak memory", "features, from 8 to 16 photos"]:
            self.assertIn(words, text)
        self.assertNotIn("http", text)
        added = run(ROOT / "tools/bench-page", "--add", folder / "scale.json", "--results", folder / "results")
        self.assertIn("-scale.html", added.stdout, added.stderr)
        self.assertEqual(run(ROOT / "tools/bench-page", "--check", "--results", folder / "results").returncode, 0)
        (folder / "README.md").write_text(README)
        self.assertEqual(run(ROOT / "tools/results-table", "--results", folder / "results", "--readme", folder / "README.md").returncode, 0)
        self.assertIn("On a CPU: not yet measured.", (folder / "README.md").read_text())

    def test_leaves_out_who_would_find_no_room(self):
        tool = load("bench-scale")
        tool.machine.free_bytes = lambda: 10.6e9
        at = lambda batch, own, other: {"axis": "batch", "model": "m", "work": "training", "batch": batch, "size": 0,
                                        "contestants": {name: {"peak_bytes": peak} for name, peak in [("graft", own), ("LibTorch", other)] if peak}}
        found = [at(1, 1.1e9, 2.1e9), at(2, 1.2e9, 2.2e9), at(16, 2.6e9, 3.6e9), at(32, 4.2e9, 5.2e9)]
        # 100 MB an image: at 32 both fit into 9.5 GB, at 64 graft alone, at 128 nobody.
        self.assertEqual(tool.who_fits(["graft", "LibTorch"], at(32, 0, 0), found)[0], ["graft", "LibTorch"])
        kept, left_out = tool.who_fits(["graft", "LibTorch"], at(64, 0, 0), found)
        self.assertEqual((kept, left_out), (["graft"], {"LibTorch": "it would take 8.4 GB, and 2.1 GB are free"}))
        self.assertRaises(comparison.NoRoom, tool.who_fits, ["graft", "LibTorch"], at(128, 0, 0), found)

    def test_says_whether_memory_stays_flat(self):
        points = lambda way, *peaks: [{"way": way, "photos": 10 ** (2 + i), "peak_bytes": peak} for i, peak in enumerate(peaks)]
        for way, peaks, flat in [("features", (50e6, 51e6, 52e6, 60e6), True), ("features", (50e6, 51e6, 70e6, 130e6), False),
                                 ("finetune, in memory", (50e6, 51e6, 80e6, 90e6), True), ("finetune, in a file", (50e6, 51e6, 90e6, 60e6), True)]:
            with self.subTest(way=way, peaks=peaks):
                self.assertEqual(photos.verdict(points(way, *peaks))["flat"], flat)
        self.assertIsNone(photos.verdict(points("features", 50e6)))


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
        self.assertEqual((done.returncode, readme), (0, README.replace("old", "On a CPU: not yet measured.\n\nOn a GPU: not yet measured.")))

    def test_writes_what_was_measured(self):
        (self.folder / "bench.json").write_text(json.dumps(RESULT))
        done, readme = self.table("--add", self.folder / "bench.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("| ResNet50, training | 256 | bf16 | 3,000 | 2,000 | 2,500: 1.20x (1.15 to 1.25) |", readme)
        self.assertIn("H100", readme)
        self.assertEqual(self.table("--check")[0].returncode, 0)
        (self.folder / "README.md").write_text(readme.replace("3,000", "4,000"))
        self.assertEqual(self.table("--check")[0].returncode, 1)

    def test_has_a_table_of_a_cpu(self):
        (self.folder / "results").mkdir()
        (self.folder / "results/2026-01-02-some-cpu.json").write_text(json.dumps(CPU_RESULT))
        done, readme = self.table()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 cores of a CPU (Some <CPU> 9000), 2026-01-02, at commit abc1234", readme)
        self.assertIn("| ResNet50, inference | 16 | f32 | 30.0 | 20.0: 1.50x (1.40 to 1.60) |", readme)
        self.assertIn("On a GPU: not yet measured.", readme)

    def test_has_the_newest_of_each_machine(self):
        (self.folder / "results").mkdir()
        for day, cpu in [("02", "Some <CPU>"), ("03", "Some <CPU>"), ("01", "Another")]:
            name = re.sub("[^a-z]+", "-", cpu.lower()).strip("-")
            result = CPU_RESULT | {"machine": CPU_RESULT["machine"] | {"date": f"2026-01-{day}", "cpu": cpu}}
            (self.folder / f"results/2026-01-{day}-{name}.json").write_text(json.dumps(result))
        _, readme = self.table()
        others = (self.folder / "results/README.md").read_text()
        for day, page in [("2026-01-03", [readme]), ("2026-01-02", []), ("2026-01-01", [others])]:
            self.assertEqual([text for text in (readme, others) if day in text], page, day)

    def test_shows_the_peer_whose_target_is_missed(self):
        (self.folder / "results").mkdir()
        case = CPU_RESULT["cases"][0]
        ratios = {"LibTorch": {"ratio": 1.2}, "ONNX Runtime": {"ratio": 1.01, "low": 1.0, "high": 1.02, "target": 1.0}, "OpenVINO": {"ratio": 1.02, "low": 0.8, "high": 1.2, "target": 1.0}}
        contestants = case["contestants"] | {name: {"images_per_second": 20, "median_ms": 1} for name in ratios}
        result = CPU_RESULT | {"cases": [case | {"contestants": contestants, "ratios": ratios}], "command": "tools/bench --contestants graft;ONNX Runtime --rounds 3, in two calls"}
        (self.folder / "results/2026-01-02-some-cpu.json").write_text(json.dumps(result))
        _, readme = self.table()
        self.assertIn("OpenVINO 20.0: 1.02x (0.80 to 1.20), target 1.0x missed", readme)
        self.assertIn("`tools/bench --contestants 'graft;ONNX Runtime' --rounds 3`, in two calls", readme)

    def test_refuses_numbers_without_their_machine(self):
        (self.folder / "bench.json").write_text(json.dumps(RESULT | {"machine": RESULT["machine"] | {"gpu": "none"}}))
        done, readme = self.table("--add", self.folder / "bench.json")
        self.assertEqual((done.returncode, readme), (1, README))
        self.assertIn("'gpu' is missing", done.stderr)

    def test_readme_is_up_to_date(self):
        done = run(ROOT / "tools/results-table", "--check")
        self.assertEqual(done.returncode, 0, done.stderr)

class BenchPage(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name)
        self.result = self.folder / "bench.json"
        self.result.write_text(json.dumps(CPU_RESULT))

    def test_says_what_was_measured(self):
        self.assertEqual(run(ROOT / "tools/bench-page", self.result).returncode, 0)
        text = (self.folder / "bench.html").read_text()
        for words in ["Some &lt;CPU&gt; 9000", "Inference, f32, batch 16", "ResNet50", "30.0 images/s, 75 % of the ceiling", "20.0 images/s, 50 % of the ceiling; 1.50x (1.40 to 1.60)",
                      "Left out: Keras: No module named &#x27;keras&#x27;", "<td>LibTorch</td><td>500 MB</td><td>900 MB</td>"]:
            self.assertIn(words, text)
        # The ceiling, 40 images a second, is the widest; bars stand to it as their speeds.
        own, other = (float(width) for width in re.findall(r'<rect [^>]* width="([0-9.]+)"', text))
        left, end = (float(re.search(pattern, text)[1]) for pattern in [r'<rect [^>]* x="([0-9.]+)"', r'<line [^>]*x1="([0-9.]+)"'])
        self.assertAlmostEqual(own / other, 1.5, places=2)
        self.assertAlmostEqual((end - left) / own, 40 / 30, places=2)
        self.assertNotIn("http", text)

    def test_files_and_checks(self):
        results = self.folder / "results"
        self.assertEqual(run(ROOT / "tools/bench-page", "--add", self.result, "--results", results).returncode, 0)
        self.assertEqual(sorted(path.name for path in results.iterdir()), ["2026-01-02-some-cpu-9000.html", "2026-01-02-some-cpu-9000.json"])
        self.assertEqual(run(ROOT / "tools/bench-page", "--check", "--results", results).returncode, 0)
        written = results / "2026-01-02-some-cpu-9000.html"
        written.write_text(written.read_text().replace("30.0 images/s", "60.0 images/s"))
        self.assertEqual(run(ROOT / "tools/bench-page", "--check", "--results", results).returncode, 1)

    def test_refuses_numbers_without_their_machine(self):
        self.result.write_text(json.dumps(CPU_RESULT | {"machine": CPU_RESULT["machine"] | {"commit": "unknown"}}))
        done = run(ROOT / "tools/bench-page", self.result)
        self.assertEqual(done.returncode, 1)
        self.assertIn("'commit' is missing", done.stderr)

    def test_pages_are_those_of_their_results(self):
        done = run(ROOT / "tools/bench-page", "--check")
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

    def test_what_was_packed_of_other_sources_is_built_anew(self):
        check = load("gpu-check")
        with tempfile.TemporaryDirectory() as scratch:
            check.PACKED = pathlib.Path(scratch) / "gpu-build.tar.xz"
            part = check.Part("build", pathlib.Path(scratch), 10)
            self.assertFalse(check.unpack(part), "nothing was packed")
            check.PACKED.touch()
            check.PACKED.with_suffix(".json").write_text(json.dumps({"root": str(ROOT), "sources": "0"}))
            self.assertFalse(check.unpack(part))
            self.assertIn("is of other sources", part.log.getvalue())

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
