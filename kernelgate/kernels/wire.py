"""The Python kernel's connection: its sockets, one thread that serves them, and lean messages.

Theory of operation. Requests on the shell channel are read by the loop of the main thread itself, which runs the cells, so that a cell costs no change of threads. One thread of ours, Control,
waits for everything else: the control channel, subscriptions, what child processes print, signals, timers. Once there are subshells it reads the shell channel too, since the main thread may be busy.
Whoever has something to publish sends it himself, under the publisher's lock. Sending never blocks there: what a slow reader has no room for waits in a backlog, which Control sends on, and the
sender waits outside the lock, where he can be interrupted.

ZeroMQ's descriptors tell of changes, not of states, and any call on the socket may use a change up: whoever has called looks whether something can be read now.

A forked child sends through a socket of its own, which Control reads.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
from collections import deque
from datetime import UTC, datetime
from hmac import compare_digest, digest
from typing import TYPE_CHECKING, Any

import zmq
import zmq.backend
from ipykernel.thread import CONTROL_THREAD_NAME
from jupyter_client._version import protocol_version
from jupyter_client.adapter import adapt
from jupyter_client.session import DELIM, DONE, Session

from kernelgate.kernels.packing import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

MiB = 1024 * 1024

BACKLOG_BYTES = 16 * MiB
"""What waits for a slow reader; past it senders wait."""

READER_WAIT_S = 10.0
"""How long a sender waits for a reader that takes nothing; then what waits is dropped, and what follows, until the reader takes something again."""

SETTLE_S = 0.005
"""How long ZeroMQ's thread may take to write."""

_SWITCHES = b"\nvoluntary_ctxt_switches:"

RETRY_S = 0.02
"""ZeroMQ does not always say that there is room again."""


#: A message is put together for its signature, but not a large one.
_JOINED_BYTES = 64 * 1024

#: As numbers: calculating with pyzmq's enumerations takes longer than sending.
_NOBLOCK, _SNDMORE, _POLLIN = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.POLLIN)
_send_frame = zmq.backend.Socket.send


def _send_all(socket: zmq.Socket[bytes], parts: list[bytes], flags: int = 0) -> None:
    """`send_multipart` in a fifth of its time. Raises Again before anything is sent, or not at all."""
    for part in parts[:-1]:
        _send_frame(socket, part, flags | _SNDMORE)
    _send_frame(socket, parts[-1], flags)


def _has_message(socket: zmq.Socket[bytes]) -> bool:
    events: Any = 0 if socket.closed else socket.get(zmq.EVENTS)
    return bool(events & _POLLIN)


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    fd: Any = socket.get(zmq.FD)
    return int(fd)


def _open_thread_status(name: str) -> int:
    """A descriptor of what Linux says of the thread of this process whose name begins so. Raises OSError."""
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as comm:
            if comm.read().startswith(name):
                return os.open(f"/proc/self/task/{task}/status", os.O_RDONLY | os.O_CLOEXEC)
    raise FileNotFoundError(name)


class Header(dict[str, Any]):
    """A message's header, with the bytes that it came as."""

    packed: bytes


