"""Cells whose output is known before they run, in four languages, and whether what arrived is that."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

LANGUAGES = ("python", "javascript", "r", "java")

#: Each leaves one empty file per run in /workspace/ran, named `EXECUTION.something`: a cell that ran twice leaves two. Empty ones need no room on a full disk.
_CODE = {
    "python": """
import os, time
os.makedirs("/workspace/ran", exist_ok=True)
open(f"/workspace/ran/NAME.{time.time_ns()}", "w").close()
for number in range(LINES):
    print(f"NAME:{number}:" + "x" * WIDTH)
    if number % 10 == 9:
        time.sleep(PAUSE)
"NAME is done"
""",
    "javascript": """
const fs = require("fs");
fs.mkdirSync("/workspace/ran", {recursive: true});
fs.writeFileSync(`/workspace/ran/NAME.${process.hrtime.bigint()}`, "");
for (let number = 0; number < LINES; number++) {
    console.log(`NAME:${number}:` + "x".repeat(WIDTH));
    if (number % 10 === 9) await new Promise(resolve => setTimeout(resolve, PAUSE * 1000));
}
"NAME is done"
""",
    "r": """
dir.create("/workspace/ran", showWarnings = FALSE)
invisible(file.create(tempfile("NAME.", "/workspace/ran")))
for (number in 0:(LINES - 1)) {
    cat(paste0("NAME:", number, ":", strrep("x", WIDTH), "\\n"))
    if (number %% 10 == 9) Sys.sleep(PAUSE)
}
"NAME is done"
""",
    "java": """
java.nio.file.Files.createDirectories(java.nio.file.Path.of("/workspace/ran"));
java.nio.file.Files.createTempFile(java.nio.file.Path.of("/workspace/ran"), "NAME.", "");
for (int number = 0; number < LINES; number++) {
    System.out.println("NAME:" + number + ":" + "x".repeat(WIDTH));
    if (number % 10 == 9) Thread.sleep((long) (PAUSE * 1000));
}
"NAME is done"
""",
}


@dataclass(frozen=True)
class Cell:
    """One execution: its id, and what it prints."""

    name: str
    language: str
    lines: int
    width: int
    pause_s: float

    @classmethod
    def any(cls, name: str, language: str, chance: Random) -> Cell:
        return cls(name, language, chance.randrange(20, 200), chance.randrange(1, 200), chance.uniform(0.005, 0.04))

    @property
    def code(self) -> str:
        text = _CODE[self.language]
        for word, value in (("NAME", self.name), ("LINES", str(self.lines)), ("WIDTH", str(self.width)), ("PAUSE", f"{self.pause_s:.4f}")):
            text = text.replace(word, value)
        return text

    @property
    def output(self) -> str:
        return "".join(f"{self.name}:{number}:{'x' * self.width}\n" for number in range(self.lines))


@dataclass
class Verdict:
    """What came of a cell: `bytes` that were right, `lost` without a word (repeated and misplaced ones count too), `marked` ones missing at a `gap`, and what else was wrong."""

    bytes: int = 0
    lost: int = 0
    marked: int = 0
    status: str = ""
    problems: tuple[str, ...] = ()


def judge(cell: Cell, events: list[dict[str, Any]], *, gaps: bool, deaths: bool) -> Verdict:
    """Holds a stream's events against the cell. `gaps`: its host may have been killed; `deaths`: its kernel may have been."""
    problems = []
    numbers = [event["seq"] for event in events]
    if numbers != sorted(set(numbers)):
        problems.append("events repeated or out of order")
    pieces, results = [""], []
    for event in events:
        match event["type"]:
            case "stdout":
                pieces[-1] += event["text"]
            case "gap":
                pieces.append("")
            case "error" if gaps and event["error"]["name"] == "ReplyLost":
                pass  # a reply on its way to a host that was killed: the end says so
            case "stderr" | "error" if not deaths:
                problems.append(f"{event['type']}: {event.get('text') or event.get('error')}")
            case "result":
                results.append(str(event["result"].get("text")))
    end = events[-1]
    status, expected = end["status"], cell.output
    at = right = 0
    for place, piece in enumerate(pieces):
        found = expected.find(piece, at) if place else (0 if expected.startswith(piece) else -1)
        if found < 0:
            problems.append(f"output that was never printed, or not there: {_first_difference(expected[at:], piece)}")
            continue
        at, right = found + len(piece), right + len(piece)
    missing = len(expected) - right
    if len(pieces) > 1 and not gaps:
        problems.append("a gap, although its host was not killed")
    if status == "ok":
        whole = len(pieces) == 1
        if whole and not any(f"{cell.name} is done" in text for text in results):
            problems.append(f"no result: {results}")
        lost, marked = (missing, 0) if whole else (0, missing)
    elif (status == "kernel_died" and deaths) or (status == "lost" and gaps and len(pieces) > 1):
        lost, marked = 0, missing  # what a killed kernel had not yet sent is its own; what it had sent was compared above
    else:
        problems.append(
            f"ended as {status} ({end.get('death')}) {end['time'] - events[0]['time']:.1f} s after it was asked for, {right} bytes of {len(expected)}"
        )
        lost, marked = missing, 0
    return Verdict(right, lost, marked, status, tuple(problems))


def _first_difference(expected: str, got: str) -> str:
    at = next((place for place, (one, other) in enumerate(zip(expected, got, strict=False)) if one != other), min(len(expected), len(got)))
    return f"at {at}: {expected[at : at + 60]!r} expected, {got[at : at + 60]!r} came"
