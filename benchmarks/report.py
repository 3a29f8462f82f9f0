"""The JSON that a comparison leaves, written after each of its cases, so that a later call goes on where one stopped."""

import json
import pathlib
import shlex
import sys
import time

import machine
from comparison import Failed, NoRoom


class Report:
    """What was found, under `field`, and what was not run, with the reason."""

    def __init__(self, options, field):
        self.options, self.field, self.began = options, field, time.monotonic()
        command = shlex.join(pathlib.Path(word).name if word.startswith("/") else word for word in sys.argv)
        self.content = {"machine": machine.describe(), "command": command, "device": options.device, "threads": options.threads, field: [], "not_run": []}
        if options.out and options.out.exists():
            self.content[field] = json.loads(options.out.read_text())[field]

    @property
    def found(self):
        return self.content[self.field]

    def run_all(self, cases, key, run, show):
        """Runs what is not held already, until the seconds are over. Returns the status that the program ends with: 0 unless a case failed, for another reason than that the machine is too small, or there is nothing."""
        done, not_run, failed = {key(case) for case in self.found}, self.content["not_run"], False
        for case in cases:
            if key(case) in done:
                continue
            if time.monotonic() - self.began > self.options.seconds:
                not_run.append(dict(case, reason=f"the {self.options.seconds:.0f} s were over"))
                continue
            try:
                self.found.append(run(case))
                show(self.found[-1])
            except Failed as failure:
                failed = failed or not isinstance(failure, NoRoom)
                not_run.append(dict(case, reason=str(failure)))
                print(f"{', '.join(f'{name} {value}' if isinstance(value, (int, float)) else value for name, value in case.items())}: not run: {failure}", flush=True)
            self.write()
        self.write()
        if not_run:
            print(f"{len(not_run)} {self.field} were not run")
        return 0 if self.found and not failed else 1

    def write(self):
        if self.options.out:
            self.options.out.parent.mkdir(parents=True, exist_ok=True)
            self.options.out.write_text(json.dumps(self.content, indent=1) + "\n")