class WireSession(Session):
    """jupyter_client's session without what costs time at every message: dates stay text, and a parent's header is sent on as it came."""

    def msg_header(self, msg_type: str) -> dict[str, Any]:
        """A header for a message that is made now."""
        return {
            "msg_id": self.msg_id, "msg_type": msg_type, "username": self.username, "session": self.session,
            "date": datetime.now(UTC).isoformat().replace("+00:00", "Z"), "version": protocol_version,
        }  # fmt: skip

    def sign(self, msg_list: list[bytes]) -> bytes:
        """The signature of a message's parts; empty without a key."""
        if self.auth is None:
            return b""
        if len(msg_list[-1]) > _JOINED_BYTES:
            return super().sign(msg_list)
        # One call of the library's instead of six of Python's.
        return digest(self.key, b"".join(msg_list), self.signature_scheme[5:]).hex().encode()

    def deserialize(self, msg_list: Any, content: bool = True, copy: bool = True) -> dict[str, Any]:
        """A message from its parts, signature first. Raises ValueError, TypeError."""
        if not content or not copy:
            return super().deserialize(msg_list, content, copy)
        if len(msg_list) < 5:
            message = "a message has five parts at least"
            raise TypeError(message)
        signature, header, parent, metadata, body, *buffers = msg_list
        if self.auth is not None:
            if not compare_digest(signature, self.sign(msg_list[1:5])):
                message = "invalid signature"
                raise ValueError(message)
            if signature in self.digest_history:
                message = "a message that was sent before"
                raise ValueError(message)
            self._add_digest(signature)
        unpacked = Header(unpack(header))
        unpacked.packed = header
        made = {
            "header": unpacked, "msg_id": unpacked["msg_id"], "msg_type": unpacked["msg_type"], "parent_header": unpack(parent),
            "metadata": unpack(metadata), "content": unpack(body), "buffers": [memoryview(buffer) for buffer in buffers],
        }  # fmt: skip
        if unpacked.get("version", "").partition(".")[0] != "5":
            adapted: dict[str, Any] = adapt(made)
            return adapted
        return made

    def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
        """The parts of a message, identities first."""
        content, parent, metadata = msg.get("content"), msg["parent_header"], msg["metadata"]
        body = [
            self.pack(msg["header"]),
            parent.packed if type(parent) is Header else self.pack(parent),
            self.pack(metadata) if metadata else b"{}",
            content if isinstance(content, bytes) else self.pack(content or {}),
        ]
        idents = ident if isinstance(ident, list) else [] if ident is None else [ident]
        return [*idents, DELIM, self.sign(body), *body]

    def send(self, stream: Any, msg_or_type: Any, content: Any = None, parent: Any = None, ident: Any = None, buffers: Any = None, track: bool = False, header: Any = None, metadata: Any = None) -> Any:  # fmt: skip
        """Sends by a channel, a publisher or any ZeroMQ socket. The message."""
        if not isinstance(stream, Channel | Publisher):
            return super().send(stream, msg_or_type, content, parent, ident, buffers, track, header, metadata)
        if isinstance(msg_or_type, dict):
            msg = msg_or_type
            buffers = buffers or msg.get("buffers")
        else:
            msg = self.msg(msg_or_type, content, parent, header, metadata)
        parts = self.serialize(msg, ident)
        for buffer in buffers or ():
            view = memoryview(buffer)
            if not view.contiguous:
                message = "a buffer of a message must be contiguous"
                raise ValueError(message)
            parts.append(view)  # type: ignore[arg-type]
        stream.send_multipart(parts)
        msg["tracker"] = DONE
        return msg


class Channel:
    """A socket for requests and their answers, which any thread may use."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.fd = _descriptor(socket)
        self.on_more: Callable[[], object] = lambda: None
        """Called, in any thread, when sending found that something can be read."""
        self._lock = threading.Lock()

    def receive(self) -> list[list[bytes]]:
        """All that has come."""
        found = []
        with self._lock:
            while _has_message(self.socket):
                found.append(self.socket.recv_multipart(_NOBLOCK))
        return found

    def send_multipart(self, parts: list[bytes], flags: int = 0, copy: bool = True, track: bool = False) -> None:
        """Sends a message; the last arguments are for those who know ZeroMQ's sockets."""
        with self._lock:
            _send_all(self.socket, parts)
            more = _has_message(self.socket)
        if more:
            self.on_more()


