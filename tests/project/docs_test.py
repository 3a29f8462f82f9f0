"""Runs the commands of the pages, and holds the pages to the code.

    python3 tests/project/docs_test.py GRAFT DOCS_SAMPLES

- Every ```sh block of README.md, CONTRIBUTING.md and docs/*.md is run by bash, page by page in a scratch folder that holds small photos, a small
  network and results of the benchmarks; build/release is the build there, and tools/ the repository's. `<!-- needs PATH -->` before a block asks for
  what not every build has. `<!-- not run: why -->` keeps a block from being run; its syntax, commands, options and presets are checked all the same.
- Every ```cpp block behind `<!-- FILE -->` stands in that file, word for word.
- Every link to a file leads somewhere.
"""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GRAFT = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build/release/graft"
SAMPLES = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else ROOT / "build/release/tests/project/docs_samples"

BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def blocks(page, language):
    for match in BLOCK.finditer(page.read_text()):
        if match["language"] == language:
            yield match["note"] or "", match["text"]


def png(width, height, pixel):
    """An RGB PNG whose pixel (x, y) is pixel(x, y)."""
    rows = b"".join(b"\0" + bytes(c for x in range(width) for c in pixel(x, y)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_samples(folder):
    """photos/CLASS/N.png of three classes, and mobilenet.safetensors."""
    colours = {"birds": (200, 80, 40), "fish": (40, 90, 200), "flowers": (60, 180, 60)}
    for name, colour in colours.items():
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(1, 11):
            shade = [min(255, c + 5 * number) for c in colour]
            photo = png(48, 40, lambda x, y: shade if (x // 8 + y // (number + 3)) % 2 else (255, 255, 255))
            (folder / "photos" / name / f"{number}.png").write_bytes(photo)
    subprocess.run([SAMPLES], cwd=folder, check=True)
    (folder / "build").mkdir()
    (folder / "build/release").symlink_to(GRAFT.parent)
    (folder / "tools").symlink_to(ROOT / "tools")
    results = [result for result in sorted((ROOT / "benchmarks/results").glob("*.json")) if result.with_suffix(".html").exists()]
    for name, kind in [("bench", ""), ("scale", "-scale")]:
        newest = [result for result in results if result.stem.endswith(kind) and (kind or not re.search("-(scale|jobs|frozen)$", result.stem))][-1]
        shutil.copy(newest, folder / f"build/{name}.json")


KERAS_SAMPLE = """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
keras.utils.set_random_seed(1)
model = keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(128, 128, 3))
model.save("mobilenet.h5")
model.save("mobilenet.keras")
"""


def run(script, folder):
    environment = dict(os.environ, PATH=f"{GRAFT.parent}:{os.environ['PATH']}", XDG_CACHE_HOME=str(folder / ".cache"))
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=300, check=False)


def has_hdf5():
    doctor = subprocess.run([GRAFT, "doctor", "--json"], text=True, capture_output=True, check=True)
    return json.loads(doctor.stdout)["build"]["hdf5"]


def commands(text):
    """The words of each command in a block, continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in line.split("#")[0].split("&&"):
            if command.split():
                yield command.split()


class Pages(unittest.TestCase):
    def test_commands_run(self):
        for page in PAGES:
            scripts = [(note, text) for note, text in blocks(page, "sh")]
            if not any(not note.startswith("not run") for note, _ in scripts):
                continue
            with self.subTest(page=page.name), tempfile.TemporaryDirectory() as scratch:
                folder = pathlib.Path(scratch)
                write_samples(folder)
                for note, text in scripts:
                    if note.startswith("not run"):
                        continue
                    needed = note.removeprefix("needs ")
                    if needed != note and not (folder / needed).exists():
                        print(f"{page.name}: this build is without {needed}: its block is not run")
                        continue
                    if note.startswith("Keras"):
                        python = os.environ.get("GRAFT_ORACLE_PYTHON")
                        if python is None:
                            print(f"{page.name}: GRAFT_ORACLE_PYTHON is not set: no Keras file to run a block on")
                            continue
                        if not has_hdf5():
                            print(f"{page.name}: graft was built without HDF5: it reads no Keras file to run a block on")
                            continue
                        if not (folder / "mobilenet.keras").exists():
                            subprocess.run([python, "-c", KERAS_SAMPLE], cwd=folder, check=True, capture_output=True)
                    done = run(text, folder)
                    self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}")

    def test_syntax_of_every_block(self):
        for page in PAGES:
            for _, text in blocks(page, "sh"):
                done = subprocess.run(["bash", "-n", "-c", text], text=True, capture_output=True, check=False)
                self.assertEqual(done.returncode, 0, f"{page.name}: {text}\n{done.stderr}")

    def test_commands_and_options_exist(self):
        known_presets = {preset["name"] for preset in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]}
        helps = {}

        def help_of(*command):
            if command not in helps:
                done = subprocess.run([*command, "--help"], text=True, capture_output=True, check=False)
                self.assertEqual(done.returncode, 0, f"{page.name}: {' '.join(map(str, command))} --help\n{done.stderr}")
                helps[command] = done.stdout
            return helps[command]

        for page in PAGES:
            for _, text in blocks(page, "sh"):
                for program, *words in commands(text):
                    if program in ("cmake", "ctest") and "--preset" in words:
                        self.assertIn(words[words.index("--preset") + 1], known_presets, f"{page.name}: {program} {words}")
                    if program == "graft" and words and not words[0].startswith("-"):
                        known = help_of(GRAFT, words[0])
                    elif program.startswith("tools/"):
                        known = help_of(ROOT / program)
                    else:
                        continue
                    for option in words:
                        if program == "tools/test" and option == "-R":  # ctest's
                            continue
                        if option.startswith("-") and not option.lstrip("-").isdigit():
                            self.assertRegex(known, rf"(?<![\w-]){re.escape(option.split('=')[0])}(?![\w-])", f"{page.name}: {program} {words}")

    def test_excerpts_stand_in_the_code(self):
        count = 0
        for page in PAGES:
            for note, text in blocks(page, "cpp"):
                self.assertTrue(note, f"{page.name}: a cpp block without <!-- FILE --> before it:\n{text}")
                self.assertIn(text.strip(), (ROOT / note).read_text(), f"{page.name}: this does not stand in {note}")
                count += 1
        self.assertGreater(count, 0)

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in LINK.findall(page.read_text()):
                self.assertTrue((page.parent / link).exists(), f"{page.name}: {link}")


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
