"""The Python kernel's sockets: who connects is served without a library of ZeroMQ's, by one thread of ours.

Theory of operation. `Wire` is that thread, Control: it waits for everything that the main thread, which runs the cells, cannot wait for. `Listener` is a socket that peers connect to by ZMTP (`kernelgate.zmtp`);
Control takes them in, also while a cell runs. Whoever has something to send writes it to the peer's connection himself, under `Wire.lock`: what `send` took is in the system's hands, and outlives this
process however it ends. Sending never blocks there; what a slow peer has no room for waits in the connection, and Control sends it on.
"""

from __future__ import annotations

import _socket  # what a cell may put into `socket` is not ours
import contextlib
import errno
import functools
import itertools
import logging
import math
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ipykernel.thread import CONTROL_THREAD_NAME

from kernelgate import zmtp

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 64 * 1024

RETRY_S = 0.02
"""Until something is tried again of which nobody tells that it can be."""

LINGER_S = 1.0
"""What peers get at the end to take what waits for them."""

#: Who connects waits for as many before him.
_BACKLOG = 128

_IN, _OUT, _poll = select.POLLIN, select.POLLOUT, select.poll
# As a number: a cell may have changed what SIGPIPE does.
_NOSIGNAL = int(_socket.MSG_NOSIGNAL)


def listening(transport: str, ip: str, port: int) -> tuple[Any, int]:
    """A socket that listens there, and its port; one that is free for 0. `ip` of the transport `ipc` is what its file's name begins with, or, after "@", a name without a file. Raises OSError."""
    family = _socket.AF_UNIX if transport == "ipc" else _socket.AF_INET6 if ":" in ip else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    try:
        if transport == "ipc":
            port = _bind_name(sock, ip, port)
        else:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            sock.bind(("" if ip == "*" else ip, port))
            port = sock.getsockname()[1]
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock, port


