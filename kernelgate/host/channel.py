"""Messages between init and the host: JSON over a SOCK_SEQPACKET socket pair, with descriptors beside them.

A message has to fit into the socket's buffer, and the system's bound on those (net.core.wmem_max) is below what an environment may have: a large one goes as a file in memory.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from kernelgate.protocol import jsontext

#: One message; a spawn request carries an environment, which the API limits to 256 KiB.
MAX_BYTES = 1024 * 1024
#: Well below what the smallest default lets through in one piece.
_INLINE_BYTES = 32 * 1024
_IN_FILE = b"\0"


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    data = jsontext.dump(message)
    if len(data) <= _INLINE_BYTES:
        socket.send_fds(sock, [data], list(fds))
        return
    with os.fdopen(os.memfd_create("message"), "wb", buffering=0) as file:
        file.write(data)
        socket.send_fds(sock, [_IN_FILE], [file.fileno(), *fds])


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message, None at the end. Raises BlockingIOError on a non-blocking socket without one, OSError or ValueError for what is no message."""
    data, fds, _, _ = socket.recv_fds(sock, MAX_BYTES, 5)
    if data == _IN_FILE and fds:
        file, *fds = fds
        try:
            data = os.pread(file, MAX_BYTES, 0)
        finally:
            os.close(file)
    return (jsontext.load(data) if data else None), fds