class Publisher:
    """What goes to everyone, in order. `lock` is held by whoever makes messages, which is what keeps that order."""

    def __init__(self, socket: zmq.Socket[bytes], session: WireSession, wire: Wire) -> None:
        self.socket, self.session = socket, session
        self.lock = threading.RLock()
        self.forked = False
        self._wire = wire
        self._room = threading.Condition(self.lock)
        self._backlog: deque[list[bytes]] = deque()
        self._backlog_bytes = 0
        self._stuck = False
        self._held = False
        self.knock: Callable[[], object] = lambda: None
        """Called, in any thread, when there is something for who has let it be held."""
        self._interrupted = False
        self._from_children: zmq.Socket[bytes] | None = None
        self._address, self._secret = "", b""
        self._thread_status = -1
        wire.watch(_descriptor(socket), self.on_ready)

    # -- interrupts --

    def defer_interrupt(self) -> bool:
        """Whether the calling thread holds the lock: then it raises on its way out.

        For a signal handler, which may run between any two instructions: a KeyboardInterrupt between two parts of a message would make all that follow unreadable.
        """
        if not self.lock._is_owned():  # type: ignore[attr-defined]
            return False
        self._interrupted = True
        return True

    def raise_deferred(self) -> None:
        """Call it where the lock was let go of, in the main thread or any other."""
        if self._interrupted and threading.current_thread() is threading.main_thread() and not self.lock._is_owned():  # type: ignore[attr-defined]
            self._interrupted = False
            raise KeyboardInterrupt

    # -- sending --

    def send_multipart(self, parts: list[bytes], flags: int = 0, copy: bool = True, track: bool = False) -> None:
        """Sends, or keeps for when there is room; waits while too much is kept. The last arguments are for those who know ZeroMQ's sockets."""
        if self.forked:
            self._send_in_child(parts)
            return
        with self.lock:
            self._send(parts)
        self.wait_for_room()

    def _send(self, parts: list[bytes]) -> None:
        if not self._backlog and not self._held and self._sent(parts):
            return
        if self._stuck:
            return
        parts = list(map(bytes, parts))  # buffers may change while they wait
        self._backlog.append(parts)
        self._backlog_bytes += sum(map(len, parts))
        if len(self._backlog) == 1:
            if self._held:
                self.knock()
            else:
                self._wire.call_later(RETRY_S, self.on_ready)

    def hold(self, last: list[bytes]) -> None:
        """Publishes a last message, and keeps what is published after it until somebody subscribes. Not while something waits for a slow reader."""
        with self.lock:
            if self._backlog:
                return
            self._held = True  # first: who hears of it may subscribe the moment that it is sent
            try:
                _send_all(self.socket, last, _NOBLOCK)
            except zmq.Again:
                self._held = False
            self._wire.call_later(0, self.on_ready)  # sending may have used up the sign of a subscription

    def _sent(self, parts: list[bytes]) -> bool:
        if self.socket.closed:
            return True
        try:
            _send_all(self.socket, parts, _NOBLOCK)
        except zmq.Again:
            return False
        self._stuck = False
        self._welcome()
        return True

    def on_ready(self) -> None:
        """There may be room, or a subscription. In the Control thread."""
        with self.lock:
            self._welcome()
            while self._backlog and not self._held and self._sent(self._backlog[0]):
                self._backlog_bytes -= sum(map(len, self._backlog.popleft()))
            if self._backlog and not self._held:
                self._wire.call_later(RETRY_S, self.on_ready)
            self._room.notify_all()

    def _welcome(self) -> None:
        """Answers subscriptions (JEP 65)."""
        while _has_message(self.socket):
            frame = self.socket.recv(zmq.NOBLOCK)
            try:
                topic = frame[1:].decode()
            except UnicodeDecodeError:
                continue
            if frame[:1] == b"\1":
                self._held = False
                message = self.session.msg("iopub_welcome", {"subscription": topic})
                self._send(self.session.serialize(message, [frame[1:]] if topic else None))

    def wait_for_room(self, limit: int = BACKLOG_BYTES) -> None:
        """Until no more than that is kept. Not for the Control thread, nor under the lock. Raises KeyboardInterrupt where one came under the lock."""
        if self._backlog_bytes <= limit and not self._interrupted:
            return
        if threading.current_thread() is not self._wire.thread and not self.lock._is_owned():  # type: ignore[attr-defined]
            with self._room:
                while not self._room.wait_for(lambda: self._backlog_bytes <= limit or self._interrupted, READER_WAIT_S):
                    if not self._held:  # else it is being woken
                        self._stuck = True
                        self._backlog.clear()
                        self._backlog_bytes = 0
                        break
            self.raise_deferred()

    def passes(self) -> int | None:
        """How often ZeroMQ's thread has come to the end of its work; None where that cannot be seen. For `settle`."""
        try:
            if self._thread_status < 0:
                self._thread_status = _open_thread_status("ZMQbg/IO")
            status = os.pread(self._thread_status, 4096, 0)
            return int(status[status.index(_SWITCHES) + len(_SWITCHES) :].split(maxsplit=1)[0])
        except (OSError, ValueError):
            return None

    def settle(self, passes: int | None) -> None:
        """Waits, for a moment, until ZeroMQ's thread has written what it was handed since: it then outlives this process, however that ends."""
        until = time.monotonic() + SETTLE_S
        while passes is not None and self.passes() == passes and time.monotonic() < until:
            time.sleep(1e-5)

    def is_full(self) -> bool:
        return self._backlog_bytes > BACKLOG_BYTES

    # -- forked children --

    def before_fork(self) -> None:
        """The socket by which a child's displays come; made for the first one. Holds the lock until `after_fork`."""
        self.lock.acquire()
        if self._from_children is None and not self.forked:
            self._secret = os.urandom(16)
            # "@": Linux' abstract namespace, so that there is no file to clean up.
            self._address = f"ipc://@kernelgate-{os.urandom(16).hex()}"
            self._from_children = socket = self.socket.context.socket(zmq.PULL)
            socket.linger = 0
            socket.bind(self._address)
            self._wire.watch(_descriptor(socket), self._on_child)

    def after_fork(self) -> None:
        self.lock.release()

    def _on_child(self) -> None:
        socket = self._from_children
        assert socket is not None
        with self.lock:
            while _has_message(socket):
                if self.is_full():  # then it is the child that waits
                    self._wire.call_later(RETRY_S, self._on_child)
                    break
                secret, *parts = socket.recv_multipart(zmq.NOBLOCK)
                if secret == self._secret:
                    self._send(parts)

    def _send_in_child(self, parts: list[bytes]) -> None:
        # ZeroMQ's contexts do not survive a fork, and the child may end at any time: one for each message, until it was taken.
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.linger = 3000
            socket.connect(self._address)
            socket.send_multipart([self._secret, *parts])

    def forget(self) -> None:
        """In a forked child: nothing of the parent's is the child's."""
        self.forked = True
        self._backlog.clear()
        self._backlog_bytes = 0

    def close(self) -> None:
        with self.lock:
            for socket in (self.socket, self._from_children):
                if socket is not None:
                    socket.close()


