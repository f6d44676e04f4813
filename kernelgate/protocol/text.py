"""Text as a notebook would show it: colours, carriage returns, backspaces."""

from __future__ import annotations

import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
#: What moves on a line: carriage return, backspace, "erase in line" (ECMA-48 EL), as progress bars use them.
_MOVES = re.compile(r"(\r|\x08|\x1b\[[0-2]?K)")


def strip_ansi(text: str) -> str:
    """Without terminal escape sequences (ECMA-48 control sequences, operating system commands, two-byte escapes)."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def settle(text: str) -> str:
    """What stays on the screen: a carriage return starts its line again and overwrites, a backspace goes one back, erasing erases."""
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(_settle_line(line) if "\r" in line or "\b" in line else line for line in text.replace("\r\n", "\n").split("\n"))


def _settle_line(line: str) -> str:
    cells: list[str] = []
    at = 0
    for part in _MOVES.split(line):
        if part == "\r":
            at = 0
        elif part == "\b":
            at = max(0, at - 1)
        elif part in ("\x1b[K", "\x1b[0K"):
            del cells[at:]
        elif part == "\x1b[1K":
            cells[:at] = " " * min(at, len(cells))
        elif part == "\x1b[2K":
            cells.clear()
        elif part:
            cells += " " * (at - len(cells))
            cells[at : at + len(part)] = part
            at += len(part)
    return "".join(cells)


def utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
