"""A kernel that has answered requests before it is forked.

Python specialises what has run a few times, and remembers where it found what; in a fork each of these notes copies a page. So the kernel's main thread plays its part here, with all of its own code, to
a client in the same thread, by real sockets.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from kernelgate import zmtp
from kernelgate.kernels import warm
from kernelgate.kernels.streams import KernelStream, Outbox
from kernelgate.kernels.wire import Connection, listening

if TYPE_CHECKING:
    from kernelgate.kernels.message import WireSession
    from kernelgate.kernels.python import KernelApp
    from kernelgate.kernels.wire import Wire

#: Python specialises code at its eighth run or so, and what that one calls at the next.
_ROUNDS = 12
_CELLS = ("1", "pass", "rehearsed = [1, 2]\nprint(rehearsed)")
_GIVE_UP_S = 5.0


def rehearse(app: KernelApp) -> None:
    """Requests, again and again; nothing is left of them. The process has one thread before and after."""
    kernel, shell = app.kernel, app.kernel.shell
    app.install_signals = _nothing  # type: ignore[method-assign]
    before, main, streams = warm.namespaces(shell), sys.modules["__main__"], (sys.stdout, sys.stderr)
    loop = asyncio.new_event_loop()
    app.session.key = b"rehearsal"
    place = f"@kernelgate-{os.urandom(16).hex()}"
    app.init_channels(*(listening("ipc", place, number)[0] for number in (1, 2, 3, 4)))
    wire = app.wire
    app._outbox = Outbox(app.iopub_socket, wire)
    sys.stdout, sys.stderr = KernelStream(app._outbox, "stdout"), KernelStream(app._outbox, "stderr")
    app.join()
    asks, heard = _Client(f"\0{place[1:]}-1", b"DEALER"), _Client(f"\0{place[1:]}-4", b"SUB")
    try:
        sys.modules["__main__"] = shell.user_module
        kernel.begin(loop)
        with contextlib.suppress(TimeoutError):  # on a machine that does not get to it: kernels work without
            loop.run_until_complete(asyncio.wait_for(_play(wire, asks, heard, app.session), _GIVE_UP_S))
    finally:
        sys.stdout, sys.stderr = streams
        sys.modules["__main__"] = main
        for one in (asks, heard, *app.listeners):
            one.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio.set_event_loop(None)
        wire.close()
        app.part()
    del app.install_signals
    warm.forget(shell, before)
    shell.execution_count = 1
    app.session.key = b""
    app.session.digest_history.clear()
    app.session.message_count = 0


def _nothing() -> None:
    pass


class _Client:
    """The other end of a channel."""

    def __init__(self, place: str, kind: bytes) -> None:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        sock.connect(place)
        sock.setblocking(False)
        self.connection = Connection(sock)
        self.connection.send(zmtp.hello(kind))

    def send(self, frames: list[bytes]) -> None:
        self.connection.send(zmtp.encode(frames))

    def close(self) -> None:
        self.connection.close()


async def _play(wire: Wire, asks: _Client, heard: _Client, session: WireSession) -> None:
    heard.send([zmtp.SUBSCRIBE])
    for _ in range(_ROUNDS):
        for code in _CELLS:
            content = {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": False,
            }
            asks.send(session.serialize(session.msg("execute_request", content, metadata={"kernelgate": {"env": {}}})))
            asks.send(session.serialize(session.msg("kernel_info_request", {})))
            answers = 2
            while answers:
                await asyncio.sleep(0)
                wire.turn(wait=False)
                answers -= len(asks.connection.read())
                heard.connection.read()
