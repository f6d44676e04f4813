"""Commands as events: their output numbered and cut to its limit, and the result folded from it.

    command          accepted: what it is
    command_started  its process runs
    stdout, stderr   `text`, or `base64` where the bytes are no UTF-8 (always with encoding base64)
    truncated        so much of a stream is left out here
    artifacts        files it made or changed, where they were asked for
    end              how it ended

Output that comes after the end, from processes that the command left running, is marked `late`.
"""

from __future__ import annotations

import base64
from collections import deque
from typing import Any

from kernelgate.protocol.event import COMMAND, Event
from kernelgate.protocol.execution import MAX_EVENTS, TAIL_BYTES, Emit
from kernelgate.protocol.result import timestamp

_STREAMS = ("stdout", "stderr")


class Output:
    """A command's output on its way to the journal: bytes in, (type, fields) pairs out.

    Beyond `limit` bytes, or MAX_EVENTS pieces, it is cut in the middle: the head goes out as it comes, the rest runs through a ring that `end` lets out.
    """

    def __init__(self, limit: int, encoding: str, *, seen: int = 0) -> None:
        self._limit, self._binary = limit, encoding == "base64"
        self._tail = min(TAIL_BYTES, limit // 2)
        self._bytes = seen
        self._rest = dict.fromkeys(_STREAMS, b"")
        self._ring: deque[tuple[str, bytes]] = deque()
        self._ring_bytes = 0
        self._cut = dict.fromkeys(_STREAMS, 0)
        self._ended = False
        self._events = 0

    def feed(self, stream: str, data: bytes) -> list[Emit]:
        """What was read. A character whose last bytes have not come yet waits for them."""
        data = self._rest[stream] + data
        self._rest[stream] = b""
        if not self._binary and (part := _unfinished(data)):
            self._rest[stream], data = data[-part:], data[:-part]
        return self._out(stream, data)

    def close(self, stream: str) -> list[Emit]:
        """The stream has ended: what waited comes out as it is."""
        data, self._rest[stream] = self._rest[stream], b""
        return self._out(stream, data)

    def _out(self, stream: str, data: bytes) -> list[Emit]:
        if not data:
            return []
        self._events += 1
        if self._ended:
            data = data[: max(0, self._limit - self._bytes)] if self._events <= MAX_EVENTS else b""
            self._bytes += len(data)
            return [(stream, {**self._fields(data), "late": True})] if data else []
        emits: list[Emit] = []
        room = self._limit - self._tail - self._bytes if self._events <= MAX_EVENTS else 0
        if not self._ring and room > 0:
            head, data = data[:room], data[room:]
            self._bytes += len(head)
            emits.append((stream, self._fields(head)))
        if data:
            self._hold(stream, data)
        return emits

    def _hold(self, stream: str, data: bytes) -> None:
        self._ring.append((stream, data))
        self._ring_bytes += len(data)
        while self._ring_bytes > self._tail:
            old_stream, old = self._ring.popleft()
            cut = min(len(old), self._ring_bytes - self._tail)
            if cut < len(old):
                self._ring.appendleft((old_stream, old[cut:]))
            self._ring_bytes -= cut
            self._cut[old_stream] += cut
        if not self._ring:
            self._ring.append((stream, b""))  # the limit is 0: nothing may follow what was cut

    def _fields(self, data: bytes) -> dict[str, str]:
        if not self._binary:
            try:
                return {"text": data.decode()}
            except UnicodeDecodeError:
                pass
        return {"base64": base64.b64encode(data).decode()}

    def end(self) -> list[Emit]:
        """The command has ended: what was held back, and from here on everything is late."""
        emits = [one for stream in _STREAMS for one in self.close(stream)]
        emits += [("truncated", {"stream": stream, "bytes": cut}) for stream, cut in self._cut.items() if cut]
        held: dict[str, list[bytes]] = {}
        for stream, data in self._ring:
            held.setdefault(stream, []).append(data)
        emits += [(stream, self._fields(data)) for stream, parts in held.items() if (data := b"".join(parts))]
        self._bytes += self._ring_bytes
        self._ring.clear()
        self._ended = True
        return emits

    @property
    def truncated(self) -> dict[str, int] | None:
        return {f"{stream}_bytes": cut for stream, cut in self._cut.items()} if any(self._cut.values()) else None


def _unfinished(data: bytes) -> int:
    """How many bytes at the end begin a character of UTF-8 that is not complete."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def payload(event: Event) -> bytes:
    """The bytes of an output event."""
    return base64.b64decode(event["base64"]) if "base64" in event else str(event["text"]).encode()


class CommandFold:
    """Feed it the events of one command in order; `result()` is the result so far."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {
            "id": None, "request_id": None, "session_id": None, "shell_id": None, "command": None, "cwd": None, "background": False, "merge": False,
            "encoding": "text", "state": "starting", "status": None, "success": None, "exit_code": None, "signal": None, "timed_out": False, "reason": None,
            "pid": None, "duration_s": None, "usage": None, "truncated": None, "limit": None,
            "created_at": None, "started_at": None, "ended_at": None, "last_seq": 0,
        }  # fmt: skip
        self._parts: dict[str, list[bytes]] = {stream: [] for stream in _STREAMS}
        self._artifacts: dict[str, Any] | None = None
        #: Bytes of output so far.
        self.size = 0

    def feed(self, event: Event) -> None:
        fields, kind = self._fields, event["type"]
        fields["last_seq"] = event["seq"]
        if kind in _STREAMS:
            data = payload(event)
            self.size += len(data)
            self._parts[kind].append(data)
        elif kind == "truncated":
            if fields["encoding"] == "text":
                self._parts[event["stream"]].append(b"\n[... %d bytes cut ...]\n" % event["bytes"])
        elif kind == COMMAND:
            fields["id"], fields["created_at"] = event["execution_id"], timestamp(event["time"])
            for name in ("request_id", "session_id", "shell_id", "command", "cwd", "background", "merge", "encoding"):
                fields[name] = event.get(name, fields[name])
        elif kind == "artifacts":
            self._artifacts = {name: event[name] for name in ("files", "truncated", "error")}
        elif kind == "command_started":
            fields.update(state="running", pid=event["pid"], started_at=timestamp(event["time"]))
        elif kind == "end":
            for name in ("status", "success", "exit_code", "signal", "timed_out", "reason", "duration_s", "usage", "truncated", "limit"):
                fields[name] = event.get(name)
            fields.update(state="done", ended_at=timestamp(event["time"]))

    def summary(self) -> dict[str, Any]:
        """The result without its output."""
        return dict(self._fields)

    def result(self) -> dict[str, Any]:
        made = {stream: b"".join(parts) for stream, parts in self._parts.items()}
        if self._fields["encoding"] == "base64":
            texts = {stream: base64.b64encode(data).decode() for stream, data in made.items()}
        else:
            texts = {stream: data.decode("utf-8", "replace") for stream, data in made.items()}
        return {**self._fields, **texts, "artifacts": self._artifacts}
