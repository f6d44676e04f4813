"""Messages between init and the host: JSON over a SOCK_SEQPACKET socket pair, with descriptors beside them."""

from __future__ import annotations

import json
import socket
from typing import Any

#: One message; a spawn request carries an environment, which the API limits to 256 KiB.
MAX_BYTES = 1024 * 1024


def pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_BYTES)
        if end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 2 * MAX_BYTES:
            end.setsockopt(socket.SOL_SOCKET, 32, 2 * MAX_BYTES)  # SO_SNDBUFFORCE: beyond net.core.wmem_max, for root
    return ends


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    socket.send_fds(sock, [json.dumps(message, separators=(",", ":")).encode()], list(fds))


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message, None at the end. Raises BlockingIOError on a non-blocking socket without one."""
    data, fds, _, _ = socket.recv_fds(sock, MAX_BYTES, 4)
    return (json.loads(data) if data else None), fds
