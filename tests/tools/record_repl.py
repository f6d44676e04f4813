"""Records `kernelgate repl` in each language as text, by tmux.

    python tests/tools/record_repl.py [LANGUAGE ...]

Each recording is docs/recordings/repl-LANGUAGE.txt: what the terminal showed, with the keys that were pressed. It needs tmux, and starts a server for itself where none runs.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ROOT / "docs" / "recordings"

# Of each language: a block in several lines, a call of it, the beginning of a name with several endings, and a loop without end.
STEPS = {
    "python": (["def double(n):", "return 2 * n", ""], "double(21)", "str.isa", "while True: pass"),
    "javascript": (["function double(n) {", "return 2 * n", "}"], "double(21)", "Math.si", "while (true);"),
    "typescript": (["function double(n: number): number {", "return 2 * n", "}"], "double(21)", "Math.si", "while (true);"),
    "r": (["double <- function(n) {", "2 * n", "}"], "double(21)", "read.cs", "repeat {}"),
    "java": (["int doubled(int n) {", "return 2 * n;", "}"], "doubled(21)", "Math.si", "while (true) { Thread.onSpinWait(); }"),
    "bash": (["doubled() {", "echo $((2 * $1))", "}"], "doubled 21", "una", "while :; do :; done"),
}
_WAIT_S = 60.0


class Terminal:
    """A tmux of its own with the prompt in it."""

    def __init__(self, language: str, state: str) -> None:
        self.language = language
        self._socket = f"kernelgate-record-{os.getpid()}-{language}"
        command = shlex.join([sys.executable, "-m", "kernelgate", "repl", "-l", language])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": state, "TERM": "xterm-256color"}
        subprocess.run(
            ["tmux", "-L", self._socket, "-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "40", command],
            check=True,
            env=environment,
        )

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(["tmux", "-L", self._socket, *arguments], check=True, capture_output=True, text=True).stdout

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines() if line.strip()]

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)
        time.sleep(0.4)

    def type(self, text: str) -> None:
        # tmux takes a semicolon at an argument's end for its own.
        self._tmux("send-keys", "-l", text.removesuffix(";") or "")
        if text.endswith(";"):
            self._tmux("send-keys", "\\;")
        time.sleep(0.3)

    def wait(self, ending: str) -> None:
        give_up_at = time.monotonic() + _WAIT_S
        while not (self.lines() and self.lines()[-1] == ending):
            if time.monotonic() > give_up_at:
                raise SystemExit("\n".join([f"{self.language}: no {ending!r} in time", *self.lines()]))
            time.sleep(0.1)

    def ready(self) -> None:
        self.wait(f"{self.language}>")

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], check=False, capture_output=True)


def record(language: str) -> str:
    """One language's recording."""
    block, call, begun, loop = STEPS[language]
    parts: list[str] = []
    with tempfile.TemporaryDirectory() as state:
        terminal = Terminal(language, state)

        def keep(what: str) -> None:
            parts.append("\n".join([f"=== {what}", "", *terminal.lines(), ""]))

        try:
            terminal.ready()
            for line in block:
                terminal.type(line)
                terminal.press("Enter")
            terminal.ready()
            terminal.type(call)
            terminal.press("Enter")
            terminal.ready()
            keep("several lines, each Enter judged by the kernel; a call")
            terminal.type(begun)
            terminal.press("Tab")
            time.sleep(1)
            keep(f"{begun!r} and Tab: the kernel completes")
            terminal.press("C-c")
            terminal.ready()
            terminal.press("Up")
            time.sleep(0.5)
            keep("Ctrl-C at the line takes it away, Up brings back the last")
            terminal.press("C-c")
            terminal.ready()
            terminal.type(loop)
            terminal.press("Enter")
            time.sleep(2)
            keep("code without end: its time is told")
            terminal.press("C-c")
            terminal.ready()
            terminal.type(call)
            terminal.press("Enter")
            terminal.ready()
            keep("Ctrl-C interrupts the code; what was defined is still there")
        finally:
            terminal.close()
    return "\n".join(parts)


def main(languages: list[str]) -> int:
    """The command line."""
    SHOWN.mkdir(exist_ok=True)
    for language in languages or list(STEPS):
        (SHOWN / f"repl-{language}.txt").write_text(record(language), encoding="utf-8")
        print(f"recorded {language}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
