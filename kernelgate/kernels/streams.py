"""stdout and stderr of the Python kernel: one ordered outbox for both, whoever writes.

Theory of operation: `print` in any thread, and bytes that child processes or native code put on
descriptors 1 and 2, end in one `Outbox` as segments, each of one stream and one execution. The
outbox becomes `stream` messages when something else is about to be sent (`flush`), when it grows
past a chunk, and `FLUSH_INTERVAL_S` after it stopped being empty (`FIRST_FLUSH_S` after a pause). All messages leave by the
publisher (see `wire`), in the order in which they were made under its lock.

Descriptors 1 and 2 are pipes that the Control thread reads. Whoever writes to the outbox reads the pipes
first, so that `print(1); os.system("echo 2"); print(3)` comes out as 1 2 3.

Differs from ipykernel's own OutStream in that: order between the two streams is kept, 20 ms instead
of 200 pass until unflushed text is sent, a slow reader makes the writer wait instead of growing a queue, and
a forked child writes to the pipe instead of opening a socket for each line.
"""

from __future__ import annotations

import codecs
import contextvars
import io
import math
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from ipykernel.iostream import OutStream

from kernelgate.kernels.wire import RETRY_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelgate.kernels.channels import Publisher
    from kernelgate.kernels.wire import Wire

KiB = 1024

FLUSH_INTERVAL_S = 0.02
"""The contract allows 50 ms; 20 ms was measured to cost no throughput against 200 ms."""

FIRST_FLUSH_S = 0.002
"""Of text that comes after a pause: nobody is there to share a message with it, and a kernel that is about to crash has no 20 ms."""

CHUNK_CHARS = 256 * KiB
"""Largest text of one message, but for a single larger write: such messages may be cut by limits."""

PIPE_READ_BYTES = 64 * KiB


class Outbox:
    """Segments of text that wait to be sent, for one pair of streams.

    `lock` is held while segments are turned into messages and queued, which is what keeps the order.
    """

    def __init__(self, publisher: Publisher, wire: Wire) -> None:
        self.lock = publisher.lock
        self.session, self.publisher = publisher.session, publisher
        self._wire = wire
        self._segments: list[tuple[KernelStream, dict[str, Any], list[str]]] = []
        self._last_stream: KernelStream | None = None
        self._last_parent: dict[str, Any] | None = None
        self._last_parts: list[str] = []
        self._chars = 0
        self._due_at = math.inf
        self._hastens = False
        self._sent_at = 0.0
        self._pipes: dict[int, KernelStream] = {}
        self._poll = select.poll()
        self._line_starts = True
        self.cell_running = lambda: True

    def add(self, stream: KernelStream, parent: dict[str, Any], text: str) -> None:
        """Append text; sends, and waits for room, when a chunk is full. Call without the lock."""
        with self.lock:
            # Only at the start of a line: `print` writes twice, and asking costs as much as writing.
            if self._line_starts and self._poll.poll(0):
                self._drain()
            self._line_starts = text.endswith("\n")
            if stream is self._last_stream and parent is self._last_parent and self._due_at != math.inf:
                self._last_parts.append(text)
                self._chars += len(text)
                full = self._chars >= CHUNK_CHARS
            else:
                full = self._append(stream, parent, text)
            if full:
                self._send()
            elif self._hastens and self._line_starts:
                self._send_within(FIRST_FLUSH_S)
        self.publisher.raise_deferred()
        if full:
            self.publisher.wait_for_room()

    def _append(self, stream: KernelStream, parent: dict[str, Any], text: str) -> bool:
        if stream is self._last_stream and parent is self._last_parent:
            self._last_parts.append(text)
        else:
            self._last_stream, self._last_parent, self._last_parts = stream, parent, [text]
            self._segments.append((stream, parent, self._last_parts))
        self._chars += len(text)
        if self._due_at == math.inf:
            paused = time.monotonic() - self._sent_at > FLUSH_INTERVAL_S
            # Not so soon for a part of a line: `print` writes its arguments and its newline one by one, and they should come together.
            whole = text.endswith("\n")
            self._send_within(FIRST_FLUSH_S if paused and whole else FLUSH_INTERVAL_S)
            self._hastens = paused and not whole
        return self._chars >= CHUNK_CHARS

    def _send_within(self, seconds: float) -> None:
        self._hastens = False
        self._due_at = time.monotonic() + seconds
        self._wire.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        with self.lock:
            if time.monotonic() >= self._due_at:
                self._due_at, self._hastens = math.inf, False
                self._send()

    def flush(self, *, wait: bool) -> None:
        """Send everything written so far, pipes included; `wait` until nothing waits for a slow reader."""
        with self.lock:
            if self._poll.poll(0):
                self._drain()
            self._send()
        self.publisher.raise_deferred()
        if wait:
            self.publisher.wait_for_room(0)

    def _send(self) -> None:
        segments, self._segments = self._segments, []
        self._last_stream, self._last_parent, self._last_parts = None, None, []
        self._chars = 0
        self._sent_at = time.monotonic()
        for stream, parent, parts in segments:
            text = "".join(parts)
            if text:
                self._queue(stream, parent, text)

    def _queue(self, stream: KernelStream, parent: dict[str, Any], text: str) -> None:
        session = self.session
        msg = session.msg("stream", {"name": stream.name, "text": text}, parent=parent)
        for hook in stream._hooks:
            msg = hook(msg)
            if msg is None:
                return
        session.send(self.publisher, msg, ident=stream.topic)

    def watch(self, fd: int, stream: KernelStream) -> None:
        """Take what arrives on this (non-blocking) descriptor as output of the stream."""
        with self.lock:
            self._pipes[fd] = stream
            self._poll.register(fd, select.POLLIN)
        self._wire.watch(fd, self._on_pipe)

    def _on_pipe(self) -> None:
        with self.lock:
            if self._drain():
                self._send()
        if self.publisher.is_full():
            # Not read before there is room: then it is the child that waits.
            for fd in self._pipes:
                self._wire.unwatch(fd)
            self._wire.call_later(RETRY_S, self._resume)

    def _resume(self) -> None:
        for fd in self._pipes:
            self._wire.watch(fd, self._on_pipe)

    def _drain(self) -> bool:
        full = False
        for fd, stream in self._pipes.items():
            # Bounded: a child that floods must not keep the lock from everyone else.
            for _ in range(4):
                try:
                    data = os.read(fd, PIPE_READ_BYTES)
                except BlockingIOError:
                    break
                text = stream.decoder.decode(data)
                if text:
                    full = self._append(stream, stream._parent_header_global, text) or full
        return full


