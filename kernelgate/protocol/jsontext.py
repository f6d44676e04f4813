"""JSON as the host reads and writes it: by msgspec, in a fifth of the time, and by the standard library what msgspec refuses (half surrogates, NaN in what kernels send, numbers out of range)."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_write = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder().decode
_write_ascii = json.JSONEncoder(separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """JSON in UTF-8, without line feeds. Numbers that are none become null; halves of surrogates stay, as escapes. Raises TypeError."""
    try:
        return _write(value)
    except UnicodeEncodeError:
        return _write_ascii(value).encode()


def load(text: bytes | bytearray) -> Any:
    """What a JSON text says. Raises ValueError, RecursionError."""
    try:
        return _read(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(text.decode("utf-8", "surrogatepass"))
