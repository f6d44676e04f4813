"""The host's end of the link: requests from the gateway, answers and streams to it.

A stream is a place in the journal. It is read on when its connection can take more, so a slow reader costs nothing but its socket's buffer, however far behind it is.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from kernelgate.errors import KernelgateError, RemoteProtocolError
from kernelgate.host.loop import Loop
from kernelgate.link import frame
from kernelgate.link.journal import Journal
from kernelgate.protocol import event as events

log = logging.getLogger(__name__)

#: Connections of gateways to one session; beyond it new ones wait in the listen queue.
MAX_CONNECTIONS = 512


class Request:
    """One request: its fields, its body, and the one answer it gets."""

    __slots__ = ("_answered", "body", "connection", "fields")

    def __init__(self, connection: Connection, fields: dict[str, Any], body: bytes) -> None:
        self.connection, self.fields, self.body = connection, fields, body
        self._answered = False

    def reply(self, value: dict[str, Any], body: bytes = b"") -> None:
        self._answer({"ok": value, "end": True}, body)

    def fail(self, error: KernelgateError) -> None:
        self._answer(
            {"error": {"kind": type(error).code, "code": error.code, "message": error.detail, "details": error.details}, "end": True}, b""
        )

    def _answer(self, header: dict[str, Any], body: bytes) -> None:
        if self._answered:
            return
        self._answered = True
        self.connection.finish(header, body)


class Stream(Protocol):
    """What answers a request in several frames."""

    def advance(self) -> None:
        """Writes on: the connection can take more."""

    def closed(self) -> None:
        """The connection is gone: the caller has left."""


class Upload:
    """The body of a request that comes in frames of its own, the last one with `end`. They are taken one by one; the connection is read on when all that came have been.

    `on_piece` is called when there is one again. `discard` lets the rest go: the request has its answer already.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pieces: deque[frame.Frame] = deque()
        self._discarding = self.ended = False
        self.on_piece: Callable[[], None] = lambda: None

    def feed(self, fields: dict[str, Any], body: bytes) -> None:
        self.ended = bool(fields.get("end"))
        if not self._discarding:
            self._pieces.append((fields, body))
            self._connection.pause()

    def take(self) -> frame.Frame | None:
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        if not self._pieces:
            self._connection.resume()
        return piece

    @property
    def waiting(self) -> bool:
        """Whether pieces are here that nobody has taken."""
        return bool(self._pieces)

    def discard(self) -> None:
        self._discarding = True
        self._pieces.clear()
        self._connection.resume()


class Connection:
    """One connection: at most one request under way, what is still to be written, and perhaps a stream."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server, self.sock = server, sock
        self.fd = sock.fileno()
        self.closed = False
        self.busy = False
        self.used = False
        """Whether it has had a request: who has just connected is about to make one."""
        self._decoder = frame.Decoder()
        self._out: list[memoryview] = []
        self.cursor: Stream | None = None
        self.upload: Upload | None = None
        server.loop.add_reader(self.fd, self._read)

    def pause(self) -> None:
        """Reads no more until `resume`: who sends is held back by the socket."""
        self.server.loop.remove_reader(self.fd)

    def resume(self) -> None:
        if not self.closed:
            self.server.loop.add_reader(self.fd, self._read)

    def _read(self) -> None:
        try:
            data = self.sock.recv(256 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for fields, body in self._decoder.feed(data):
                if self.upload is not None:
                    self._piece(self.upload, fields, body)
                elif self.busy:
                    raise RemoteProtocolError("a request before the last one was answered")
                else:
                    self._request(fields, body)
        except RemoteProtocolError as exc:
            log.error("the gateway sent nonsense: %s", exc.detail)
            self.close()
            return
        if self.upload is not None and self.upload.waiting:
            self.upload.on_piece()

    def _piece(self, upload: Upload, fields: dict[str, Any], body: bytes) -> None:
        upload.feed(fields, body)
        if upload.ended and not self.busy:
            self.upload = None  # answered before it was over

    def _request(self, fields: dict[str, Any], body: bytes) -> None:
        self.busy = self.used = True
        if fields.get("upload"):
            self.upload = Upload(self)
        request = Request(self, fields, body)
        try:
            self.server.handle(request)
        except KernelgateError as exc:
            request.fail(exc)
        except Exception as exc:  # the request boundary: a bug fails this request, not the session
            log.exception("a request failed")
            request.fail(KernelgateError(f"{type(exc).__name__}: {exc}"))

    def write(self, header: dict[str, Any], body: bytes = b"") -> None:
        if self.closed:
            return
        self._out.append(memoryview(frame.encode(header, body)))
        self._push()

    def finish(self, header: dict[str, Any], body: bytes = b"") -> None:
        """The last frame of an answer; the connection is free for the next request."""
        self.busy = False
        self.cursor = None
        if self.upload is not None:
            if self.upload.ended:
                self.upload = None
            else:
                self.upload.discard()
        self.write(header, body)

    @property
    def writable(self) -> bool:
        return not self._out and not self.closed

    def _push(self) -> None:
        try:
            while self._out:
                sent = self.sock.send(self._out[0])
                if sent == len(self._out[0]):
                    self._out.pop(0)
                else:
                    self._out[0] = self._out[0][sent:]
        except (BlockingIOError, InterruptedError):
            self.server.loop.add_writer(self.fd, self._writable)
        except OSError:
            self.close()

    def _writable(self) -> None:
        self.server.loop.remove_writer(self.fd)
        self._push()
        if self.cursor is not None and self.writable:
            self.cursor.advance()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        cursor, self.cursor = self.cursor, None
        self._out.clear()
        self.server.loop.remove_reader(self.fd)
        self.server.loop.remove_writer(self.fd)
        self.sock.close()
        self.server.forget(self)
        if cursor is not None:
            cursor.closed()


class Cursor:
    """A stream's place in the journal: the events of one execution, or all, after a sequence number."""

    def __init__(self, journal: Journal, connection: Connection, execution_id: str | None, after: int, *, follow: bool) -> None:
        self._journal, self._connection = journal, connection
        self._execution_id, self._after, self._follow = execution_id, after, follow
        self._mark = events.marker(execution_id) if execution_id is not None else b""
        self._offset = journal.offset_after(after)
        if execution_id is not None and (span := journal.spans.get(execution_id)):
            self._offset = max(self._offset, span.start)

    def advance(self) -> None:
        """Sends what there is and the connection can take. Ends the stream at the end of its execution."""
        journal, connection = self._journal, self._connection
        span = journal.spans.get(self._execution_id) if self._execution_id is not None else None
        while connection.writable and connection.cursor is self:
            end = journal.size if span is None else min(span.end, journal.size)
            if self._offset >= end:
                if (span is not None and span.ended) or not self._follow:
                    connection.finish({"end": True})
                elif span is not None:
                    self._offset = journal.size  # what lies between is of others
                return
            data = journal.read(self._offset, end)
            self._offset += len(data)
            picked = self._pick(data)
            if picked:
                connection.write({"events": True}, picked)

    def closed(self) -> None:
        """Nothing is held for the caller."""

    def _pick(self, data: bytes) -> bytes:
        if self._execution_id is None and self._after == 0:
            return data
        mark, after = self._mark, self._after
        return b"".join(
            line
            for line in data.splitlines(keepends=True)
            if (not mark or events.belongs(line, mark)) and (after == 0 or events.seq_of(line) > after)
        )


