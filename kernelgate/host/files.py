"""The files API inside the session: requests are handed to workers (worker.py), which carry them out as the session's own user.

One request at a time has a worker, so a large transfer holds up nothing but itself; idle ones are kept for a while. The host looks into no file and no path: it passes frames
on, reading from either side only what the other takes, so that a transfer of any size costs a few hundred KiB. What a worker says is checked here and again in the gateway: the
session's code has the worker's user, and may kill it or stop it at any moment.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelgate.errors import FILE_ERRORS, CapacityExceeded, FileOperationFailed, FilesInterrupted, KernelgateError, RemoteProtocolError
from kernelgate.host import filework  # here, so that init has it, and a worker that is forked from init need not read it
from kernelgate.link import frame

if TYPE_CHECKING:
    from kernelgate.host.server import Request
    from kernelgate.host.session import SessionHost

log = logging.getLogger(__name__)

MAX_WORKERS = 32
#: Transfers and watches under way; the rest of the workers is left for what is quick.
MAX_LONG = 24
_LONG = frozenset({"watch", "read", "write", "pack", "unpack"})
#: What may be asked again when its worker died before it answered.
_REPEATABLE = frozenset({"stat", "list", "read", "text", "read_many", "search", "pack"})
_MAX_WAITING = 256
_KEEP_IDLE = 2
_IDLE_S = 30.0
#: A worker that is waited for and says nothing for so long was stopped. At work it says every 5 s that it lives.
_SILENT_S = 30.0
_LOOK_EVERY_S = 5.0
#: One whose caller has left gets so long to clean up.
_GRACE_S = 5.0
#: The host's own questions are answered within this time, or not at all; and with no more than this.
_ERRAND_S = 20.0
_ERRAND_BYTES = 32 * 1024 * 1024
_RECV_BYTES = 256 * 1024
_MAX_FRAME_BYTES = 4 * 1024 * 1024


class _Worker:
    """The host's end of one worker."""

    def __init__(self, files: Files, pid: int, fds: list[int]) -> None:
        self._files, self.pid = files, pid
        self._sock = socket.socket(fileno=fds[0])
        self._sock.setblocking(False)
        os.close(fds[1])  # its log: it has nothing to say there
        self._decoder = frame.Decoder(_MAX_FRAME_BYTES)
        self._out: list[memoryview] = []
        self._reading = False
        self.relay: _Relay | _Errand | None = None
        self.closed = False
        self.heard_at = self.idle_since = time.monotonic()
        self.read_on(True)

    def read_on(self, wanted: bool) -> None:
        if self.closed or wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self.heard_at = time.monotonic()
            self._files.loop.add_reader(self._sock.fileno(), self._read)
        else:
            self._files.loop.remove_reader(self._sock.fileno())

    def _read(self) -> None:
        try:
            data = self._sock.recv(_RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._files.lost(self)
            return
        self.heard_at = time.monotonic()
        try:
            for header, body in self._decoder.feed(data):
                if self.relay is not None:
                    self.relay.heard(header, body)
                elif "alive" not in header:
                    raise RemoteProtocolError("a worker spoke unasked")
        except RemoteProtocolError as exc:
            log.warning("a files worker talked nonsense: %s", exc.detail)
            self._files.lost(self)

    @property
    def writable(self) -> bool:
        return not self._out and not self.closed

    def send(self, header: dict[str, Any], body: bytes) -> None:
        self._out.append(memoryview(frame.encode(header, body)))
        self._push()

    def _push(self) -> None:
        try:
            while self._out:
                sent = self._sock.send(self._out[0])
                self.heard_at = time.monotonic()
                if sent < len(self._out[0]):
                    self._out[0] = self._out[0][sent:]
                else:
                    self._out.pop(0)
        except (BlockingIOError, InterruptedError):
            self._files.loop.add_writer(self._sock.fileno(), self._writable)
        except OSError:
            self._out.clear()  # its end is read, with what it still said

    def _writable(self) -> None:
        self._files.loop.remove_writer(self._sock.fileno())
        self._push()
        if self.relay is not None and self.writable:
            self.relay.pump()

    def is_silent(self, now: float) -> bool:
        """Whether it is waited for, and has been for too long."""
        waited_for = self._reading and (bool(self._out) or (self.relay is not None and not self.relay.waits_for_caller))
        if not waited_for:
            self.heard_at = now
        return now - self.heard_at > _SILENT_S

    def close(self) -> None:
        if not self.closed:
            self.read_on(False)
            self.closed = True
            self._files.loop.remove_writer(self._sock.fileno())
            self._sock.close()


class _Relay:
    """One request: between the caller's connection and the worker that has it."""

    def __init__(self, files: Files, request: Request) -> None:
        self._files, self.request = files, request
        self.do = str(request.fields.get("do"))
        self._connection = request.connection
        self.upload = self._connection.upload if request.fields.get("upload") else None
        self.worker: _Worker | None = None
        self._begun = False
        self.tries = 0
        self._connection.cursor = self

    def start(self, worker: _Worker) -> None:
        self.worker, worker.relay = worker, self
        self.tries += 1
        worker.heard_at = time.monotonic()
        worker.send({name: value for name, value in self.request.fields.items() if name not in ("op", "upload")}, b"")
        if self.upload is not None:
            self.upload.on_piece = self.pump
        self.pump()

    @property
    def waits_for_caller(self) -> bool:
        return self.upload is not None and not self.upload.ended

    def pump(self) -> None:
        """Pieces of an upload, as fast as the worker takes them."""
        while self.upload is not None and self.worker is not None and self.worker.writable and (piece := self.upload.take()):
            fields, body = piece
            self.worker.send({"end": True} if fields.get("end") else {"more": True}, body)

    def heard(self, header: dict[str, Any], body: bytes) -> None:
        """A frame of the worker's. Raises RemoteProtocolError."""
        if "alive" in header:
            return
        ok, error = header.get("ok"), header.get("error")
        if isinstance(error, dict):
            # What is left of an upload it would take for requests.
            self._done(reusable=self.upload is None)
            self.request.fail(_error(error))
        elif header.get("end"):
            self._done(reusable=self.upload is None or (self.upload.ended and not self.upload.waiting))
            self.request.reply(ok if isinstance(ok, dict) else {}, body)
        elif isinstance(ok, dict) or header.get("data"):
            self._begun = True
            self._connection.write({"ok": ok} if isinstance(ok, dict) else {"data": True}, body)
            if self.worker is not None and not self._connection.writable:
                self.worker.read_on(False)
        else:
            raise RemoteProtocolError("a frame that is no answer")

    def _done(self, *, reusable: bool) -> None:
        assert self.worker is not None
        worker, self.worker = self.worker, None
        worker.relay = None
        self._files.free(worker, reusable=reusable)

    def advance(self) -> None:
        if self.worker is not None:
            self.worker.read_on(True)

    def closed(self) -> None:
        """The caller has left: so does the worker, which takes back what is not whole."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.relay = None
            self._files.free(worker, reusable=False)
        else:
            self._files.forget(self)

    def fail(self, error: KernelgateError) -> None:
        """It could not be begun."""
        self.request.fail(error)

    def lost(self) -> bool:
        """Its worker died. Whether it is to be tried with another one."""
        self.worker = None
        if not self._begun and self.do in _REPEATABLE and self.tries < 3:
            return True
        self.request.fail(
            FilesInterrupted(
                "the process that carried this out was killed or stopped inside the session; look what was done, and try again"
            )
        )
        return False


class _Errand:
    """A question of the host's own. `answer` gets what the worker said, or why it said nothing."""

    waits_for_caller = False

    def __init__(self, files: Files, fields: dict[str, Any], answer: Callable[[Any], None]) -> None:
        self._files, self._fields, self._answer = files, fields, answer
        self.do = str(fields["do"])
        self.worker: _Worker | None = None
        self._data = bytearray()
        self._timer = files.loop.call_later(_ERRAND_S, self._late)

    def start(self, worker: _Worker) -> None:
        self.worker, worker.relay = worker, self
        worker.heard_at = time.monotonic()
        worker.send(self._fields, b"")

    def pump(self) -> None:
        """It has no more to say than its question."""

    def heard(self, header: dict[str, Any], body: bytes) -> None:
        """A frame of the worker's. Raises RemoteProtocolError."""
        if "alive" in header:
            return
        self._data += body
        error = header.get("error")
        if len(self._data) > _ERRAND_BYTES or not (header.get("end") or header.get("data")):
            raise RemoteProtocolError("a frame that is no answer")
        if header.get("end"):
            try:
                said = _error(error) if isinstance(error, dict) else json.loads(self._data)
            except (ValueError, RecursionError) as exc:
                raise RemoteProtocolError("an answer that is no JSON") from exc
            self._done(said, reusable=True)

    def _done(self, said: Any, *, reusable: bool) -> None:
        self._timer.cancel()
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.relay = None
            self._files.free(worker, reusable=reusable)
        else:
            self._files.forget(self)
        self._answer(said)

    def _late(self) -> None:
        self._done(FilesInterrupted(f"the session's files could not be looked through within {_ERRAND_S:g} s"), reusable=False)

    def fail(self, error: KernelgateError) -> None:
        self._done(error, reusable=False)

    def lost(self) -> bool:
        self.worker = None
        self.fail(FilesInterrupted("the process that looked through the session's files was killed or stopped inside the session"))
        return False


def _error(said: dict[str, Any]) -> KernelgateError:
    """What a worker said went wrong, as one of the closed set."""
    code, message, details = said.get("code"), said.get("message"), said.get("details")
    error = FILE_ERRORS.get(str(code), FileOperationFailed)(str(message)[:2000])
    if isinstance(details, dict):
        error.details = {name: details[name] for name in ("size", "edit", "count") if isinstance(details.get(name), int)}
    return error


class Files:
    """The workers of a session."""

    def __init__(self, host: SessionHost) -> None:
        self._host, self.loop = host, host.loop
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._processes: set[int] = set()
        self._starting = 0
        self._waiting: deque[_Relay | _Errand] = deque()
        self._looking = False

    @property
    def is_quiet(self) -> bool:
        """Whether there are no workers, nor any wanted."""
        return not (self._processes or self._starting or self._waiting)

    def take(self, request: Request) -> None:
        """Raises CapacityExceeded."""
        do = str(request.fields.get("do"))
        if do not in filework.OPERATIONS:
            raise RemoteProtocolError(f"unknown operation on files: {do}")
        long = sum(one.relay is not None and one.relay.do in _LONG for one in self._busy) + sum(one.do in _LONG for one in self._waiting)
        if do in _LONG and long >= MAX_LONG:
            raise CapacityExceeded(f"{MAX_LONG} transfers and watches of files are under way in this session; let one end")
        if len(self._waiting) >= _MAX_WAITING:
            raise CapacityExceeded("too many requests for files are waiting in this session")
        self._waiting.append(_Relay(self, request))
        self._dispatch()

    def ask(self, fields: dict[str, Any], answer: Callable[[Any], None]) -> None:
        """A question of the host's own. `answer` gets the JSON value that was said (by a process which the session's code may have taken over), or a KernelgateError."""
        self._waiting.append(_Errand(self, fields, answer))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            worker = self._idle.pop()
            self._busy.add(worker)
            self._waiting.popleft().start(worker)
        while len(self._waiting) > self._starting and len(self._processes) + self._starting < MAX_WORKERS:
            self._start()
        if self._busy and not self._looking:
            self._looking = True
            self.loop.call_later(_LOOK_EVERY_S, self._look)

    def _start(self) -> None:
        self._starting += 1
        pids: list[int] = []

        def spawned(pid: int, fds: list[int]) -> None:
            self._starting -= 1
            if pid < 0:
                self._no_process(-pid)
                return
            pids.append(pid)
            self._processes.add(pid)
            # Init keeps copies for a new host; with them a worker would not see that this end is closed.
            self._host.init.close(pid, 0)
            self._host.init.close(pid, 1)
            self._idle.append(_Worker(self, pid, fds))
            self._retire_later(self._idle[-1])
            self._dispatch()

        def exited(status: int, oom: bool) -> None:  # noqa: ARG001 - its socket has said it
            self._processes.difference_update(pids)
            self._dispatch()

        config = self._host.config
        self._host.init.spawn(
            {
                "fork": "kernelgate.host.worker:run", "stdio": "socket", "argv": ["files"], "env": config["base_env"], "cwd": config["cwd"], "connection_file": "",
                "tag": {"kind": "files"},
            },
            spawned, exited,
        )  # fmt: skip

    def _no_process(self, number: int) -> None:
        """The session may have no more processes. Others may serve who waits, where there are any."""
        if self._processes:
            return
        error = CapacityExceeded(f"no process can be started in this session ({os.strerror(number)}): end some of those that run in it")
        while self._waiting:
            self._waiting.popleft().fail(error)

    def free(self, worker: _Worker, *, reusable: bool) -> None:
        """It has nothing to do any more."""
        self._busy.discard(worker)
        if not reusable or len(self._idle) >= _KEEP_IDLE:
            self._retire(worker)
        else:
            worker.read_on(True)
            self._idle.append(worker)
            self._retire_later(worker)
        self._dispatch()

    def _retire_later(self, worker: _Worker) -> None:
        since = worker.idle_since = time.monotonic()

        def retire() -> None:
            if worker in self._idle and worker.idle_since == since:
                self._idle.remove(worker)
                self._retire(worker)

        self.loop.call_later(_IDLE_S, retire)

    def _retire(self, worker: _Worker) -> None:
        """It ends by itself when its socket is closed, and is killed where it does not."""
        worker.close()
        self.loop.call_later(_GRACE_S, lambda: self._kill(worker))

    def _kill(self, worker: _Worker) -> None:
        if worker.pid in self._processes:
            self._host.init.signal(worker.pid, signal.SIGKILL)

    def lost(self, worker: _Worker) -> None:
        """It died, or made itself useless."""
        worker.close()
        self._kill(worker)
        self._busy.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        relay, worker.relay = worker.relay, None
        if relay is not None and relay.lost():
            self._waiting.appendleft(relay)
        self._dispatch()

    def forget(self, relay: _Relay | _Errand) -> None:
        if relay in self._waiting:
            self._waiting.remove(relay)

    def _look(self) -> None:
        self._looking = False
        now = time.monotonic()
        for worker in [one for one in self._busy if one.is_silent(now)]:
            self.lost(worker)
        self._dispatch()

    def end(self, child: dict[str, Any]) -> None:
        """Ends a worker of a host that died: nobody waits for it any more."""
        for fd in child["fds"]:
            if fd >= 0:
                os.close(fd)
        self._host.init.signal(child["pid"], signal.SIGKILL)
