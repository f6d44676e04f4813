"""The Python kernel's channels: requests and their answers, what goes to everyone, what forks of cells display, and the heartbeat."""

from __future__ import annotations

import _socket  # what a cell may put into `socket` is not ours
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq

from kernelgate import zmtp
from kernelgate.kernels.wire import RETRY_S, Connection, Listener, Wire

if TYPE_CHECKING:
    from kernelgate.kernels.message import WireSession

MiB = 1024 * 1024

BACKLOG_BYTES = 16 * MiB
"""What waits for a slow reader; past it senders wait."""

READER_WAIT_S = 10.0
"""How long a sender waits for a reader that takes nothing, where others do; then what waits is dropped, and what follows, until the reader takes something again. Who is alone is waited for."""

FORK_LINGER_S = 3.0
"""How long a fork waits until the kernel takes what it displays."""


class Channel(Listener):
    """Requests, and answers to who asked. Whoever hears of `on_requests` takes them."""

    def __init__(self, wire: Wire, sock: Any) -> None:
        super().__init__(wire, sock)
        self.on_requests: Callable[[], object] = lambda: None
        """Called in the Control thread when something has come."""
        self._taken: list[list[bytes]] = []

    def _heard(self, connection: Connection, frames: list[bytes]) -> None:
        self._taken.append([connection.name, *frames])

    def _on_data(self, connection: Connection) -> None:
        super()._on_data(connection)
        if self._taken:
            self.on_requests()

    def take(self) -> list[list[bytes]]:
        """What has come, each with the name of who sent it first. From any thread."""
        with self.wire.lock:
            found, self._taken = self._taken, []
        return found

    def send_multipart(self, parts: list[bytes], flags: int = 0, copy: bool = True, track: bool = False) -> None:
        """Sends to the peer that the first part names, where there is one. From any thread. The last arguments are for those who know ZeroMQ's sockets."""
        data = zmtp.encode(parts[1:])
        with self.wire.lock:
            connection = self.connections.get(parts[0])
            if connection is not None and connection.waiting_bytes < BACKLOG_BYTES:
                self.send(connection, data)


class ShellChannel(Channel):
    """The one that the main thread reads itself, so that a cell costs no change of threads; Control reads it too while `shared`."""

    def __init__(self, wire: Wire, sock: Any) -> None:
        super().__init__(wire, sock)
        self.on_peer: Callable[[Connection], object] = lambda _: None
        """Called in the Control thread, under the lock, when somebody has connected: from now on `receive` reads what he says."""
        self.on_gone: Callable[[Connection], object] = Connection.close
        """Called under the lock, by who noticed, when he is gone; closes the connection once nobody waits for it."""
        self._shared = False

    def _greet(self, connection: Connection) -> None:
        super()._greet(connection)
        if not self._shared:
            self.wire.unwatch(connection.fd)
        self.on_peer(connection)

    def share(self, shared: bool) -> None:
        """Whether the Control thread reads too."""
        with self.wire.lock:
            self._shared = shared
            for connection in self.connections.values():
                if shared:
                    self.listen_to(connection)
                else:
                    self.wire.unwatch(connection.fd)

    def receive(self, connection: Connection | None = None) -> list[list[bytes]]:
        """All that has come, or all that this peer has said."""
        with self.wire.lock:
            for one in list(self.connections.values()) if connection is None else (connection,):
                for frames in one.read():
                    self._heard(one, frames)
                if one.gone:
                    self.let_go(one)
            return self.take()

    def _close(self, connection: Connection) -> None:
        self.on_gone(connection)