class Server:
    """Listens on the session's socket. `handle(request)` is called for each request and may raise KernelgateError."""

    def __init__(self, loop: Loop, listener: socket.socket, journal: Journal, handle: Callable[[Request], None]) -> None:
        self.loop, self.handle = loop, handle
        self._listener, self._journal = listener, journal
        self._connections: set[Connection] = set()
        self._streams: dict[Connection, Cursor] = {}
        self._waiting: dict[str, list[tuple[Connection, Callable[[], None]]]] = {}
        self._listening = True
        listener.setblocking(False)
        loop.add_reader(listener.fileno(), self._accept)

    @property
    def is_quiet(self) -> bool:
        """Whether no request is under way."""
        return not (self._streams or self._waiting) and all(
            one.used and not one.busy and one.writable and one.upload is None for one in self._connections
        )

    def listen(self, wanted: bool) -> None:
        """Takes requests, or leaves them for now to whoever takes them later: this host, or the next. Of one that is quiet."""
        self._listening = wanted
        if wanted and len(self._connections) < MAX_CONNECTIONS:
            self.loop.add_reader(self._listener.fileno(), self._accept)
        else:
            self.loop.remove_reader(self._listener.fileno())
        for connection in self._connections:
            if wanted:
                connection.resume()
            else:
                connection.pause()

    def nobody_waits(self) -> bool:
        """Whether nothing has come since `listen(False)`."""
        poll = select.poll()
        for fd in (self._listener.fileno(), *(connection.fd for connection in self._connections)):
            poll.register(fd, select.POLLIN)
        return not poll.poll(0)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._connections.add(Connection(self, sock))
            if len(self._connections) >= MAX_CONNECTIONS:
                self.loop.remove_reader(self._listener.fileno())

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._streams.pop(connection, None)
        if self._listening and len(self._connections) == MAX_CONNECTIONS - 1:
            self.loop.add_reader(self._listener.fileno(), self._accept)

    def stream(self, request: Request, execution_id: str | None, after: int, *, follow: bool = True) -> None:
        """Answers with the events after `after`, as they come; ends with the execution's end."""
        connection = request.connection
        cursor = connection.cursor = Cursor(self._journal, connection, execution_id, after, follow=follow)
        self._streams[connection] = cursor
        cursor.advance()
        if connection.cursor is not cursor:
            self._streams.pop(connection, None)

    def when_ended(self, execution_id: str, request: Request, answer: Callable[[], None]) -> None:
        """Calls `answer` when the end of the execution is in the journal, if its connection is still there."""
        self._waiting.setdefault(execution_id, []).append((request.connection, answer))

    def give_up(self, error: KernelgateError) -> None:
        """Refuses all who follow or wait for what cannot be written."""
        for connection, cursor in list(self._streams.items()):
            if connection.cursor is cursor:
                Request(connection, {}, b"").fail(error)
        self._streams.clear()
        waiting, self._waiting = self._waiting, {}
        for requests in waiting.values():
            for connection, _ in requests:
                Request(connection, {}, b"").fail(error)

    def advance(self) -> None:
        """After a flush: moves the streams on and answers those who wait for an end."""
        for connection, cursor in list(self._streams.items()):
            if connection.cursor is not cursor:
                del self._streams[connection]
            elif connection.writable:
                cursor.advance()
        for execution_id in [name for name in self._waiting if (span := self._journal.spans.get(name)) and span.ended]:
            for connection, answer in self._waiting.pop(execution_id):
                if not connection.closed:
                    answer()
