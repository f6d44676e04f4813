"""How frontends frame Jupyter's messages on a WebSocket: two framings, both pure functions of bytes.

A message here is its channel and its parts: header, parent header, metadata and content, each JSON in UTF-8, then any number of binary buffers. What the host keeps for
frontends and what crosses the link is the first framing, `v1.kernel.websocket.jupyter.org`: one that speaks it gets the bytes as they are.

    v1       u64 count of offsets, the offsets, channel, parts; little-endian; the last offset is the frame's length
    legacy   JSON text with the parts under their names; with buffers a binary frame: u32 count, u32 offsets, JSON, buffers; big-endian
"""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from typing import Any

import msgspec

from kernelgate.errors import RemoteProtocolError

V1 = "v1.kernel.websocket.jupyter.org"
#: What a frontend may send on; the kernel broadcasts on iopub, and the heartbeat is the gateway's own.
CHANNELS = frozenset({"shell", "control", "stdin"})
_PARTS = ("header", "parent_header", "metadata", "content")
#: Buffers of one message: more is nonsense.
_MAX_PARTS = 100_000


class _Header(msgspec.Struct):
    msg_id: str
    msg_type: str


def encode(channel: str, parts: list[bytes]) -> bytes:
    """A v1 frame."""
    name = channel.encode()
    offsets = [8 * (len(parts) + 3)]
    offsets.append(offsets[0] + len(name))
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join((struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), name, *parts))


def decode(data: bytes) -> tuple[str, list[bytes]]:
    """Channel and parts of a v1 frame. Raises RemoteProtocolError where it is none."""
    try:
        (count,) = struct.unpack_from("<Q", data)
        if not 6 <= count <= _MAX_PARTS:
            raise RemoteProtocolError("a frame of the v1 protocol has a channel and at least four parts")
        offsets = struct.unpack_from(f"<{count}Q", data, 8)
    except struct.error:
        raise RemoteProtocolError("a frame of the v1 protocol is cut short") from None
    if offsets[0] != 8 * (count + 1) or offsets[-1] != len(data) or any(a > b for a, b in pairwise(offsets)):
        raise RemoteProtocolError("the offsets of a frame of the v1 protocol are wrong")
    channel, *parts = (data[a:b] for a, b in pairwise(offsets))
    return channel.decode("ascii", "replace"), parts


def names(header: bytes) -> tuple[str, str]:
    """`msg_id` and `msg_type` of a header. Raises RemoteProtocolError."""
    try:
        found = msgspec.json.decode(header, type=_Header)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as exc:
        raise RemoteProtocolError(f"a message's header needs msg_id and msg_type, both text ({exc})") from exc
    return found.msg_id, found.msg_type


def check(parts: list[bytes]) -> tuple[str, str]:
    """That the four parts are JSON objects, as Python's kernels read JSON: with NaN and half surrogates. Returns `msg_id` and `msg_type`. Raises RemoteProtocolError."""
    for name, part in zip(_PARTS, parts, strict=False):
        try:
            msgspec.json.decode(part, type=dict[str, msgspec.Raw])
        except (msgspec.ValidationError, msgspec.DecodeError, RecursionError):
            try:
                found = json.loads(part)
            except (ValueError, RecursionError) as exc:
                raise RemoteProtocolError(f"a message's {name} is no JSON ({exc})") from exc
            if not isinstance(found, dict):
                raise RemoteProtocolError(f"a message's {name} is no JSON object") from None
    return names(parts[0])


def to_legacy(channel: str, parts: list[bytes]) -> str | bytes:
    """A legacy frame: text, or bytes where there are buffers. `msg_id` and `msg_type` stand beside the header too: some clients look for them there."""
    msg_id, msg_type = names(parts[0])
    fields = b",".join(b'"%s":%s' % (name.encode(), part) for name, part in zip(_PARTS, parts, strict=False))
    beside = json.dumps({"channel": channel, "msg_id": msg_id, "msg_type": msg_type, "buffers": []}).encode()
    text = beside[:-1] + b"," + fields + b"}"
    buffers = parts[4:]
    if not buffers:
        return text.decode("utf-8", "replace")
    offsets = [4 * (len(buffers) + 2)]
    for part in (text, *buffers[:-1]):
        offsets.append(offsets[-1] + len(part))
    return b"".join((struct.pack(f">{len(offsets) + 1}I", len(offsets), *offsets), text, *buffers))


def from_legacy(message: str | bytes) -> tuple[str, list[bytes]]:
    """Channel and parts of a legacy frame; one without a channel is for the shell. Raises RemoteProtocolError."""
    buffers: list[bytes] = []
    if isinstance(message, bytes):
        message, buffers = _split(message)
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(f"the message is not JSON ({exc})") from exc
    if not isinstance(fields, dict) or not isinstance(fields.get("header"), dict):
        raise RemoteProtocolError("a message is a JSON object with a header")
    parts = [_dump(fields.get(name) or {}) for name in _PARTS]
    channel = fields.get("channel") or "shell"
    return str(channel), parts + buffers


def _split(data: bytes) -> tuple[bytes, list[bytes]]:
    try:
        (count,) = struct.unpack_from(">I", data)
        if not 1 <= count <= _MAX_PARTS:
            raise RemoteProtocolError("a binary message has at least one part")
        offsets = (*struct.unpack_from(f">{count}I", data, 4), len(data))
    except struct.error:
        raise RemoteProtocolError("a binary message is cut short") from None
    if offsets[0] != 4 * (count + 1) or any(a > b for a, b in pairwise(offsets)):
        raise RemoteProtocolError("the offsets of a binary message are wrong")
    text, *buffers = (data[a:b] for a, b in pairwise(offsets))
    return text, buffers


def _dump(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate
        return json.dumps(value, separators=(",", ":")).encode()
