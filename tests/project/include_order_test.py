"""Reads the #include lines of graft's sources and fails where a room looks at one above or beside it.

    python3 tests/project/include_order_test.py

The order is tools -> study -> {train, predict} -> {plan, models, optim, data, io} -> nn -> ops -> autograd -> kernels -> core.
"""

import collections
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a room sees besides itself, one line a room. The backends fill the kernel contract and know nothing above it.
BELOW_NN = {"ops", "autograd", "kernels", "core"}
SEES = {
    "core": set(),
    "kernels": {"core"},
    "cpu": {"kernels", "core"},
    "cuda": {"kernels", "core"},
    "autograd": {"kernels", "core"},
    "ops": {"autograd", "kernels", "core"},
    "nn": BELOW_NN,
    "plan": BELOW_NN | {"nn"},
    "models": BELOW_NN | {"nn"},
    "io": BELOW_NN | {"nn", "models"},
    "data": BELOW_NN,
    "optim": BELOW_NN,
    "train": BELOW_NN | {"nn", "plan", "models", "io", "data", "optim"},
    "predict": BELOW_NN | {"nn", "plan", "models", "io", "data", "optim"},
}
SEES["study"] = set(SEES) - {"cpu", "cuda"}
SEES["tools"] = set(SEES) - {"cpu", "cuda"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# A public header may name the standard library and graft, nothing else: whoever installs graft compiles against its headers alone.
STANDARD = re.compile(r"^[a-z_0-9]+$")


def includes(path):
    """The (line number, delimiter, header) of each include in a file."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match[1], match[2]


def room_of_header(header):
    parts = pathlib.PurePosixPath(header).parts
    if parts[0] == "graft":
        parts = parts[1:]
    return parts[0] if len(parts) > 1 and parts[0] in SEES else None


def sources(root):
    """Each source file with the room that it belongs to."""
    suffixes = {".h", ".cpp", ".cu", ".cuh"}
    places = [root / "include/graft", root / "src"]
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.suffix in suffixes:
                yield path, path.relative_to(place).parts[0]
    for room in ("cuda", "tools"):
        for path in sorted((root / room).rglob("*")):
            if path.suffix in suffixes:
                yield path, room


def violations(root):
    found = []
    for path, room in sources(root):
        where = path.relative_to(root)
        if room not in SEES:
            found.append(f"{where}: the room '{room}' has no line in SEES")
            continue
        for number, delimiter, header in includes(path):
            target = room_of_header(header)
            if target is not None and target != room and target not in SEES[room]:
                found.append(f"{where}:{number}: {room} does not see {target} ({header})")
            if where.parts[0] == "include":
                if delimiter == "<" and not STANDARD.match(header):
                    found.append(f"{where}:{number}: a public header includes <{header}>, which is not the standard library's")
                if delimiter == '"' and not header.startswith("graft/"):
                    found.append(f"{where}:{number}: a public header includes {header}, which is not installed")
    return found


def circles(sees):
    """Rooms that can be reached from themselves."""
    reach = {room: set(seen) for room, seen in sees.items()}
    for middle in reach:
        for room in reach:
            if middle in reach[room]:
                reach[room] |= reach[middle]
    return sorted(room for room, seen in reach.items() if room in seen)


class IncludeOrder(unittest.TestCase):
    def test_every_include_points_down(self):
        self.assertEqual(violations(ROOT), [])

    def test_the_order_has_no_circle(self):
        ordered = {room: seen for room, seen in SEES.items() if room != "tools"}
        ordered["study"] = ordered["study"] - {"study", "tools"}
        self.assertEqual(circles(ordered), [])

    def test_sources_are_found(self):
        rooms = collections.Counter(room for _, room in sources(ROOT))
        for room in ("core", "kernels", "cpu", "autograd", "ops", "nn", "models", "io", "data", "optim", "train"):
            self.assertGreater(rooms[room], 0, room)

    def test_an_upward_include_is_reported(self):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "include/graft/core").mkdir(parents=True)
            (root / "src/data").mkdir(parents=True)
            (root / "include/graft/core/bad.h").write_text("#include <fmt/format.h>\n#include <vector>\n")
            (root / "src/data/bad.cpp").write_text('#include "core/format.h"\n#include "graft/nn/network.h"\n')
            self.assertEqual(
                violations(root),
                [
                    "include/graft/core/bad.h:1: a public header includes <fmt/format.h>, which is not the standard library's",
                    "src/data/bad.cpp:2: data does not see nn (graft/nn/network.h)",
                ],
            )


if __name__ == "__main__":
    sys.exit(unittest.main())
