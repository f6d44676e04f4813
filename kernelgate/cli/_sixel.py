"""Sixel: pictures as text, for terminals in the line of the VT340. Needs Pillow; without it there are files."""

from __future__ import annotations

import os
import select
import sys
import time
from importlib.util import find_spec
from typing import Any

# A terminal on this machine answers at once; one behind a very slow line is asked in vain, and gets files.
_ANSWER_S = 1.0
_COLOURS = 255
_MAX_WIDTH = 1000


def is_supported() -> bool:
    """Asks the terminal for its attributes (DA1): 4 among them is sixel graphics."""
    if find_spec("PIL") is None or not sys.stdin.isatty() or not sys.stdout.isatty():
        return False
    import termios  # noqa: PLC0415  (only where there is a terminal)
    import tty  # noqa: PLC0415

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        answer = b""
        until = time.monotonic() + _ANSWER_S
        while not answer.endswith(b"c") and (left := until - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0]:
                answer += os.read(descriptor, 64)
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
    return _has_sixel(answer)


def _has_sixel(answer: bytes) -> bool:
    start, end = answer.rfind(b"\x1b[?"), answer.rfind(b"c")
    return start >= 0 and end > start and b"4" in answer[start + 3 : end].split(b";")[1:]


def encode(picture: bytes) -> str:
    """A picture's sixel form."""
    import io  # noqa: PLC0415

    from PIL import Image  # noqa: PLC0415

    image: Any = Image.open(io.BytesIO(picture)).convert("RGBA")
    # Sixel has no half-transparent dots: what shows through is white, as on a notebook's page.
    page: Any = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    image = page.convert("RGB")
    if image.width > _MAX_WIDTH:
        image = image.resize((_MAX_WIDTH, image.height * _MAX_WIDTH // image.width))
    image = image.quantize(_COLOURS)
    palette = image.getpalette() or []
    return from_dots(image.tobytes(), image.width, image.height, palette)


def from_dots(dots: bytes, width: int, height: int, palette: list[int]) -> str:
    """The sixel form of dots that are indexes into a palette of red, green and blue from 0 to 255."""
    used = sorted(set(dots))
    parts = [f'\x1bPq"1;1;{width};{height}']
    for colour in used:
        red, green, blue = (round(part * 100 / 255) for part in palette[3 * colour : 3 * colour + 3])
        parts.append(f"#{colour};2;{red};{green};{blue}")
    for top in range(0, height, 6):
        rows = [dots[row * width : (row + 1) * width] for row in range(top, min(top + 6, height))]
        parts += [f"#{colour}{_counted(bits)}$" for colour, bits in _band(rows, width).items()]
        parts.append("-")
    return "".join(parts) + "\x1b\\"


def _band(rows: list[bytes], width: int) -> dict[int, bytearray]:
    """For each colour in up to six rows: a byte per column, whose bits are the rows that have it."""
    found: dict[int, bytearray] = {}
    for number, row in enumerate(rows):
        for column, dot in enumerate(row):
            if dot not in found:
                found[dot] = bytearray(width)
            found[dot][column] |= 1 << number
    return found


def _counted(bits: bytearray) -> str:
    """A band's columns as characters, with runs counted."""
    parts: list[str] = []
    start = 0
    while start < len(bits):
        end = start
        while end < len(bits) and bits[end] == bits[start]:
            end += 1
        character = chr(63 + bits[start])
        parts.append(f"!{end - start}{character}" if end - start > 3 else character * (end - start))
        start = end
    return "".join(parts)
