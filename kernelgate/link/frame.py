"""Frames: a JSON header and a body of bytes, both with their length in front (two big-endian u32). A pure codec."""

from __future__ import annotations

import struct
from typing import Any

from kernelgate.errors import RemoteProtocolError
from kernelgate.protocol import jsontext

_LENGTHS = struct.Struct(">II")
#: A header holds what the API's request body holds, code included; the API's own limit (16 MiB by default) is below.
MAX_HEADER_BYTES = 64 * 1024 * 1024
#: A result's text and pictures come in one body: the default limits (10 + 50 MiB), doubled by JSON escapes at the worst, fit well.
MAX_BODY_BYTES = 1024 * 1024 * 1024

Frame = tuple[dict[str, Any], bytes]


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    head = jsontext.dump(header)
    return _LENGTHS.pack(len(head), len(body)) + head + body


class Decoder:
    """Bytes in, frames out. Raises RemoteProtocolError on what is no frame, or one with more than `max_bytes`; the connection is useless then."""

    def __init__(self, max_bytes: int = MAX_HEADER_BYTES + MAX_BODY_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        frames: list[Frame] = []
        at = 0
        while len(self._buffer) - at >= _LENGTHS.size:
            head_size, body_size = lengths(self._buffer, at)
            if head_size + body_size > self._max_bytes:
                raise RemoteProtocolError("a frame is too large")
            end = at + _LENGTHS.size + head_size + body_size
            if len(self._buffer) < end:
                break
            middle = at + _LENGTHS.size + head_size
            frames.append((header(self._buffer[at + _LENGTHS.size : middle]), bytes(self._buffer[middle:end])))
            at = end
        del self._buffer[:at]
        return frames


def lengths(data: bytes | bytearray, at: int = 0) -> tuple[int, int]:
    """Header and body length of the frame at `at`."""
    head_size, body_size = _LENGTHS.unpack_from(data, at)
    if head_size > MAX_HEADER_BYTES or body_size > MAX_BODY_BYTES:
        raise RemoteProtocolError("a frame on the link is too large")
    return head_size, body_size


PREFIX_BYTES = _LENGTHS.size


def header(data: bytes | bytearray) -> dict[str, Any]:
    try:
        value = jsontext.load(data)
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError("a frame on the link is not JSON") from exc
    if not isinstance(value, dict):
        raise RemoteProtocolError("a frame on the link is not an object")
    return value
