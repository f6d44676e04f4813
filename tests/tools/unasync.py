"""Derives the synchronous client from the asynchronous one.

    python tests/tools/unasync.py           writes kernelgate/sdk/_sync
    python tests/tools/unasync.py --check   fails if what is there is not what would be written

The rules are applied to every line, in order. A rule that changes nothing anywhere is an error: it
belongs to code that is gone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parents[2] / "kernelgate" / "sdk"

# `_runtime.py` is what cannot be derived: waiting, and awaiting callbacks.
BY_HAND = {"_runtime.py"}

HEADER = "# Generated from kernelgate/sdk/_async/{name} by tests/tools/unasync.py: change that one.\n"

RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"AsyncGenerator\[(\w+(?:\[.+\])?(?:\.\w+)?), None\]", r"Generator[\1, None, None]"),
        (r"\bAsync([A-Z]\w*)", r"\1"),
        (r"\basync (def|with|for)\b", r"\1"),
        (r"\bawait ", ""),
        (r"__a(enter|exit)__", r"__\1__"),
        (r"\baclose\b", "close"),
        (r"\baread\b", "read"),
        (r"\baiter_bytes\b", "iter_bytes"),
        (r"\basynccontextmanager\b", "contextmanager"),
        (r"\b_async\b", "_sync"),
    )
]


def derive(source: str, name: str, used: set[int]) -> str:
    """The synchronous form of one module; adds the rules that were used to `used`."""
    lines = []
    for line in source.splitlines(keepends=True):
        for number, (pattern, replacement) in enumerate(RULES):
            line, count = pattern.subn(replacement, line)
            if count:
                used.add(number)
        lines.append(line)
    return HEADER.format(name=name) + "".join(lines)


def derived() -> dict[Path, str]:
    """What belongs in `_sync`, by file."""
    used: set[int] = set()
    found = {
        SDK / "_sync" / file.name: derive(file.read_text(), file.name, used)
        for file in sorted((SDK / "_async").glob("*.py"))
        if file.name not in BY_HAND
    }
    idle = [RULES[number][0].pattern for number in range(len(RULES)) if number not in used]
    if idle:
        raise SystemExit(f"rules that change nothing: {', '.join(idle)}")
    return found


def stale() -> list[Path]:
    """Files in `_sync` that are not what would be written, too many, or missing."""
    wanted = derived()
    there = {file for file in (SDK / "_sync").glob("*.py") if file.name not in BY_HAND}
    differing = {file for file in wanted if not file.exists() or file.read_text() != wanted[file]}
    return sorted(differing | (there - set(wanted)))


def main(arguments: list[str]) -> int:
    """The command line."""
    if arguments == ["--check"]:
        for file in stale():
            print(f"{file} is not current: run python tests/tools/unasync.py")
        return 1 if stale() else 0
    for file, text in derived().items():
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
