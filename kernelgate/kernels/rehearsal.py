"""A kernel that has answered requests before it is forked.

Python specialises what has run a few times, and remembers where it found what; in a fork each of these notes copies a page. So the kernel's main thread plays its part here, with all of its own code, to
a client in the same thread: the sockets are of the kind that needs no thread of ZeroMQ's but one, which ends with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import zmq

from kernelgate.kernels import warm
from kernelgate.kernels.streams import KernelStream, Outbox
from kernelgate.kernels.wire import Publisher, Wire, WireSession

if TYPE_CHECKING:
    from kernelgate.kernels.python import KernelApp

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
    wire = Wire(app.log)
    app.session.key = b"rehearsal"
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context(io_threads=0))

        def bound(kind: int, name: str) -> Any:
            socket = stack.enter_context(context.socket(kind))
            socket.bind(f"inproc://{name}")
            return socket

        def client(kind: int, name: str) -> Any:
            socket = stack.enter_context(context.socket(kind))
            socket.connect(f"inproc://{name}")
            return socket

        publisher = Publisher(bound(zmq.XPUB, "iopub"), app.session, wire)
        app.iopub_socket, app.stdin_socket, app.wire = publisher, bound(zmq.ROUTER, "stdin"), wire
        app._outbox = Outbox(publisher, wire)
        sys.stdout, sys.stderr = KernelStream(app._outbox, "stdout"), KernelStream(app._outbox, "stderr")
        app.join(bound(zmq.ROUTER, "shell"), bound(zmq.ROUTER, "control"))
        try:
            sys.modules["__main__"] = shell.user_module
            kernel.begin(loop)
            heard, asks = client(zmq.SUB, "iopub"), client(zmq.DEALER, "shell")
            heard.subscribe(b"")
            with contextlib.suppress(TimeoutError):  # on a machine that does not get to it: kernels work without
                loop.run_until_complete(asyncio.wait_for(_play(asks, heard, app.session), _GIVE_UP_S))
        finally:
            sys.stdout, sys.stderr = streams
            sys.modules["__main__"] = main
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


async def _play(asks: Any, heard: Any, session: WireSession) -> None:
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
            asks.send_multipart(session.serialize(session.msg("execute_request", content, metadata={"kernelgate": {"env": {}}})))
            asks.send_multipart(session.serialize(session.msg("kernel_info_request", {})))
            await _answered(asks, heard, 2)


async def _answered(asks: Any, heard: Any, count: int) -> None:
    """Until so many requests are answered, and all that was published has been read."""
    while count:
        await asyncio.sleep(0)
        while asks.poll(0):
            asks.recv_multipart()
            count -= 1
        while heard.poll(0):
            heard.recv_multipart()