class Publisher(Listener):
    """What goes to everyone who has subscribed, in order. `lock` is held by whoever makes messages, which is what keeps that order."""

    kind = b"XPUB"

    def __init__(self, wire: Wire, sock: Any, session: WireSession) -> None:
        super().__init__(wire, sock)
        self.session = session
        self.lock = wire.lock
        self.forks: Forks | None = None
        self.knock: Callable[[], object] = lambda: None
        """Called, in any thread, when there is something for who has let it be held."""
        self._room = threading.Condition(self.lock)
        self._corks = False
        self._corked: list[list[bytes]] = []
        self._held: list[list[bytes]] | None = None
        self._held_bytes = 0
        self._interrupted = False

    # -- interrupts --

    def defer_interrupt(self) -> bool:
        """Whether the calling thread holds the lock: then the signal comes once more on its way out, by `raise_deferred`.

        For a signal handler, which may run between any two instructions: a KeyboardInterrupt between two parts of a message would make all that follow unreadable.
        """
        if not self.lock._is_owned():  # type: ignore[attr-defined]
            return False
        self._interrupted = True
        return True

    def raise_deferred(self) -> None:
        """Call it where the lock was let go of, in the main thread or any other. Raises what the handler of SIGINT does."""
        if self._interrupted and threading.current_thread() is threading.main_thread() and not self.lock._is_owned():  # type: ignore[attr-defined]
            self._interrupted = False
            signal.raise_signal(signal.SIGINT)

    def forget_interrupt(self) -> None:
        """What was deferred was meant for what has ended."""
        self._interrupted = False

    # -- sending --

    def send_multipart(self, parts: list[bytes], flags: int = 0, copy: bool = True, track: bool = False) -> None:
        """Sends, or keeps for when there is room; waits while too much is kept. The last arguments are for those who know ZeroMQ's sockets."""
        if self.forks is not None and self.forks.forked:
            self.forks.display(parts)
            return
        with self.lock:
            self.publish(parts)
        self.wait_for_room()

    def cork(self) -> None:
        """Keeps the next message for the one after it, so that both cost one call: for a message that another one follows at once. Hold the lock over both calls."""
        self._corks = True

    def publish(self, parts: list[bytes]) -> None:
        """Sends or keeps, under the lock."""
        if self._corks:
            self._corks = False
            self._corked.append(parts)
            return
        messages, self._corked = [*self._corked, parts], []
        self._publish(messages)

    def _publish(self, messages: list[list[bytes]]) -> None:
        if self._held is not None:
            self._hold_on(messages)
            return
        if not self.connections:
            return
        encoded = list(map(zmtp.encode, messages))
        data = encoded[0] if len(encoded) == 1 else b"".join(encoded)
        for connection in self.connections.values():
            if b"" in connection.topics:
                self.send(connection, data)
            elif connection.topics:
                for parts, one in zip(messages, encoded, strict=True):
                    if any(map(parts[0].startswith, connection.topics)):
                        self.send(connection, one)

    def _hold_on(self, messages: list[list[bytes]]) -> None:
        assert self._held is not None
        if not self._held:
            self.knock()
        self._held += [list(map(bytes, parts)) for parts in messages]  # buffers may change while they wait
        self._held_bytes += sum(len(part) for parts in messages for part in parts)

    def hold(self, last: list[bytes]) -> None:
        """Publishes a last message, and keeps what is published after it until somebody subscribes. Not while something waits for a slow reader."""
        with self.lock:
            if self._held is None and not any(connection.waiting_bytes for connection in self.connections.values()):
                self.publish(last)
                self._held = []

    def _heard(self, connection: Connection, frames: list[bytes]) -> None:
        """Subscriptions; they are answered (JEP 65)."""
        sign, topic = frames[0][:1], frames[0][1:]
        if sign == b"\0":
            with contextlib.suppress(ValueError):
                connection.topics.remove(topic)
        elif sign == b"\1":
            connection.topics.append(topic)
            try:
                name = topic.decode()
            except UnicodeDecodeError:
                return
            message = self.session.msg("iopub_welcome", {"subscription": name})
            self.send(connection, zmtp.encode(self.session.serialize(message, [topic] if topic else None)))
            if self._held is not None:
                held, self._held, self._held_bytes = self._held, None, 0
                for parts in held:
                    self._publish([parts])
                self.has_room()

    def has_room(self) -> None:
        """See `wait_for_room`."""
        self._room.notify_all()

    def wait_for_room(self, limit: int = BACKLOG_BYTES) -> None:
        """Until no more than that is kept. Not for the Control thread, nor under the lock. Raises KeyboardInterrupt where one came under the lock."""
        if self._kept() <= limit and not self._interrupted:
            return
        if threading.current_thread() is not self.wire.thread and not self.lock._is_owned():  # type: ignore[attr-defined]
            with self._room:
                taken = self._taken()
                while not self._room.wait_for(lambda: self._kept() <= limit or self._interrupted, READER_WAIT_S):
                    before, taken = taken, self._taken()
                    stuck = [one for one in taken if one.waiting_bytes > limit and taken[one] == before.get(one)]
                    if len(stuck) < len(taken):
                        for one in stuck:
                            one.drop()
            self.raise_deferred()

    def _taken(self) -> dict[Connection, int]:
        """How much each reader has taken yet that is not given up."""
        return {one: one.taken_bytes for one in self.connections.values() if one.topics and not one.stuck}

    def _kept(self) -> int:
        return max((one.waiting_bytes for one in list(self.connections.values()) if not one.stuck), default=0) + self._held_bytes

    def is_full(self) -> bool:
        return self._kept() > BACKLOG_BYTES

    # -- forks that cells make --

    def before_fork(self) -> None:
        """Where a fork's displays come; made for the first one. Holds the lock until `after_fork`."""
        self.lock.acquire()
        if self.forks is None:
            self.forks = Forks(self)

    def after_fork(self) -> None:
        self.lock.release()

    def forget(self) -> None:
        super().forget()
        if self.forks is not None:
            self.forks.forget()


