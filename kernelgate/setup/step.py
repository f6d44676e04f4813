"""A slow program, shown as one line with its time; what it prints goes to a log, whose end is shown if it fails.

`main` is the same for the Makefile: `--log FILE "Python packages" -- PROGRAM ARGUMENT ...`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

__all__ = ["StepFailed", "Steps", "main"]

_TAIL_LINES = 25
_TAIL_BYTES = 64 * 1024
_TITLE_WIDTH = 62
#: What turns on a terminal while a step goes on.
_FRAMES = "|/-\\"
_FRAME_S = 0.2


class StepFailed(Exception):
    """A step's program could not be started or did not exit with 0; `tail` is the end of what it printed."""

    def __init__(self, title: str, reason: str, tail: str) -> None:
        super().__init__(f"{title}: {reason}")
        self.title, self.reason, self.tail = title, reason, tail


class Steps:
    """Runs steps one after the other, all into one log file (appended to)."""

    def __init__(self, log: Path, out: TextIO | None = None) -> None:
        self.log = log
        self._out = out or sys.stdout

    def run(self, title: str, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> float:
        """Runs a program to its end.

        Returns:
            How long it took, in seconds.

        Raises:
            StepFailed: it could not be started, or exited with something else than 0.
        """
        began = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"\n=== {title}\n$ {' '.join(argv)}\n".encode())
            log.flush()
            start = log.tell()
            self._line(title, "", end="")
            status: int | str
            try:
                process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            except OSError as exc:
                status = f"{argv[0]}: {exc.strerror}"
            else:
                with process:
                    try:
                        status = self._wait(process, title, began)
                    except BaseException:
                        process.terminate()
                        raise
        took_s = time.monotonic() - began
        if status == 0:
            self._line(title, f"{took_s:6.1f} s")
            return took_s
        self._line(title, f"FAILED after {took_s:.1f} s")
        reason = status if isinstance(status, str) else f"exit status {status}"
        raise StepFailed(title, reason, _tail(self.log, start))

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def _wait(self, process: subprocess.Popen[bytes], title: str, began: float) -> int:
        for frame in itertools.cycle(_FRAMES):
            try:
                return process.wait(timeout=_FRAME_S)
            except subprocess.TimeoutExpired:
                if self._out.isatty():
                    self._line(title, f"{time.monotonic() - began:6.1f} s {frame}", end="")
        raise AssertionError

    def _line(self, title: str, note: str, end: str = "\n") -> None:
        # On a terminal the line is rewritten; elsewhere (a CI log) the title comes first, and the time is added when it is known.
        text = f"  {title:<{_TITLE_WIDTH}} "
        if self._out.isatty():
            print(f"\r\x1b[K{text}{note}", end=end, file=self._out, flush=True)
        elif end:
            print(note, file=self._out, flush=True)
        else:
            print(text, end="", file=self._out, flush=True)


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one step; exits with 1 if it failed."""
    parser = argparse.ArgumentParser(prog="step", description="Run a slow program as one line with its time.")
    parser.add_argument("--log", type=Path, required=True, help="file that gets all of its output")
    parser.add_argument("title")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        parser.error("no program to run")
    try:
        Steps(options.log).run(options.title, program)
    except StepFailed as exc:
        print(f"{exc.tail}\n\n{exc}; all of its output is in {options.log}", file=sys.stderr)
        return 1
    return 0
