"""Repeats the gdb session of docs/debugging-a-kernel.md and compares what gdb says with what the page shows.

    python3 tests/project/debugger_test.py EXAMPLE_ONE_CONVOLUTION [--print]

--print shows the session as it is now, for the page. Ends with 77 (skipped) where gdb, its Python or the right to trace a process is missing.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/debugging-a-kernel.md"
SESSION = re.compile(r"<!-- session -->\n```text\n(.*?)```", re.DOTALL)
PROMPT = "(gdb) "
NOISE = ("[Thread debugging", "Using host libthread_db", "[New Thread", "warning: ", "[Inferior")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def gdb(*arguments):
    return subprocess.run(["gdb", "-nx", "-batch", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240,
                          check=False).stdout


def run(program, commands):
    """What gdb says to each command."""
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        for command in commands:
            script.write(f"echo {PROMPT}{command}\\n\n{command}\n")
        script.flush()
        return gdb("-x", script.name, program)


def tidy(text):
    """Without what differs from machine to machine or with every tuning: addresses, paths, line numbers, template arguments."""
    text = re.sub(r"0x[0-9a-f]+", "0x..", text)
    text = re.sub(r"\S*/(cuda/\S+?)[:,] ?(line )?\d+", r"\1", text)
    text = re.sub(r"\(\d+ locations\)", "", text)
    text = re.sub(r"^(Breakpoint \d+)\.\d+,", r"\1,", text, flags=re.MULTILINE)
    text = re.sub(r"<[^()\n]*>", "<>", text)
    lines = [re.sub(r"^\d+\t", "", line.rstrip()) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(NOISE)]


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    if shutil.which("gdb") is None:
        skip("there is no gdb: apt-get install gdb")
    if "ready" not in gdb("-ex", "python print('rea' + 'dy')"):
        skip("this gdb has no Python")
    if "exited" not in gdb("-ex", "run", "/bin/true"):
        skip("gdb may not trace processes here")
    if "extended state" in gdb("-ex", "break main", "-ex", "run", "-ex", "call (int)getpid()", program):
        skip("this gdb cannot call functions on a processor with AMX: gdb 14 can")
    page = SESSION.search(PAGE.read_text())[1]
    commands = [line[len(PROMPT):] for line in page.splitlines() if line.startswith(PROMPT)]
    now = run(program, commands)
    if "--print" in sys.argv:
        print(now)
        return
    want, got = tidy(page), tidy(now)
    if want != got:
        sys.exit("\n".join([f"{PAGE.name} shows:", *want, "", "gdb says (run with --print for the page):", *got]))
    if sum(line.startswith(PROMPT) for line in got) != len(commands) or len(got) < 2 * len(commands) - 4:
        sys.exit("the session is too short to show anything")


if __name__ == "__main__":
    main()
