"""ZeroMQ's own wire, as far as kernels and their clients need it: ZMTP 3.0 (RFC 23) without encryption.

A connection begins with a greeting of 64 bytes from either side, then a READY command from either side; after the peer's READY messages may be sent. A message is one frame or more; a frame is a byte
of flags, its length in one byte or eight, and its body. Subscriptions are messages (that they are commands came with 3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Frame = bytes | memoryview
"""A view is of single bytes."""

_MORE, _LONG, _COMMAND = 1, 2, 4
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_GREETING = _SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
GREETING_BYTES = len(_GREETING)
_READY, _ERROR = b"\x05READY", b"\x05ERROR"
_LONG_LENGTH = struct.Struct(">Q")

#: One message; beyond it a kernel means harm. What is larger is skipped, and nothing of it is kept.
MAX_MESSAGE_BYTES = 1024 * 1024 * 1024
MAX_FRAMES = 10_000

SUBSCRIBE, UNSUBSCRIBE = b"\x01", b"\x00"
"""What a SUB socket sends to hear everything, and to hear nothing any more."""


class WireError(ValueError):
    """What came is not ZMTP 3, or refuses us."""


def hello(socket_type: bytes, identity: bytes = b"") -> bytes:
    """What a connection begins with: greeting and READY. `socket_type` is DEALER, ROUTER and so on; a peer knows one that connects again by its identity (of 255 bytes at most)."""
    body = _READY
    for name, value in ((b"Socket-Type", socket_type), (b"Identity", identity)):
        body += bytes((len(name),)) + name + struct.pack(">I", len(value)) + value
    return _GREETING + _frame(body, _COMMAND)


def encode(frames: Sequence[Frame]) -> bytes:
    """A message of one frame or more."""
    return b"".join([_frame(body, _MORE) for body in frames[:-1]] + [_frame(frames[-1], 0)])


def _frame(body: Frame, flags: int) -> bytes:
    size = len(body)
    return (bytes((flags, size)) if size < 256 else bytes((flags | _LONG,)) + _LONG_LENGTH.pack(size)) + body


class Decoder:
    """Bytes of one connection in, messages out, each a list of frames. `ready` once the peer has said so, and has said its `identity`.

    Raises WireError on what is not ZMTP 3: the connection is useless then. A message that is too large is left out, and counted in `skipped`.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.ready = False
        self.identity = b""
        self.skipped = 0
        self._max_bytes = max_bytes
        self._greeted = False
        self._chunks: list[bytes] = []
        self._have, self._need = 0, GREETING_BYTES
        self._frames: list[bytes] = []
        self._size = 0
        self._leave_out = False
        self._skip = 0

    def feed(self, data: bytes) -> list[list[bytes]]:
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            return []  # pieces are put together once, however large what they are of
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        at = 0
        if not self._greeted:
            self._greet(data)
            at = GREETING_BYTES
        messages: list[list[bytes]] = []
        at = self._read(data, at, messages)
        self._chunks = [data[at:]] if at < len(data) else []
        self._have = len(data) - at
        return messages

    def _greet(self, greeting: bytes) -> None:
        if greeting[:1] != b"\xff" or not greeting[9] & 1 or greeting[10] < 3 or greeting[12:32].rstrip(b"\0") != b"NULL":
            raise WireError("the other end does not speak ZMTP 3 without encryption")
        self._greeted = True

    def _read(self, data: bytes, at: int, messages: list[list[bytes]]) -> int:
        """Reads what is whole, from `at` on. Where it ended."""
        have = len(data)
        while True:
            if self._skip:
                step = min(self._skip, have - at)
                self._skip -= step
                at += step
                if self._skip:
                    self._need = 1
                    return at
            if have - at < 2:
                self._need = 2
                return at
            flags, size, start = data[at], data[at + 1], at + 2
            if flags & _LONG:
                if have - at < 9:
                    self._need = 9
                    return at
                (size,), start = _LONG_LENGTH.unpack_from(data, at + 1), at + 9
            if flags & _COMMAND:
                if size > 64 * 1024:
                    raise WireError("the other end sent a command of that size")
            elif self._leave_out or self._size + size > self._max_bytes or len(self._frames) == MAX_FRAMES:
                self._frames, self._leave_out, self._skip, at = [], bool(flags & _MORE), size, start
                if not self._leave_out:
                    self.skipped += 1
                    self._size = 0
                continue
            end = start + size
            if end > have:
                self._need = end - at
                return at
            body, at = data[start:end], end
            if flags & _COMMAND:
                self._command(body)
                continue
            self._frames.append(body)
            if flags & _MORE:
                self._size += size
            else:
                messages.append(self._frames)
                self._frames, self._size = [], 0

    def _command(self, body: bytes) -> None:
        if body.startswith(_ERROR):
            raise WireError(f"the other end refused the connection: {body[7:].decode('utf-8', 'replace')}")
        if body.startswith(_READY):
            self.identity = _properties(body[len(_READY) :]).get(b"identity", b"")
            self.ready = True


def _properties(data: bytes) -> dict[bytes, bytes]:
    """What a READY says: names, of which case does not matter, and values."""
    found = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        start = name_end + 4
        end = start + int.from_bytes(data[name_end:start], "big")
        if end > len(data):
            raise WireError("the other end said READY with a part missing")
        found[data[at + 1 : name_end].lower()] = data[start:end]
        at = end
    return found
