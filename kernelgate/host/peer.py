"""The host's end of one of a kernel's channels: a DEALER or SUB socket of ZeroMQ's, on the host's own loop.

libzmq would do this in a thread of its own, to which every message is handed and which wakes this one: for a host that speaks to a kernel or two that is most of the work, and a megabyte of each session.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kernelgate import zmtp

if TYPE_CHECKING:
    from kernelgate.host.loop import Loop, Timer

log = logging.getLogger(__name__)

#: What all peers read into, one after the other: memory that is there and warm.
_buffer = memoryview(bytearray(128 * 1024))

Address = str | tuple[str, int]


class Peer:
    """Connects, again and again, until there is somebody and whenever he is gone; what is sent meanwhile waits for him. Messages come by `on_message`, in their order, from the loop.

    `address` is a host and a port, or the name of a unix socket (one of Linux' abstract ones begins with a zero byte). There is no limit to what waits: the host sends little, and what it
    reads is bounded by the executions' limits. Raises OSError where there is no descriptor left.
    """

    def __init__(
        self, loop: Loop, address: Address, socket_type: bytes, identity: bytes, on_message: Callable[[list[bytes]], None], *, retry_s: float, retry_most_s: float
    ) -> None:  # fmt: skip
        self._loop, self._address, self._on_message = loop, address, on_message
        self._hello = zmtp.hello(socket_type, identity)
        self._subscribes = socket_type == b"SUB"
        self._retry_s, self._retry_most_s = retry_s, retry_most_s
        self._waiting: deque[bytes] = deque()
        self._sent = 0  # of the first that waits
        self._greeting = b""  # what is left of it
        self._socket: socket.socket | None = None
        self._decoder = zmtp.Decoder()
        self._messages: deque[list[bytes]] = deque()
        self._timer: Timer | None = None
        self._listening = True
        self._writes = False
        self._closed = False
        self._connect()

    # -- the connection --

    @property
    def connected(self) -> bool:
        """Whether there is somebody at the other end."""
        return self._socket is not None

    def _connect(self) -> None:
        self._timer = None
        sock = socket.socket(
            socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = sock.connect_ex(self._address)
        if not failed and sock.family == socket.AF_INET and sock.getsockname() == self._address:
            failed = errno.ECONNREFUSED  # nobody listens, and the system gave this end that very port: it is connected to itself
        if failed not in (0, errno.EINPROGRESS):
            sock.close()
            self._retry_later()
            return
        self._socket, self._decoder, self._greeting, self._sent = sock, zmtp.Decoder(), self._hello, 0
        if self._listening:
            self._loop.add_reader(sock.fileno(), self._read)
        self._writes = bool(failed)
        if failed:
            self._loop.add_writer(sock.fileno(), self._push)
        else:
            self._push()

    def _retry_later(self) -> None:
        self._timer = self._loop.call_later(self._retry_s, self._retry)
        self._retry_s = min(2 * self._retry_s, self._retry_most_s)

    def _retry(self) -> None:
        try:
            self._connect()
        except OSError:
            self._retry_later()

    def _lost(self) -> None:
        """He is gone, or never came. What was not sent whole is sent to whoever comes next."""
        self._let_go()
        if not self._closed:
            self._retry_later()

    def _let_go(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Lets go; what waits to be sent is dropped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._let_go()

    # -- sending --

    def send(self, frames: list[bytes]) -> None:
        self._send(zmtp.encode(frames))

    def subscribe_anew(self) -> None:
        """Ends the subscription and begins another."""
        self._send(zmtp.encode([zmtp.UNSUBSCRIBE]) + zmtp.encode([zmtp.SUBSCRIBE]))

    def _send(self, data: bytes) -> None:
        self._waiting.append(data)
        if self._socket is not None:
            self._push()

    def _push(self) -> None:
        """Sends what there is room for."""
        assert self._socket is not None
        try:
            while self._greeting:
                self._greeting = self._greeting[self._socket.send(self._greeting) :]
            while self._decoder.ready and self._waiting:
                first = self._waiting[0]
                self._sent += self._socket.send(memoryview(first)[self._sent :] if self._sent else first)
                if self._sent == len(first):
                    self._waiting.popleft()
                    self._sent = 0
        except BlockingIOError:
            if not self._writes:
                self._writes = True
                self._loop.add_writer(self._socket.fileno(), self._push)
        except OSError:
            self._lost()
        else:
            if self._writes:
                self._writes = False
                self._loop.remove_writer(self._socket.fileno())

    # -- reading --

    def listen(self, wanted: bool) -> None:
        """Reads what comes, or leaves it in the socket for now."""
        self._listening = wanted
        if self._socket is not None:
            if wanted:
                self._loop.add_reader(self._socket.fileno(), self._read)
            else:
                self._loop.remove_reader(self._socket.fileno())

    def read_all(self) -> None:
        """Reads what has come, to its end."""
        while self._socket is not None and self._read():
            pass

    def _read(self) -> bool:
        """Reads once. Whether there was anything."""
        assert self._socket is not None
        try:
            size = self._socket.recv_into(_buffer)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if not size:
            self._lost()
            return False
        try:
            self._take(bytes(_buffer[:size]))
        except zmtp.WireError as exc:
            log.error("a kernel's socket: %s", exc)
            self._lost()
        return True

    def _take(self, data: bytes) -> None:
        decoder = self._decoder
        was_ready, skipped = decoder.ready, decoder.skipped
        messages = decoder.feed(data)
        if decoder.skipped != skipped:
            log.error("a kernel sent a message that is too large; it was left out")
        if decoder.ready and not was_ready:
            if self._subscribes:
                self._waiting.appendleft(zmtp.encode([zmtp.SUBSCRIBE]))
            self._push()
        self._messages += messages
        self._deliver()

    def _deliver(self) -> None:
        try:
            while self._messages and not self._closed:
                self._on_message(self._messages.popleft())
        finally:
            if self._messages and not self._closed:
                self._loop.call_later(0, self._deliver)  # one could not be dealt with; the others can
