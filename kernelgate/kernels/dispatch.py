"""Who handles which request in the Python kernel: the main shell, a subshell, or the Control thread.

ipykernel hands each shell request from a thread to the main thread by way of a pair of sockets, and its answer back by another. Here a request goes to the loop of its shell, and the answer is sent
from there. The handlers, and what they do, are ipykernel's.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import sys
import threading
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.subshell_manager import UnknownSubshellError
from tornado import ioloop

from kernelgate.kernels.channels import Channel, Publisher, ShellChannel
from kernelgate.kernels.message import WireSession
from kernelgate.kernels.wire import Connection, Wire

_COMMS = {"comm_open", "comm_msg", "comm_close"}
_HOLD, _HELD = "kernelgate_hold_request", "kernelgate_held"


class Lane:
    """What handles one request after the other: the main shell, or a subshell (JEP 91)."""

    def __init__(self, kernel: Kernel, loop: asyncio.AbstractEventLoop) -> None:
        self.kernel, self.loop = kernel, loop
        self.lock = asyncio.Lock()
        self.context = contextvars.copy_context()
        self.aborting = False
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, idents: list[bytes], msg: dict[str, Any]) -> None:
        """A request, in the thread of this shell."""
        self.start(self.kernel.shell_main(self, idents, msg))

    def start(self, work: Any) -> None:
        task = self.loop.create_task(work, context=self.context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Subshell(threading.Thread):
    """A thread that runs cells beside the main one."""

    def __init__(self, kernel: Kernel) -> None:
        self.id = str(uuid.uuid4())
        super().__init__(name=f"subshell-{self.id}", daemon=True)
        self.lane = Lane(kernel, asyncio.new_event_loop())

    def run(self) -> None:
        """Serve until stopped."""
        loop = self.lane.loop
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()


class Subshells:
    """The subshells that there are; by the names that ipykernel's `%subshell` knows."""

    def __init__(self) -> None:
        self._all: dict[str, Subshell] = {}
        self.main_thread_id = threading.get_ident()

    def __bool__(self) -> bool:
        return bool(self._all)

    def create(self, kernel: Kernel) -> str:
        made = Subshell(kernel)
        self._all[made.id] = made
        made.start()
        return made.id

    def delete(self, subshell_id: str) -> None:
        """Ends it when its cell is done. Raises UnknownSubshellError."""
        if subshell_id not in self._all:
            raise UnknownSubshellError(subshell_id)
        ended = self._all.pop(subshell_id)
        ended.lane.loop.call_soon_threadsafe(ended.lane.loop.stop)

    def get(self, subshell_id: str) -> Lane:
        """Raises UnknownSubshellError."""
        if subshell_id not in self._all:
            raise UnknownSubshellError(subshell_id)
        return self._all[subshell_id].lane

    def list_subshell(self) -> list[str]:
        return list(self._all)

    def subshell_id_from_thread_id(self, thread_id: int) -> str | None:
        """None for the main shell. Raises RuntimeError."""
        if thread_id == self.main_thread_id:
            return None
        for subshell in self._all.values():
            if subshell.ident == thread_id:
                return subshell.id
        message = f"thread {thread_id} is no subshell of this kernel"
        raise RuntimeError(message)