class KernelStream(OutStream):
    """A text stream whose text becomes `stream` messages of the execution that wrote it."""

    forked = False
    """Whether this process is a fork of the kernel's: it writes to the kernel's pipes."""

    def __init__(self, outbox: Outbox, name: Literal["stdout", "stderr"]):
        # Not ipykernel's, which makes a buffer and looks for a thread to flush it.
        self.session, self.pub_thread, self.name = outbox.session, outbox.publisher, name
        self.topic = b"stream." + name.encode()
        self._parent_header = contextvars.ContextVar("parent_header")
        self._parent_header.set({})
        self._parent_header_global = {}
        self._local = threading.local()
        self._isatty = self._should_watch = False
        self._outbox = outbox
        self._fd = {"stdout": 1, "stderr": 2}[name]
        self._binary: _Binary | None = None
        self._child_text = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def capture_fd(self) -> int:
        """Point descriptor 1 or 2 at this stream; returns a copy of what it was."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        original = os.dup(self._fd)
        os.dup2(writer, self._fd)
        os.close(writer)
        self._outbox.watch(reader, self)
        return original

    def write(self, string: Any) -> int:
        """Append text; waits when the reader of the kernel's output is far behind."""
        if not isinstance(string, str):
            message = f"write() argument must be str, not {type(string)}"
            raise TypeError(message)
        if self.forked:
            self._write_in_child(string)
        elif string:
            self._outbox.add(self, self._parent_header.get(self._parent_header_global), string)
        return len(string)

    def _write_in_child(self, string: str) -> None:
        # Whole lines, so that those of several children do not mix.
        self._child_text += string
        if "\n" in string or len(self._child_text) > PIPE_READ_BYTES:
            self._flush_in_child()

    def _flush_in_child(self) -> None:
        data = memoryview(self._child_text.encode("utf-8", "backslashreplace"))
        self._child_text = ""
        while data:
            data = data[os.write(self._fd, data) :]

    def writelines(self, sequence: Iterable[str]) -> None:  # type: ignore[override]
        """Write each string."""
        for string in sequence:
            self.write(string)

    def flush(self) -> None:
        """Send everything written so far, by anyone and to either stream; where a cell asks for it, so that it outlives the kernel."""
        if self.forked:
            self._flush_in_child()
        else:
            self._outbox.flush(wait=self._outbox.cell_running())

    def fileno(self) -> int:
        """The captured descriptor, so that `subprocess.run(stdout=sys.stdout)` is seen."""
        return self._fd

    @property
    def buffer(self) -> io.BufferedIOBase:
        """For code that writes bytes, as to a real `sys.stdout`."""
        if self._binary is None:
            self._binary = _Binary(self)
        return self._binary

    def reconfigure(self, **_options: object) -> None:
        """Accepted and without effect: text is always sent as UTF-8 within `FLUSH_INTERVAL_S`."""

    def close(self) -> None:
        """Nothing: the streams live as long as the process, whatever a library closes."""


class _Binary(io.BufferedIOBase):
    def __init__(self, stream: KernelStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._stream.write(self._decoder.decode(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


class InputStream(io.TextIOBase):
    """`sys.stdin`, read by asking the caller; fails as `input()` does where that is not allowed."""

    encoding = "UTF-8"
    name = "<stdin>"

    def readable(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """One line with its newline; an empty string at the end of input (Ctrl-D)."""
        sys.stdout.flush()
        try:
            return input() + "\n"
        except EOFError:
            return ""

    def read(self, size: int | None = -1, /) -> str:
        """Lines until the end of input."""
        return "".join(self)

    def fileno(self) -> int:
        return 0
