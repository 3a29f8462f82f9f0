"""tools/fetch-weights, on files beside it instead of a server's: what is downloaded, checked, continued and thrown away."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTENT = b"weights " * 1000


class FetchWeights(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name)
        for folder in ("tools", "weights/keras", "server", "cache"):
            (self.folder / folder).mkdir(parents=True)
        shutil.copy(ROOT / "tools/fetch-weights", self.folder / "tools")
        (self.folder / "server/net.h5").write_bytes(CONTENT)
        (self.folder / "graft").write_text('#!/bin/sh\necho "$@"\n')
        (self.folder / "graft").chmod(0o755)
        self.kept = self.folder / "cache/graft/weights/net.h5"
        self.part = self.kept.with_name("net.h5.part")

    def fetch(self, **manifest):
        entry = {"name": "net", "model": "mobilenet", "alpha": 0.5, "url": f"file://{self.folder}/server/net.h5", "md5": hashlib.md5(CONTENT).hexdigest(),
                 "preprocessing": "tf", "input_size": 160} | manifest
        (self.folder / "weights/keras/net.json").write_text(json.dumps({key: value for key, value in entry.items() if value is not None}))
        return subprocess.run([sys.executable, self.folder / "tools/fetch-weights", "net"], text=True, capture_output=True, check=False,
                              env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(self.folder / "cache"), "GRAFT": str(self.folder / "graft")})

    def test_downloads_once_and_converts(self):
        for _ in range(2):
            done = self.fetch()
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, f"convert {self.kept} -o net.safetensors --model mobilenet --input-size 160 --preprocessing tf --alpha 0.5\n")
            self.assertEqual(self.kept.read_bytes(), CONTENT)
            (self.folder / "server/net.h5").unlink(missing_ok=True)  # the second time it is not needed

    def test_continues_what_was_broken_off(self):
        for already in (100, len(CONTENT)):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            self.part.write_bytes(CONTENT[:already])
            self.assertEqual(self.fetch().returncode, 0)
            self.assertEqual(self.kept.read_bytes(), CONTENT)
            self.assertFalse(self.part.exists())
            self.kept.unlink()

    def test_throws_away_what_is_not_the_file(self):
        for manifest, message in [({"md5": "0" * 32}, "expected md5 0000"), ({"bytes": 7}, f"expected 7 bytes, got {len(CONTENT)}"), ({"sha256": "1" * 64}, "expected sha256 1111")]:
            done = self.fetch(**manifest)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(message, done.stderr)
            self.assertEqual(list(self.kept.parent.iterdir()), [])

    def test_says_the_hash_that_nobody_published(self):
        self.assertIn(hashlib.sha256(CONTENT).hexdigest(), self.fetch(md5=None).stdout)

    def test_keeps_what_it_has_when_the_server_fails(self):
        done = self.fetch(url=f"file://{self.folder}/server/gone.h5")
        self.assertEqual(done.returncode, 1)
        self.assertIn("curl ended with status", done.stderr)


class Manifests(unittest.TestCase):
    def test_say_what_is_needed(self):
        for path in sorted((ROOT / "weights/keras").glob("*.json")):
            with self.subTest(path.name):
                entry = json.loads(path.read_text())
                self.assertEqual(entry["name"], path.stem)
                self.assertTrue(path.stem.startswith(entry["model"]))
                self.assertEqual("classes" in entry, not path.stem.endswith("_notop"))
                self.assertTrue(entry["url"].startswith("https://") and entry["preprocessing"] in ("tf", "caffe") and entry["input_size"] > 0)


if __name__ == "__main__":
    if not shutil.which("curl", path="/usr/bin:/bin"):
        print("skipped: curl is not installed")
        sys.exit(77)
    unittest.main()