class Forks(Listener):
    """Forks that cells make cannot use the kernel's connections: what they display comes here, each message by a connection of its own, since a fork may end at any time."""

    kind = b"PULL"

    def __init__(self, publisher: Publisher) -> None:
        self.forked = False
        """Whether this process is one."""
        self._publisher = publisher
        self._secret = os.urandom(16)
        # The zero: Linux' abstract namespace, so that there is no file to clean up.
        self._address = b"\0kernelgate-" + os.urandom(16).hex().encode()
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        sock.bind(self._address)
        sock.listen()
        super().__init__(publisher.wire, sock)

    def _on_data(self, connection: Connection) -> None:
        if self._publisher.is_full():  # then it is the fork that waits
            self.wire.unwatch(connection.fd)
            self.wire.call_later(RETRY_S, lambda: self.listen_to(connection))
        else:
            super()._on_data(connection)

    def _heard(self, connection: Connection, frames: list[bytes]) -> None:
        if frames[0] == self._secret:
            self._publisher.publish(frames[1:])

    def forget(self) -> None:
        super().forget()
        self.forked = True

    def display(self, parts: list[bytes]) -> None:
        """In a fork: to the kernel, which then has it. Raises OSError where there is none any more."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(FORK_LINGER_S)
            sock.connect(self._address)
            sock.sendall(zmtp.hello(b"PUSH") + zmtp.encode([self._secret, *parts]))
        finally:
            sock.close()


class Heartbeat:
    """Answers heartbeats once somebody asks: by ZeroMQ's own library, without the interpreter's lock, since a cell in C that keeps it is no dead kernel. Costs nothing before."""

    def __init__(self, wire: Wire, sock: Any, address: str) -> None:
        self._wire, self._socket, self._address = wire, sock, address
        wire.watch(sock.fileno(), self._begin)

    def forget(self) -> None:
        """In a forked child, see `Listener`."""
        self._socket.close()

    def _begin(self) -> None:
        self._wire.unwatch(self._socket.fileno())
        threading.Thread(target=self._run, name="Heartbeat", daemon=True).start()

    def _run(self) -> None:
        socket = zmq.Context().socket(zmq.ROUTER)
        socket.set(zmq.USE_FD, self._socket.detach())
        socket.bind(self._address)
        zmq.proxy(socket, socket)
