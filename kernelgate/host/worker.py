"""A worker: carries out what the files API asks, inside the sandbox, as the session's own user.

Init forks it; its descriptor 3 is one end of a stream socket whose other end the host has. One request after the other: a frame with `do`, for uploads followed by frames with
`more` and one with `end`; the answer is frames of which the last says `"end": true`. What the user's code may not do, it may not do either, so no path and no link leads further
than the session itself. The user's code has the same user and may kill it or stop it: the host expects that.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kernelgate.errors import RemoteProtocolError
from kernelgate.link import frame

#: Bytes of a file in one frame: what host and gateway hold of a transfer, a few times over.
CHUNK_BYTES = 256 * 1024
#: How often a worker that is at work says that it lives; the host gives up on one that has been silent for much longer.
ALIVE_EVERY_S = 5.0

#: The code for callers of each failure of the system; the others are `file_operation_failed`.
CODES = {
    errno.ENOENT: "file_not_found", errno.ENOTDIR: "not_a_directory", errno.EISDIR: "is_a_directory", errno.EACCES: "permission_denied", errno.EPERM: "permission_denied",
    errno.EROFS: "permission_denied", errno.EEXIST: "file_exists", errno.ENOTEMPTY: "directory_not_empty", errno.ENOSPC: "no_space", errno.EDQUOT: "no_space",
    errno.EFBIG: "file_too_large", errno.ENAMETOOLONG: "invalid_path", errno.ELOOP: "invalid_path", errno.EINVAL: "invalid_path",
}  # fmt: skip


class Failed(Exception):
    """The request cannot be carried out. `code` is one of `errors.FILE_ERRORS`."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


class Gone(Exception):
    """The host has hung up: whoever asked has left, or the session ends."""


class Port:
    """The worker's end of its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=CHUNK_BYTES)
        self._sending = threading.Lock()

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self) -> frame.Frame:
        """The next frame. Raises Gone at the end."""
        head, body = frame.lengths(self._exactly(frame.PREFIX_BYTES))
        return frame.header(self._exactly(head)), self._exactly(body)

    def _exactly(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except OSError as exc:
            raise Gone from exc
        if len(data) < size:
            raise Gone
        return data

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Raises Gone."""
        with self._sending:
            try:
                self._sock.sendall(frame.encode(header, body))
            except OSError as exc:
                raise Gone from exc

    def pieces(self) -> Iterator[bytes]:
        """The body of an upload. Raises Gone where it breaks off."""
        while True:
            header, body = self.receive()
            if header.get("end"):
                return
            yield body

    def text(self, value: bytes) -> None:
        """A part of the answer that is larger than a header should be."""
        for at in range(0, len(value), CHUNK_BYTES):
            self.send({"data": True}, value[at : at + CHUNK_BYTES])


Operation = Callable[[Port, dict[str, Any]], "dict[str, Any] | None"]


def serve(port: Port, request: dict[str, Any], operations: dict[str, Operation]) -> None:
    """Carries one request out, and answers it."""
    try:
        answer = operations[str(request.get("do"))](port, request)
    except Failed as exc:
        error = {"code": exc.code, "message": exc.message, "details": exc.details}
    except OSError as exc:
        error = of_os(exc)
    except (RecursionError, MemoryError) as exc:
        error = {"code": "file_operation_failed", "message": f"the tree is too deep or too large for this ({type(exc).__name__})"}
    else:
        port.send({"ok": answer or {}, "end": True})
        return
    port.send({"error": error, "end": True})


def of_os(exc: OSError) -> dict[str, Any]:
    """A failure of the system as callers see it."""
    code = CODES.get(exc.errno or 0, "file_operation_failed")
    names = [shown(name) for name in (exc.filename, exc.filename2) if isinstance(name, str | bytes)]
    reason = (exc.strerror or str(exc) or type(exc).__name__).lower()
    return {"code": code, "message": f"{' -> '.join(map(repr, names))}: {reason}" if names else reason}


def shown(name: str | bytes) -> str:
    """A path as text: bytes that are no UTF-8 are replaced, as JSON cannot hold them."""
    return os.fsencode(name).decode("utf-8", "replace")


def exact(**names: str | None) -> dict[str, str]:
    """The exact bytes of names that are no UTF-8, as base64 in fields `NAME_b64`; nothing of the others."""
    found = {}
    for field, name in names.items():
        if name is not None and not name.isascii():
            encoded = os.fsencode(name)
            try:
                encoded.decode("utf-8")
            except UnicodeDecodeError:
                found[f"{field}_b64"] = base64.b64encode(encoded).decode()
    return found


class _Alive(threading.Thread):
    """While a request is worked on, says every few seconds that the worker has not been stopped."""

    def __init__(self, port: Port) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.working = False

    def run(self) -> None:
        with contextlib.suppress(Gone):
            while True:
                time.sleep(ALIVE_EVERY_S)
                if self.working:
                    self._port.send({"alive": True})


def run(_connection_file: str) -> None:
    """The worker's process, forked from init. Returns when the host hangs up."""
    from kernelgate.host import filework  # noqa: PLC0415 - it imports this module

    gc.freeze()  # what init had is not looked through again, and so stays shared with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    port = Port(socket.socket(fileno=3))
    alive = _Alive(port)
    alive.start()
    try:
        while True:
            request, _ = port.receive()
            alive.working = True
            serve(port, request, filework.OPERATIONS)
            alive.working = False
    except (Gone, RemoteProtocolError):
        return