def _bind_name(sock: Any, ip: str, port: int) -> int:
    if port and not ip.startswith("@"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{ip}-{port}")
    name = "\0" + ip[1:] if ip.startswith("@") else ip
    for number in (port,) if port else itertools.count(1):
        try:
            sock.bind(f"{name}-{number}")
        except OSError as exc:
            if port or exc.errno != errno.EADDRINUSE:
                raise
        else:
            return number
    raise AssertionError


class Wire:
    """The Control thread: calls what is to be called when a descriptor can be read or has room, or a time has come."""

    def __init__(self, log: logging.Logger) -> None:
        self.lock = threading.RLock()
        """Held by whoever sends, or makes what is to be sent in this order."""
        self._log = log
        self._poll = _poll()
        self._polled: dict[int, int] = {}
        self._readers: dict[int, Callable[[], object]] = {}
        self._writers: dict[int, Callable[[], object]] = {}
        self._changed = False
        self._timers: list[tuple[float, Callable[[], object]]] = []
        self._wakes_at = 0.0
        self._stopped = False
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.thread = threading.Thread(target=self._run, name=CONTROL_THREAD_NAME, daemon=True)
        self.thread.pydev_do_not_trace = True  # type: ignore[attr-defined]
        self.thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        self.watch(self._wakeup, self._on_wakeup)

    def watch(self, fd: int, reader: Callable[[], object]) -> None:
        """Calls `reader` whenever this can be read, from any thread on."""
        self._readers[fd] = reader
        self._change()

    def unwatch(self, fd: int) -> None:
        if self._readers.pop(fd, None) is not None:
            self._change()

    def watch_room(self, fd: int, writer: Callable[[], object]) -> None:
        """Calls `writer` whenever this has room, from any thread on."""
        if fd not in self._writers:
            self._writers[fd] = writer
            self._change()

    def unwatch_room(self, fd: int) -> None:
        if self._writers.pop(fd, None) is not None:
            self._change()

    def call_later(self, delay_s: float, call: Callable[[], object]) -> None:
        at = time.monotonic() + delay_s
        self._timers.append((at, call))
        if at < self._wakes_at:
            self.wake()

    def wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def _change(self) -> None:
        self._changed = True
        if threading.get_ident() != self.thread.ident:
            self.wake()

    def stop(self) -> None:
        """From any other thread."""
        self._stopped = True
        self.wake()
        self.thread.join(1)

    def close(self) -> None:
        """Of one whose thread was never started."""
        os.close(self._wakeup)

    def _on_wakeup(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)

    def _run(self) -> None:
        while not self._stopped:
            self.turn()

    def turn(self, *, wait: bool = True) -> None:
        """Calls what is due, or else waits and calls what became ready."""
        if self._changed:
            self._changed = False
            self._register()
        due = self._due()
        for call in due:
            self._call(call)
        if due:
            return
        self._wakes_at = math.inf  # whoever sets a timer from here on wakes us
        self._wakes_at = min((at for at, _ in list(self._timers)), default=math.inf)
        timeout = None if self._wakes_at == math.inf else max(0.0, (self._wakes_at - time.monotonic()) * 1000 + 0.5)
        for fd, happened in self._poll.poll(timeout if wait else 0):
            if happened & ~_OUT and (reader := self._readers.get(fd)):
                self._call(reader)
            if happened & ~_IN and (writer := self._writers.get(fd)):
                self._call(writer)
        self._wakes_at = 0.0

    def _register(self) -> None:
        wanted = dict.fromkeys(list(self._readers), _IN)
        for fd in list(self._writers):
            wanted[fd] = wanted.get(fd, 0) | _OUT
        for fd in self._polled.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            if self._polled.get(fd) != events:
                self._poll.register(fd, events)
        self._polled = wanted

    def _due(self) -> list[Callable[[], object]]:
        if not self._timers:
            return []
        now = time.monotonic()
        timers = list(self._timers)
        due = [timer for timer in timers if timer[0] <= now]
        for timer in due:
            self._timers.remove(timer)
        return [call for _, call in due]

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - the kernel is deaf without this thread
            self._log.exception("Exception in the Control thread")


class Connection:
    """One peer: what is read of it, and what waits until it reads. Used under `Wire.lock`."""

    def __init__(self, sock: Any) -> None:
        self.fd: int = sock.fileno()
        self.topics: list[bytes] = []
        """What it has subscribed to."""
        self.name = b""
        """By which it is known, once it has greeted."""
        self.gone = False
        """Whether nothing more will come."""
        self.stuck = False
        """Whether it has taken nothing for so long that what it would get is dropped."""
        self.waiting_bytes = 0
        self.taken_bytes = 0
        """Of what waited."""
        self._waiting: deque[bytes | memoryview] = deque()
        self._socket = sock
        self._deaf = False
        self._decoder = zmtp.Decoder()

    @property
    def ready(self) -> bool:
        return self._decoder.ready

    @property
    def identity(self) -> bytes:
        """What the peer calls itself; empty where it leaves that to us."""
        return self._decoder.identity

    def read(self) -> list[list[bytes]]:
        """The messages that have come by now."""
        found: list[list[bytes]] = []
        size = READ_BYTES
        while size == READ_BYTES and not self.gone:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            size = len(data)
            try:
                if size:
                    found += self._decoder.feed(data)
                else:
                    self.gone = True
            except zmtp.WireError:
                self.gone = True
        return found

    def send(self, data: bytes) -> bool:
        """Whether it is sent: else the rest waits for `push`."""
        if self._waiting and not self.push():
            if not self.stuck:
                self._keep(data)
            return False
        sent = self._write(data)
        if sent == len(data):
            return True
        self._keep(memoryview(data)[sent:])
        return False

    def _keep(self, data: bytes | memoryview) -> None:
        self._waiting.append(data)
        self.waiting_bytes += len(data)

    def _write(self, data: bytes | memoryview) -> int:
        """How much of it there was room for; to who takes nothing any more there is always room."""
        if self._deaf:
            return len(data)
        try:
            sent: int = self._socket.send(data, _NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self._deaf = True
            return len(data)
        return sent

    def push(self) -> bool:
        """Sends of what waits what there is room for; whether that was all."""
        while self._waiting:
            first = self._waiting[0]
            sent = self._write(first)
            self.waiting_bytes -= sent
            self.taken_bytes += sent
            if sent < len(first):
                if sent:
                    self._waiting[0] = memoryview(first)[sent:]
                return False
            self._waiting.popleft()
        self.stuck = False
        return True

    def drop(self) -> None:
        """What waits is not for it, nor what follows, until it takes something; but for the first, of which it may have a part."""
        self.stuck = True
        first = self._waiting.popleft()
        self._waiting.clear()
        self.waiting_bytes = 0
        self._keep(first)

    def finish(self, until: float) -> None:
        """Waits until nothing waits, and says that nothing more will come."""
        poll = _poll()
        poll.register(self.fd, _OUT)
        while not self.push() and (left := until - time.monotonic()) > 0:
            poll.poll(left * 1000)
        with contextlib.suppress(OSError):
            self._socket.shutdown(_socket.SHUT_WR)
        # TCP forgets what it has not sent yet where something is left unread.
        self.read()

    def close(self) -> None:
        self._socket.close()


class Listener:
    """A socket that peers connect to, and its connections, by their identities. A peer that connects again takes the place of the one it was before.

    `kind` is ZeroMQ's name for what this end is. What peers say comes to `_heard`, in the Control thread.
    """

    kind = b"ROUTER"

    def __init__(self, wire: Wire, sock: Any) -> None:
        self.wire = wire
        self.connections: dict[bytes, Connection] = {}
        self._hello = zmtp.hello(self.kind)
        self._socket = sock
        self._names = itertools.count(1)
        self._all: set[Connection] = set()
        self._listen()

    def _listen(self) -> None:
        self.wire.watch(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        while True:
            try:
                fd, _ = self._socket._accept()
            except BlockingIOError:
                return
            except OSError:  # there is no descriptor left
                self.wire.unwatch(self._socket.fileno())
                self.wire.call_later(RETRY_S, self._listen)
                return
            sock = _socket.socket(fileno=fd)
            sock.setblocking(False)
            if sock.family != _socket.AF_UNIX:
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            with self.wire.lock:
                self._all.add(connection)
                connection.send(self._hello)
            self.listen_to(connection)

    def listen_to(self, connection: Connection) -> None:
        """From now on Control reads what he says."""
        self.wire.watch(connection.fd, functools.partial(self._on_data, connection))

    def _on_data(self, connection: Connection) -> None:
        with self.wire.lock:
            messages = connection.read()
            if connection.ready and not connection.name:
                self._greet(connection)
            for frames in messages:
                self._heard(connection, frames)
            if connection.gone:
                self.let_go(connection)

    def _greet(self, connection: Connection) -> None:
        # As ZeroMQ names those who do not: with a zero first, which no name of theirs may have.
        connection.name = connection.identity or b"\0" + next(self._names).to_bytes(4, "big")
        before, self.connections[connection.name] = self.connections.get(connection.name), connection
        if before is not None:
            self._replaced(before)

    def _replaced(self, before: Connection) -> None:
        """There is another of its name; what it has said counts."""
        for frames in before.read():
            self._heard(before, frames)
        self.let_go(before)

    def _heard(self, connection: Connection, frames: list[bytes]) -> None:
        """A message, under the lock."""
        raise NotImplementedError

    def send(self, connection: Connection, data: bytes) -> None:
        """Sends, or keeps for when there is room. Under the lock."""
        if not connection.send(data):
            self.wire.watch_room(connection.fd, functools.partial(self._on_room, connection))

    def _on_room(self, connection: Connection) -> None:
        with self.wire.lock:
            if connection.push():
                self.wire.unwatch_room(connection.fd)
            self.has_room()

    def has_room(self) -> None:
        """Some peer has taken something, or is gone. Under the lock."""

    def let_go(self, connection: Connection) -> None:
        """It is gone. Under the lock."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        if self.connections.get(connection.name) is connection:
            del self.connections[connection.name]
        self.wire.unwatch(connection.fd)
        self.wire.unwatch_room(connection.fd)
        self._close(connection)
        self.has_room()

    def _close(self, connection: Connection) -> None:
        connection.close()

    def close(self) -> None:
        """Peers get what waits for them; where they take too long they do not."""
        until = time.monotonic() + LINGER_S
        with self.wire.lock:
            for connection in self._all:
                connection.finish(until)
            self.forget()

    def forget(self) -> None:
        """In a forked child: nothing of the parent's is the child's."""
        self._socket.close()
        for connection in self._all:
            connection.close()
        self._all.clear()
        self.connections.clear()