class Wire:
    """The Control thread: calls what is to be called when a descriptor can be read, or a time has come."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], object]] = {}
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
        self.wake()

    def unwatch(self, fd: int) -> None:
        self._readers.pop(fd, None)
        self.wake()

    def call_later(self, delay_s: float, call: Callable[[], object]) -> None:
        at = time.monotonic() + delay_s
        self._timers.append((at, call))
        if at < self._wakes_at:
            self.wake()

    def wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

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
        known: dict[int, Callable[[], object]] = {}
        while not self._stopped:
            readers = dict(self._readers)
            if readers.keys() != known.keys():
                for fd in known.keys() - readers.keys():
                    self._poll.unregister(fd)
                for fd in readers.keys() - known.keys():
                    self._poll.register(fd, select.POLLIN)
                known = readers
            due = self._due()
            for call in due:
                self._call(call)
            if due:
                continue
            self._wakes_at = math.inf  # whoever sets a timer from here on wakes us
            self._wakes_at = min((at for at, _ in list(self._timers)), default=math.inf)
            timeout = None if self._wakes_at == math.inf else max(0.0, (self._wakes_at - time.monotonic()) * 1000 + 0.5)
            for fd, _ in self._poll.poll(timeout):
                self._call(readers[fd])
            self._wakes_at = 0.0

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