class Kernel(IPythonKernel):
    """IPythonKernel on a `Wire`."""

    session: WireSession
    shell: Any
    iopub_socket: Publisher
    _aborting = False

    def attach(self, wire: Wire, shell: ShellChannel, control: Channel, stdin: Channel) -> None:
        """These are its channels; `serve` begins."""
        self.wire, self.shell_channel, self.control_channel, self.stdin_channel = wire, shell, control, stdin
        self._answers: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self.subshells = Subshells()
        self._taking = threading.RLock()
        self.shell_channel_thread = SimpleNamespace(manager=self.subshells, parent_thread=threading.main_thread())

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Requests are handled from now on: those of the shell channel by this loop, of the main thread."""
        self.loop = loop
        self.main_lane = Lane(self, loop)
        self.control_loop: asyncio.AbstractEventLoop | None = None
        shell = self.shell_channel
        shell.on_peer = lambda connection: loop.call_soon_threadsafe(self._serve, connection)
        shell.on_gone = lambda connection: loop.call_soon_threadsafe(self._let_go, connection)
        shell.on_requests = self._more_requests
        self.control_channel.on_requests = self._take_control_requests
        self.stdin_channel.on_requests = self._take_answers
        self._publish_status("starting", "shell")

    @property
    def io_loop(self) -> Any:  # type: ignore[override]
        """Tornado's, around the loop of the calling thread."""
        return ioloop.IOLoop.current()

    # -- requests of the shell channel --

    def _serve(self, connection: Connection) -> None:
        self.loop.add_reader(connection.fd, self.take_requests, connection)
        self.take_requests(connection)

    def _let_go(self, connection: Connection) -> None:
        self.loop.remove_reader(connection.fd)
        connection.close()

    def _more_requests(self) -> None:
        if self.subshells:
            self.take_requests()
        else:
            self.loop.call_soon_threadsafe(self.take_requests)

    def take_requests(self, connection: Connection | None = None) -> None:
        """Everything that has come, or that one peer has said, in its order; in the main thread, or in Control."""
        with self._taking:
            for idents, msg in self._messages(self.shell_channel.receive(connection)):
                try:
                    lane = self._lane_for(msg)
                except UnknownSubshellError as exc:
                    self._refuse(idents, msg, exc)
                    continue
                if lane is self.main_lane and threading.get_ident() == self.subshells.main_thread_id:
                    lane.loop.call_soon(lane.put, idents, msg)
                else:
                    lane.loop.call_soon_threadsafe(lane.put, idents, msg)

    def _messages(self, received: list[list[bytes]]) -> Iterator[tuple[list[bytes], dict[str, Any]]]:
        """Of what has come what can be read."""
        for frames in received:
            try:
                idents, parts = self.session.feed_identities(frames)
                msg = self.session.deserialize(parts)
            except Exception:
                self.log.exception("Invalid Message")
                continue
            yield idents, msg

    def _lane_for(self, msg: dict[str, Any]) -> Lane:
        subshell_id = msg["header"].get("subshell_id")
        if msg["msg_type"] in ("comm_msg", "comm_close"):
            comm = self.comm_manager.get_comm(msg["content"].get("comm_id"))
            route = getattr(comm, "_reply_subshell_for", None)
            if route is not None:
                subshell_id = route(msg["content"].get("data"), subshell_id)
        return self.main_lane if subshell_id is None else self.subshells.get(subshell_id)

    def _refuse(self, idents: list[bytes], msg: dict[str, Any], error: Exception) -> None:
        """No reply alone: clients count a request as done by its status."""
        self._publish_status("busy", "shell", parent=msg)
        content = {"status": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": []}
        kind = msg["msg_type"].rsplit("_", 1)[0] + "_reply"
        self.session.send(self.shell_channel, kind, content, msg, idents, metadata={"status": "error"})
        self._publish_status("idle", "shell", parent=msg)

    async def shell_main(self, lane: Lane, idents: list[bytes], msg: dict[str, Any]) -> None:  # type: ignore[override]
        """One request after the other; but what a widget says reaches a cell that awaits it."""
        if lane.lock.locked() and msg["msg_type"] in _COMMS:
            parent, ident = self.get_parent("shell"), self._get_shell_context_var(self._shell_parent_ident)
            try:
                await lane.loop.create_task(self.handle(lane, idents, msg, beside=True), context=contextvars.copy_context())
            finally:
                self.set_parent(ident, parent, channel="shell")
            return
        async with lane.lock:
            await self.handle(lane, idents, msg)

    async def handle(self, lane: Lane, idents: list[bytes], msg: dict[str, Any], *, beside: bool = False) -> None:
        """A request of the shell channel, from `busy` to `idle`."""
        self.set_parent(idents, msg, channel="shell")
        kind = msg["msg_type"]
        if not beside:
            with self.iopub_socket.lock:
                if kind == "execute_request" and not msg["content"].get("silent"):
                    self.iopub_socket.cork()  # for what is executed follows at once, or else `idle`
                self._publish_status("busy", "shell")
        if kind == "execute_request" and lane.aborting:
            self._send_abort_reply(self.shell_channel, msg, idents)
            self._publish_status("idle", "shell")
            return
        handler = self.shell_handlers.get(kind)
        if handler is None:
            self.log.warning("Unknown message type: %r", kind)
        else:
            if not beside:
                self.pre_handler_hook()
            try:
                result = handler(self.shell_channel, idents, msg)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                self.log.exception("Exception in message handler:")
            except KeyboardInterrupt:
                self.log.error("KeyboardInterrupt caught in kernel.")
            finally:
                if not beside:
                    self.post_handler_hook()
        self.flush_output()
        if not beside:
            self._publish_status("idle", "shell")

    def flush_output(self) -> None:
        """What was printed is on its way before anything else is said."""
        raise NotImplementedError

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        """After an error: executions that have come by now are not done."""
        lane = self.main_lane if subshell_id is None else self.subshells.get(subshell_id)
        lane.aborting = True
        self.take_requests()

        async def stop() -> None:
            # The lock is given in the order in which it was asked for.
            async with lane.lock:
                lane.aborting = False

        # By way of the loop, as the requests, so as to come behind them.
        lane.loop.call_soon_threadsafe(lane.start, stop())

    # -- questions of cells --

    def _take_answers(self) -> None:
        for frames in self.stdin_channel.take():
            self._answers.put(frames)

    def _input_request(self, prompt: str, ident: Any, parent: Any, password: bool = False) -> str:
        """The caller's answer. Raises EOFError, KeyboardInterrupt."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        while not self._answers.empty():
            self._answers.get()  # to an earlier question, which nobody waited for
        content = {"prompt": prompt, "password": password}
        self.session.send(self.stdin_channel, "input_request", content, parent, ident)
        self.iopub_socket.raise_deferred()
        try:
            while not (answers := [msg for _, msg in self._messages([self._answers.get()])]):
                pass
        except KeyboardInterrupt:
            message = "Interrupted by user"
            raise KeyboardInterrupt(message) from None
        value = answers[0]["content"].get("value", "")
        if value == "\x04":
            raise EOFError
        return str(value)

    # -- requests of the control channel, in the Control thread --

    def _take_control_requests(self) -> None:
        for idents, msg in self._messages(self.control_channel.take()):
            self._handle_control(idents, msg)

    def _hold(self, msg: dict[str, Any]) -> None:
        """Who listens leaves for a while: this is the last that it hears (docs/kernels.md)."""
        with self.iopub_socket.lock:
            self.flush_output()
            self.iopub_socket.hold(self.session.serialize(self.session.msg(_HELD, {}, msg), self._topic("held")))

    def _handle_control(self, idents: list[bytes], msg: dict[str, Any]) -> None:
        if msg["msg_type"] == _HOLD:
            self._hold(msg)
            return
        self.set_parent(idents, msg, channel="control")
        self._publish_status("busy", "control")
        handler = self.control_handlers.get(msg["msg_type"])
        if handler is None:
            self.log.error("UNKNOWN CONTROL MESSAGE TYPE: %r", msg["msg_type"])
        else:
            try:
                result = handler(self.control_channel, idents, msg)
                if inspect.isawaitable(result):
                    if self.control_loop is None:
                        self.control_loop = asyncio.new_event_loop()
                    self.control_loop.run_until_complete(result)
            except Exception:
                self.log.exception("Exception in control handler:")
        # What a cell prints meanwhile is not flushed here: it may have written half a line.
        self._publish_status("idle", "control")

    async def create_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """From now on Control reads the shell channel too: a cell may keep the main thread."""
        made = self.subshells.create(self)
        self.shell_channel.share(shared=True)
        self.session.send(socket, "create_subshell_reply", {"status": "ok", "subshell_id": made}, parent, ident)

    async def delete_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """It ends when its cell has ended."""
        try:
            self.subshells.delete(parent["content"].get("subshell_id"))
            reply = {"status": "ok"}
        except UnknownSubshellError as exc:
            reply = {"status": "error", "evalue": str(exc)}
        if not self.subshells:
            self.shell_channel.share(shared=False)
        self.session.send(socket, "delete_subshell_reply", reply, parent, ident)

    async def list_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Their ids."""
        self.session.send(socket, "list_subshell_reply", {"status": "ok", "subshell_id": self.subshells.list_subshell()}, parent, ident)
