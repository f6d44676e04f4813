"""The Python kernel: ipykernel, with what docs/kernels.md asks for and ipykernel lacks.

Theory of operation. `prepare` runs once in a single-threaded process that will fork, and leaves in
its memory everything a kernel needs: the imports, a shell that has already run cells, a drawn
figure, a completion. `run` is called in a fork of it (or, by `python -m`, in the same process),
makes the sockets and threads around that shell, and serves until the kernel is told to end.

Threads of a kernel: the main thread takes requests and runs cells; Control (see `wire`) serves the
control channel and reads the pipes behind descriptors 1 and 2, and is told of signals through a
wakeup descriptor, so that SIGTERM and shutdown work while a cell blocks the main thread; Heartbeat
is ipykernel's.

Signals: SIGINT ends the running cell and the processes it started; outside a cell it does nothing.
SIGTERM ends the kernel. Both hold for this process only, not for forks a cell makes.

This module knows nothing of the rest of kernelgate.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import argparse
import asyncio
import atexit
import contextlib
import functools
import io
import logging
import os
import random
import select
import signal
import socket
import sys
import threading
import time
import traceback
import types
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

# debugpy is slow to import and large; the kernel says in its kernel_info that it has no debugger.
_debugpy = sys.modules.get("debugpy")
sys.modules["debugpy"] = None  # type: ignore[assignment]
try:
    import ipykernel.debugger
    import ipykernel.ipkernel
finally:
    if _debugpy is None:
        del sys.modules["debugpy"]
    else:
        sys.modules["debugpy"] = _debugpy

from ipykernel.comm import manager as _comm_manager  # noqa: F401
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel
from jupyter_client.session import new_id
from traitlets import Type, default

from kernelgate.kernels import children, dispatch, rehearsal, warm
from kernelgate.kernels.channels import Channel, Heartbeat, Publisher, ShellChannel
from kernelgate.kernels.message import WireSession
from kernelgate.kernels.shell import Shell, os_system
from kernelgate.kernels.streams import FLUSH_INTERVAL_S, InputStream, KernelStream, Outbox
from kernelgate.kernels.warm import CONFIG, forget, namespaces, the_shell
from kernelgate.kernels.wire import Wire, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The call itself: cells get one that lets their output out first.
_exit = os._exit

LEAVE_WITHIN_S = 0.5
"""What atexit functions and the closing of sockets get before the process ends without them."""

SIGTERM_STATUS = 128 + signal.SIGTERM

_SIGINT, _SIGTERM = int(signal.SIGINT), int(signal.SIGTERM)

# ipykernel looks up, at each cell and for 0.2 ms, which arguments the shell's method takes.
_accepts = functools.lru_cache(maxsize=8)(ipykernel.kernelbase._accepts_parameters)
ipykernel.ipkernel._accepts_parameters = lambda method, names: _accepts(method, tuple(names))  # type: ignore[attr-defined]

# Requests whose handling says nothing about whose output comes next: a kernel_info that follows an
# execute must not become the parent of what a thread of that execution prints late.
_PASSIVE = {
    "kernel_info_request", "complete_request", "inspect_request", "is_complete_request",
    "history_request", "comm_info_request", "connect_request",
}  # fmt: skip


class PythonKernel(dispatch.Kernel):
    """IPythonKernel with per-execution environment, dependable interrupts, and an honest end."""

    shell_class = Type(Shell)
    shell: Any
    parent: Any

    # ipykernel sleeps 0.5 ms after each execution "on rare occasions, the flush doesn't seem to
    # make it": here the order is fixed by the outbox.
    _execute_sleep = 0.0

    cell_running = False
    interrupted = False
    """Whether SIGINT came while the running cell ran."""

    _cell_task: asyncio.Future[Any] | None = None
    _cell_started_ticks = 0.0
    outbox: Outbox

    def __init__(self, **kwargs: Any) -> None:
        # ipykernel looks at every loaded module for its debugger, which after a fork copies the page
        # each of them is on: a few MB of each kernel.
        ipykernel.ipkernel.sys = types.SimpleNamespace(modules={})  # type: ignore[attr-defined, assignment]
        try:
            super().__init__(**kwargs)
        finally:
            ipykernel.ipkernel.sys = sys  # type: ignore[attr-defined]

    def set_parent(self, ident: Any, parent: Any, channel: str = "shell") -> None:
        """Whose output comes next; requests that make none leave that alone."""
        if channel == "shell" and parent.get("header", {}).get("msg_type") in _PASSIVE:
            Kernel.set_parent(self, ident, parent, channel)
        else:
            super().set_parent(ident, parent, channel)

    # -- executing ---------------------------------------------------------------------------

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Any = None,
        cell_id: Any = None,
    ) -> dict[str, Any]:
        """Run a cell; there is always a reply, and an `error` message for every error reply."""
        shell = self.shell
        if silent and _ours(cell_meta).get("warm"):
            return await self._warm_up(code)
        shell.last_error = None
        shell._last_traceback = None
        shell._last_traceback_during_displayhook = False
        count = shell.execution_count
        in_main = threading.current_thread() is threading.main_thread()
        reply: dict[str, Any]
        try:
            with _environment(cell_meta):
                try:
                    if in_main:
                        self.interrupted = False
                        self.iopub_socket.forget_interrupt()
                        self._cell_started_ticks = children.now_ticks()
                        self.cell_running = True
                        shell.ahead = (code, None)
                    reply = await super().do_execute(
                        code, silent, store_history, user_expressions, allow_stdin,
                        cell_meta=cell_meta, cell_id=cell_id,
                    )  # fmt: skip
                finally:
                    if in_main:
                        self.cell_running = False
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
            reply = self._error_reply(KeyboardInterrupt())
        except (KeyboardInterrupt, Exception) as exc:  # noqa: BLE001 - the caller must hear of it
            reply = self._error_reply(exc)
        if shell.leaving is not None:
            payload = [{"source": "ask_exit", "keepkernel": False}]
            reply = {"status": "ok", "user_expressions": {}, "payload": payload}
        elif reply["status"] == "error" or shell.last_error is not None:
            if shell.last_error is None:
                reply = self._error_reply(RuntimeError(reply.get("evalue", "")))
            ename, evalue, lines = shell.last_error
            reply.update(status="error", ename=ename, evalue=evalue, traceback=lines)
            if ename == "StdinNotImplementedError":
                # A debugger that found no stdin leaves its trace function behind.
                sys.settrace(None)
        if store_history and not silent and shell.execution_count == count:
            # IPython does not count an empty cell.
            shell.execution_count += 1
        reply["execution_count"] = count
        return reply

    async def _warm_up(self, code: str) -> dict[str, Any]:
        """Run a cell as a caller's, and forget it: the pages that a first cell copies are then copied before there is a caller."""
        before = namespaces(self.shell)
        try:
            await super().do_execute(code, silent=False)
        finally:
            forget(self.shell, before)
            self.shell.execution_count = 1
        return {"status": "ok", "user_expressions": {}, "payload": [], "execution_count": 0}

    def _error_reply(self, exc: BaseException) -> dict[str, Any]:
        """A reply for what IPython let through: raised by a hook, or between two of its steps."""
        if self.shell.last_error is None:
            self.shell.showtraceback((type(exc), exc, exc.__traceback__))
        self.shell.payload_manager.clear_payload()
        return {"status": "error", "user_expressions": {}, "payload": []}

    def flush_output(self) -> None:
        """Text first, whoever wrote it."""
        self.outbox.flush(wait=False)

    async def handle(self, lane: Any, idents: Any, msg: Any, *, beside: bool = False) -> None:
        """As any request; when it was a cell that called `exit`, end after its answer."""
        await super().handle(lane, idents, msg, beside=beside)
        if self.shell.leaving is not None:
            self.parent.leave(self.shell.leaving)

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        """Completions; none when interrupted."""
        self.cell_running = True
        try:
            reply: dict[str, Any] = super().do_complete(code, cursor_pos)
        except KeyboardInterrupt:
            reply = {
                "matches": [], "cursor_start": cursor_pos, "cursor_end": cursor_pos,
                "metadata": {}, "status": "ok",
            }  # fmt: skip
        finally:
            self.cell_running = False
        return reply

    # -- interrupting ------------------------------------------------------------------------

    def pre_handler_hook(self) -> None:
        """A cell may have changed the handlers: they are its own only until it ends."""
        self.parent.install_signals()

    def post_handler_hook(self) -> None:
        """See `pre_handler_hook`."""
        self.parent.install_signals()

    def on_sigint(self, _signum: int, frame: types.FrameType | None) -> None:
        """Interrupt the running cell. Runs in the main thread, between any two instructions."""
        if not self.cell_running:
            return
        self._interrupt_children()
        if self.iopub_socket.defer_interrupt():
            # While a cell awaits, the lock is the loop's: of what that does nothing may come by where it is raised.
            self.loop.call_soon_threadsafe(self.iopub_socket.raise_deferred)
            return
        self.interrupted = True
        if self._cell_task is None:
            raise KeyboardInterrupt
        loop = self.loop
        runs_now = self._runs_user_code(frame)
        task = asyncio.current_task(loop)
        if not runs_now or task is not self._cell_task:
            loop.call_soon_threadsafe(self._cell_task.cancel)
        if runs_now:
            if task is not None and task is not self._cell_task:
                task.add_done_callback(_note_exception)  # or asyncio complains of it some time later
            raise KeyboardInterrupt

    def _runs_user_code(self, frame: types.FrameType | None) -> bool:
        namespace = self.shell.user_ns
        while frame is not None:
            if frame.f_globals is namespace:
                return True
            frame = frame.f_back
        return False

    def _interrupt_children(self) -> None:
        """SIGINT to what the running cell started, as a terminal would; servers started by earlier cells stay."""
        for pid, started in children.descendants():
            if started >= self._cell_started_ticks:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGINT)

    @contextlib.contextmanager
    def _cancel_on_sigint(self, future: asyncio.Future[Any]) -> Iterator[None]:
        """While a cell awaits, SIGINT cancels it; `on_sigint` decides."""
        self._cell_task = future
        try:
            yield
        finally:
            self._cell_task = None

    def _send_interrupt_children(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    # -- ending ------------------------------------------------------------------------------

    def do_shutdown(self, restart: bool) -> Any:
        """Agree; `shutdown_request` does it."""
        return {"status": "ok", "restart": restart}

    async def shutdown_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """End children, answer, and end the process within a second, even if a cell runs."""
        content = self.do_shutdown(parent["content"].get("restart", False))
        children.end_all()
        self.session.send(stream, "shutdown_reply", content, parent, ident=ident)
        self.session.send(self.iopub_socket, "shutdown_reply", content, parent, ident=self._topic("shutdown"))
        self.parent.leave(0)


def _ours(cell_meta: Any) -> dict[str, Any]:
    ours = cell_meta.get("kernelgate") if isinstance(cell_meta, dict) else None
    return ours if isinstance(ours, dict) else {}


@contextlib.contextmanager
def _environment(cell_meta: Any) -> Iterator[None]:
    """Apply `metadata.kernelgate.env` while a cell runs, and put back what was there."""
    env = _ours(cell_meta).get("env")
    if not env:
        yield
        return
    before = {name: os.environ.get(name) for name in env}
    try:
        for name, value in env.items():
            os.environ[name] = value
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old


class KernelApp(IPKernelApp):
    """Makes and serves one kernel; reads no configuration files and makes no directories."""

    kernel_class = Type(PythonKernel)
    session: Any
    exit_status = 0
    log_fd = 2
    """Where what the kernel itself has to say goes; `init_io` takes 2 for the cells."""
    _leaving = False

    def __init__(self, connection_file: str = "") -> None:
        log = logging.getLogger("kernelgate.kernels.python")
        log.setLevel(logging.ERROR)
        log.propagate = False  # the root logger is the user's
        super().__init__(log=log, config=CONFIG, connection_file=connection_file)
        self.profile_dir = the_shell().profile_dir
        # Made before the fork, where there is one: each would copy the pages that it takes. `init_kernel` gives it its sockets.
        self.kernel = PythonKernel.instance(parent=self, session=self.session, log=log, profile_dir=self.profile_dir)
        self.part()

    @default("session")
    def _default_session(self) -> WireSession:
        return WireSession(parent=self)

    def _ip_default(self) -> str:
        # It is in every connection file. Jupyter works it out all the same, by importing psutil, which after a fork copies 8 MiB of pages.
        return "127.0.0.1"

    def initialize(self, argv: Any = None) -> None:
        """Make sockets, threads and the kernel around the shell."""
        self.init_pdb()
        self.load_connection_file()
        unset = 0 in (self.shell_port, self.iopub_port, self.stdin_port, self.control_port, self.hb_port)
        self.init_sockets()
        if unset:
            self.write_connection_file()
        self._ports = {
            "shell": self.shell_port, "iopub": self.iopub_port, "stdin": self.stdin_port,
            "hb": self.hb_port, "control": self.control_port,
        }  # fmt: skip
        self.init_io()
        self.init_kernel()
        self.init_path()
        self.init_shell()
        self.init_signal()

    def init_sockets(self) -> None:
        """All of them listen before there is a connection file that names their ports."""
        self.init_channels(*map(self._listen, ("shell", "control", "stdin", "iopub")))
        heart = self._listen("hb")
        self._heart = Heartbeat(self.wire, heart, f"{self.transport}://{self.ip}{'-' if self.transport == 'ipc' else ':'}{self.hb_port}")
        atexit.register(self.close)

    def init_channels(self, shell: Any, control: Any, stdin: Any, iopub: Any) -> None:
        """The channels, each on a socket that listens."""
        self.wire = Wire(self.log)
        self.shell_socket = ShellChannel(self.wire, shell)
        self.control_socket, self.stdin_socket = Channel(self.wire, control), Channel(self.wire, stdin)
        self.iopub_socket = Publisher(self.wire, iopub, self.session)
        self.listeners = (self.iopub_socket, self.shell_socket, self.stdin_socket, self.control_socket)

    def _listen(self, name: str) -> Any:
        """A socket that listens where the connection file says, or, where it leaves that open, somewhere. Raises OSError."""
        sock, port = listening(self.transport, self.ip, getattr(self, f"{name}_port"))
        setattr(self, f"{name}_port", port)
        return sock

    def close(self) -> None:
        """Send what is to be sent, and close the sockets."""
        self._outbox.flush(wait=True)
        self.wire.stop()
        for one in self.listeners:
            one.close()
        if not self.ip.startswith("@"):
            self.cleanup_ipc_files()

    def init_io(self) -> None:
        """Capture stdout and stderr, of this process and its children; log to the original."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        self._outbox = Outbox(self.iopub_socket, self.wire)
        out = KernelStream(self._outbox, "stdout")
        err = KernelStream(self._outbox, "stderr")
        os.close(out.capture_fd())
        self.log_fd = err.capture_fd()
        self.iopub_socket.knock = functools.partial(_knock, self.log_fd)
        for stream in (sys.__stdout__, sys.__stderr__):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
        sys.stdout, sys.stderr = out, err
        sys.stdin = InputStream()
        handler = logging.StreamHandler(io.TextIOWrapper(io.FileIO(self.log_fd, "w"), write_through=True))
        self.log.addHandler(handler)
        logging.getLogger("tornado").addHandler(handler)
        logging.getLogger("tornado").propagate = False
        self.displayhook = ipykernel.displayhook.ZMQDisplayHook(self.session, self.iopub_socket)
        sys.displayhook = self.displayhook
        self.patch_io()
        os._exit = self._exit_from_code

    def _exit_from_code(self, status: int) -> NoReturn:
        """`os._exit` as a cell calls it: at once, but what was printed before still goes out."""
        if not KernelStream.forked:
            self._outbox.flush(wait=True)
        _exit(status)

    def init_kernel(self) -> None:
        """Put the prepared shell and the sockets together."""
        kernel = self.kernel
        kernel.ident = new_id()
        kernel.record_ports({name + "_port": port for name, port in self._ports.items()})
        self.join()
        self.displayhook.get_execution_count = lambda: kernel.execution_count
        sys.modules["__main__"] = kernel.shell.user_module
        _inherit_parents(kernel.shell)
        _allow_asyncio_run()

    def join(self) -> None:
        """From now on the kernel and its shell answer at these sockets."""
        kernel = self.kernel
        shell: Any = kernel.shell
        kernel.iopub_socket = self.iopub_socket
        for publisher in (shell.display_pub, shell.displayhook):
            publisher.session, publisher.pub_socket = self.session, self.iopub_socket
        shell.displayhook.topic = kernel._topic("execute_result")
        kernel.attach(self.wire, self.shell_socket, self.control_socket, self.stdin_socket)
        kernel.outbox = self._outbox
        self._outbox.cell_running = lambda: kernel.cell_running
        shell.kernel = shell.parent = kernel

    def part(self) -> None:
        """The end of what `join` began, where it was not the real one."""
        kernel = self.kernel
        shell: Any = kernel.shell
        kernel.iopub_socket = self.iopub_socket = None
        for publisher in (shell.display_pub, shell.displayhook):
            publisher.session = publisher.pub_socket = None
        shell.kernel = None  # there is nobody to ask yet

    def init_signal(self) -> None:
        """Handlers, and a descriptor by which the control thread hears of every signal at once."""
        reader, self._wakeup = socket.socketpair()
        for end in (reader, self._wakeup):
            end.setblocking(False)
        self.wire.watch(reader.fileno(), lambda: self._on_signals(reader))
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._on_sigint = self.kernel.on_sigint
        self.install_signals()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_forked_child)

    def install_signals(self) -> None:
        """Set our handlers (again); does nothing outside the main thread, as in a subshell."""
        if threading.current_thread() is threading.main_thread():
            # Without the enumerations of `signal`, in which most of the time of two calls a cell was spent.
            _signal.signal(_SIGINT, self._on_sigint)
            _signal.signal(_SIGTERM, _ignore)  # seen through the wakeup descriptor
            signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)

    def _on_signals(self, reader: socket.socket) -> None:
        signals = reader.recv(4096)
        if signal.SIGTERM in signals:
            children.end_all()
            self.leave(SIGTERM_STATUS)
        else:
            # Wakes the main thread's loop, where the Python handler of the signal then runs.
            self.kernel.loop.call_soon_threadsafe(_ignore)

    def _before_fork(self) -> None:
        # Until the child has its own handlers a signal to it would be written to our wakeup descriptor, and a pool that ends its workers would end the kernel.
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        self.iopub_socket.before_fork()

    def _after_fork(self) -> None:
        self.iopub_socket.after_fork()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _in_forked_child(self) -> None:
        """A fork made by a cell is an ordinary process: it must not answer for the kernel."""
        KernelStream.forked = True
        for one in (*self.listeners, self._heart):
            one.forget()
        self.iopub_socket.after_fork()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self.session.pid = os.getpid()

    def serve(self) -> int:
        """Handle messages until the kernel is to end; the exit status."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self.kernel.begin(loop)
        self.wire.thread.start()
        while not self._leaving:
            # A KeyboardInterrupt that a background task of the user let through stops the loop.
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                loop.run_forever()
        return self.exit_status

    def leave(self, status: int) -> None:
        """End the process: by way of the main thread if it is idle, and soon in any case."""
        if self._leaving:
            return
        self._leaving = True
        self.exit_status = status
        threading.Thread(target=self._leave_late, args=(status,), daemon=True).start()
        self.kernel.loop.call_soon_threadsafe(self.kernel.loop.stop)

    def _leave_late(self, status: int) -> NoReturn:
        if self.kernel.cell_running:
            # The main thread is not coming. Control still sends what waits for a slow reader.
            self._outbox.flush(wait=False)
            time.sleep(FLUSH_INTERVAL_S)
        else:
            time.sleep(LEAVE_WITHIN_S)
        _exit(status)


def _ignore(*_args: object) -> None:
    pass


def _knock(log_fd: int) -> None:
    """Wakes who sleeps and looks at our log: where that is full, it has something to look at."""
    with contextlib.suppress(OSError):
        if select.select([], [log_fd], [], 0)[1]:
            os.write(log_fd, b"\n")


def _note_exception(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _inherit_parents(shell: Shell) -> None:
    """Make threads, and work given to thread pools, print into the execution that started them.

    ipykernel 7 sends what a thread prints to whichever execution is running at that time.
    """
    from concurrent.futures import thread as pools

    start, bootstrap = threading.Thread.start, threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def start_thread(self: threading.Thread) -> None:
        self._kernel_parent = shell.parent_header  # type: ignore[attr-defined]
        start(self)

    def bootstrap_thread(self: threading.Thread) -> None:
        if getattr(self, "_kernel_parent", None):
            shell.set_thread_parent(self._kernel_parent)  # type: ignore[attr-defined]
        bootstrap(self)

    start_thread.__wrapped__ = start  # type: ignore[attr-defined]
    threading.Thread.start = start_thread  # type: ignore[method-assign]
    threading.Thread._bootstrap_inner = bootstrap_thread  # type: ignore[attr-defined]

    init_item, run_item = pools._WorkItem.__init__, pools._WorkItem.run

    def new_item(self: Any, *args: Any, **kwargs: Any) -> None:
        self._kernel_parent = shell.parent_header
        init_item(self, *args, **kwargs)

    def work(self: Any) -> None:
        if self._kernel_parent:
            shell.set_thread_parent(self._kernel_parent)
        run_item(self)

    pools._WorkItem.__init__ = new_item  # type: ignore[method-assign]
    pools._WorkItem.run = work  # type: ignore[method-assign]


def _allow_asyncio_run() -> None:
    """Make `asyncio.run` work in a cell, as it does in a program.

    The kernel's loop runs in the main thread, so that Python refuses to run another one there. While
    the cell waits for it the kernel's loop does nothing anyway, and is set aside.
    """
    original = asyncio.run

    @functools.wraps(original)
    def run(main: Any, **options: Any) -> Any:
        loop = asyncio._get_running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        if loop is None or task is None:
            return original(main, **options)
        asyncio.tasks._leave_task(loop, task)
        asyncio._set_running_loop(None)
        try:
            return original(main, **options)
        finally:
            asyncio._set_running_loop(loop)
            asyncio.set_event_loop(loop)
            asyncio.tasks._enter_task(loop, task)

    asyncio.run = run


def prepare(preload: list[str]) -> dict[str, Any]:
    """Make this process one whose forks become kernels quickly; call it once, before any fork.

    Args:
        preload: Modules to import, such as `numpy` or `matplotlib`. Those that are not installed
            are named in the answer.

    Returns:
        `modules`: what was imported; `missing`: what is not installed; `tasks`: the process's
        number of threads, which is 1: the process may fork.

    Nothing is left open: no sockets, no files, no database. The environment is as before.
    """
    return warm.prepare(preload, KernelApp.instance, rehearsal.rehearse)


def run(connection_file: str) -> NoReturn:
    """Become the kernel this connection file describes; must be the main thread.

    The environment, the working directory and the user are the caller's work. Ends the process
    when the kernel ends: status 0 after a shutdown request, 143 after SIGTERM, and after `exit(n)`
    n. Calls of `atexit` made before, by a zygote, are forgotten.
    """
    status = 1
    try:
        _become_a_process_of_its_own()
        app = KernelApp.instance()
        app.connection_file = connection_file
        app.session.session, app.session.pid = new_id(), os.getpid()
        app.initialize()
        status = app.serve()
        children.end_all()
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001 - there is nobody above
        with contextlib.suppress(OSError):
            os.write(KernelApp.instance().log_fd, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        _exit(status)


def _become_a_process_of_its_own() -> None:
    import logging as _logging
    import multiprocessing.util

    atexit._clear()
    for function in (_logging.shutdown, weakref.finalize._exitfunc, multiprocessing.util._exit_function):  # type: ignore[attr-defined]
        atexit.register(function)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    for name, value in {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "PLOTLY_RENDERER": "plotly_mimetype",
    }.items():
        os.environ.setdefault(name, value)
    os.system = os_system
    sys.argv = ["python"]
    the_shell()


def main() -> NoReturn:
    """`python -m kernelgate.kernels.python -f CONNECTION_FILE`: the kernel without a zygote."""
    parser = argparse.ArgumentParser(description="The Python kernel")
    parser.add_argument("-f", dest="connection_file", required=True)
    # Nothing is prepared: that pays only where it serves many forks.
    run(parser.parse_args().connection_file)


if __name__ == "__main__":
    main()
