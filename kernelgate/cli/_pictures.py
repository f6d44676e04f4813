"""Pictures at a terminal: inline where it can show them, else in files."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernelgate.sdk import ResultItem

# The kitty protocol takes base64 in pieces of at most this size.
_KITTY_PIECE = 4096


def protocol(environment: Mapping[str, str]) -> str | None:
    """How the terminal takes pictures, as far as its environment tells: `kitty`, `iterm2` or None.

    Inside tmux and screen neither reaches the terminal unless it is told to, and then misplaced.
    """
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return None
    program = environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") in {"xterm-kitty", "xterm-ghostty"} or program == "ghostty":
        return "kitty"
    if program in {"iTerm.app", "WezTerm", "vscode"} or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


def kitty(png: bytes) -> str:
    """The escape sequences that make kitty show a PNG at the cursor."""
    data = base64.b64encode(png).decode()
    pieces = [data[start : start + _KITTY_PIECE] for start in range(0, len(data), _KITTY_PIECE)] or [""]
    sequences = []
    for number, piece in enumerate(pieces):
        head = "a=T,f=100," if number == 0 else ""
        more = int(number + 1 < len(pieces))
        sequences.append(f"\x1b_G{head}m={more};{piece}\x1b\\")
    return "".join(sequences)


def iterm2(picture: bytes) -> str:
    """The escape sequence that makes iTerm2, WezTerm and others show a picture at the cursor."""
    data = base64.b64encode(picture).decode()
    return f"\x1b]1337;File=inline=1;size={len(picture)}:{data}\x07"


class Pictures:
    """Shows or saves the pictures of one command.

    Args:
        directory: where they are saved.
        stem: how their files' names begin.
        inline: how the terminal takes them, None to save.
    """

    def __init__(self, directory: str | Path, stem: str = "picture", inline: str | None = None) -> None:
        self._directory = Path(directory)
        self._stem = stem
        self._inline = inline

    def inline(self, item: ResultItem) -> str | None:
        """What to write to the terminal so that it shows the item; None where it cannot."""
        if self._inline is None:
            return None
        if self._inline == "iterm2" and (item.png or item.jpeg):
            return iterm2(item.as_bytes("png" if item.png else "jpeg"))
        if self._inline == "kitty" and item.png:
            return kitty(item.as_bytes("png"))
        if self._inline == "sixel" and (item.png or item.jpeg):
            from kernelgate.cli import _sixel  # noqa: PLC0415  (for few terminals)

            return _sixel.encode(item.as_bytes("png" if item.png else "jpeg"))
        return None

    def save(self, item: ResultItem) -> Path | None:
        """Saves the item's picture, or the document it is, under a name that is free; None if it is neither."""
        for name, suffix in (("png", "png"), ("jpeg", "jpg"), ("svg", "svg"), ("pdf", "pdf")):
            if getattr(item, name) is not None:
                return self._write(item.as_bytes(name), suffix)
        if item.html is not None and item.text is None:
            return self._write(item.as_bytes("html"), "html")
        return None

    def _write(self, content: bytes, suffix: str) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            file = self._directory / f"{self._stem}-{number}.{suffix}"
            try:
                # Exclusive, so that an older picture, or another run's, is never written over.
                with file.open("xb") as opened:
                    opened.write(content)
            except FileExistsError:
                number += 1
            else:
                return file


def for_terminal(directory: str, stem: str, *, save: bool) -> Pictures:
    """Pictures for the terminal this runs in."""
    if save or not sys.stdout.isatty():
        return Pictures(directory, stem)
    found = protocol(os.environ)  # noqa: TID251  (what the terminal is, not a setting of ours)
    if found is None:
        from kernelgate.cli import _sixel  # noqa: PLC0415  (for few terminals)

        found = "sixel" if _sixel.is_supported() else None
    return Pictures(directory, stem, found)
