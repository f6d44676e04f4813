"""Listening sockets that never leave a caller waiting for a descriptor: what cannot be served is told so at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
from typing import Any

from kernelgate import ids

#: Of all descriptors this process may have, so large a part is not for callers' connections: serving them takes connections to hosts, files and the registry.
_OWN_SHARE = 4
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LONGEST_REQUEST = 64 * 1024


def take_all_descriptors() -> None:
    """Raises this process' limit of open files to what it may be; the usual one is meant for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Listener(socket.socket):
    """A listening socket. Connections for which there is no room are answered with 503 and closed, instead of lying in a queue that nobody serves.

    `accept` raises ConnectionAbortedError for these, after which an accepting loop goes on.
    """

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(fileno=bound.detach())
        self.setblocking(False)
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            connection, address = super().accept()
        except OSError as exc:
            if exc.errno not in _NONE_LEFT:
                raise
            connection, address = self._accept_with_spare()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # A new descriptor is the lowest free number, and so says how many there are.
        if connection.fileno() < limit - limit // _OWN_SHARE:
            return connection, address
        _refuse(connection)
        self._take_spare()
        raise ConnectionAbortedError

    def _accept_with_spare(self) -> tuple[socket.socket, Any]:
        if self._spare is None:
            raise BlockingIOError  # others have taken it meanwhile: later
        os.close(self._spare)
        self._spare = None
        try:
            return super().accept()
        except OSError as exc:
            self._take_spare()
            raise BlockingIOError from exc

    def _take_spare(self) -> None:
        if self._spare is None:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        super().close()


def _refuse(connection: socket.socket) -> None:
    message = "this server has no room for another connection; close some, or try again in a moment"
    body = json.dumps({"error": {"code": "capacity_exceeded", "message": message, "request_id": ids.new_request_id()}}).encode()
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(_LONGEST_REQUEST)  # what is closed unread takes the answer with it


__all__ = ["Listener", "take_all_descriptors"]
