"""The Jupyter side of a kernel whose language runs in a child process (Bash, R).

Theory of operation: one process with one thread owns the five sockets and one child, the
interpreter. Five descriptors join the two:

    commands   front -> child    what to run next
    control    child -> front    frames: cell ended, a value, a display, a question
    stdin      front -> child    descriptor 0 of the session's code
    stdout     child -> front    descriptor 1, of the interpreter and of all it starts
    stderr     child -> front    descriptor 2, likewise

Because output is read from descriptors and not from the language, output of child processes and of
native code is seen, and streams while the interpreter is busy. The child writes a control frame after
the output that came before it, so whoever handles a frame first reads what the two output pipes hold:
that alone puts streams and displays in order.

The front answers heartbeat, interrupt and shutdown while the child is busy. It alone gets SIGINT (the
child has a process group of its own), and passes it on until the child says that the cell ended. A
child that is gone ends the front, with the same status; a front that is gone ends the child
(PR_SET_PDEATHSIG).

Standard input: the front holds the only writing end, and lets go of it while an execution may not ask,
so that a reader sees the end of the file at once. While it may ask, a process that sleeps in a read of
descriptor 0 (the kernel says so in /proc) is what makes an `input_request`.

Imports nothing of kernelgate, starts no thread and opens no socket at import: the zygote imports it.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import ctypes
import fcntl
import hashlib
import hmac
import json
import math
import os
import signal
import struct
import sys
import termios
import time
import traceback
import uuid
from datetime import UTC, datetime
from typing import Any, NoReturn

import zmq

KiB = 1024
MiB = 1024 * KiB

PIPE_BYTES = 1 * MiB
"""Asked for each output pipe (Linux allows 1 MiB without privilege): fewer waits of a fast writer."""

CHUNK_CHARS = 256 * KiB
"""Largest text of one stream message."""

GATHER_S = 0.01
"""Output that follows a stream message sooner than this is gathered into one; the contract allows 50 ms."""

STDIN_TICK_S = 0.05
"""How often to look for a sleeping reader of stdin; only while an execution may ask and is silent."""

INTERRUPT_AGAIN_S = 0.1
INTERRUPT_TERMINATE_S = 0.4
INTERRUPT_KILL_S = 0.7
"""An interrupt must end the cell within a second: SIGINT again and again, and what the cell started
gets SIGTERM and SIGKILL where it does not mind SIGINT."""

POLITE_S = 0.3
"""How long the child may take to end by itself; the contract allows a second for all."""

END_OF_INPUT = "\x04"
"""An `input_reply` of this text ends the input, as in ipykernel and terminals."""

FD_STDIN, FD_CODE, FD_STDOUT, FD_STDERR, FD_CONTROL, FD_COMMANDS, FD_FLAG = range(230, 237)
"""Where the child finds its descriptors: above what people and Bash (10, 63, 255) use themselves."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
READ_SYSCALL = {"x86_64": "0", "aarch64": "63", "riscv64": "63"}.get(os.uname().machine, "")
DELIMITER = b"<IDS|MSG>"
PROTOCOL = "5.4"
BINARY_MIME = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")


def is_json_mime(mime: str) -> bool:
    """Whether a bundle holds the value of this MIME type as JSON and not as text."""
    return mime == "application/json" or (mime.startswith("application/") and mime.endswith("+json"))


def bundle_value(mime: str, data: bytes) -> Any:
    """The value nbformat wants for the bytes of a MIME type; raises ValueError for broken JSON."""
    if mime in BINARY_MIME or (mime.startswith(("image/", "audio/", "video/")) and not mime.endswith("+xml")):
        return base64.b64encode(data).decode("ascii")
    text = data.decode("utf-8", "replace")
    # NaN is no JSON, and a client that reads strictly would lose the message.
    return json.loads(text, parse_constant=lambda _: None) if is_json_mime(mime) else text


def descendants(pid: int) -> list[int]:
    """Processes below this one, itself not counted: parents before children, of siblings the youngest first."""
    found: list[int] = []
    generation = [pid]
    while generation:
        children: set[int] = set()
        for parent in generation:
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{parent}/task"):
                    with open(f"/proc/{parent}/task/{thread}/children", encoding="utf-8") as file:
                        children.update(map(int, file.read().split()))
        generation = sorted(children.difference(found), reverse=True)
        found += generation
    return found


class Message:
    """One request: what is needed to answer it, and to name it as parent."""

    def __init__(self, idents: list[bytes], header: dict[str, Any], metadata: dict[str, Any], content: dict[str, Any]):
        self.idents = idents
        self.header = header
        self.metadata = metadata
        self.content = content

    @property
    def kind(self) -> str:
        return str(self.header.get("msg_type", ""))


def readable(pipe: int) -> int:
    """How many bytes are in it."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0])


class Front:
    """One kernel. Subclasses say how the child is started and what the frames mean."""

    implementation = ""
    banner = ""

    def __init__(self, connection_file: str) -> None:
        with open(connection_file, encoding="utf-8") as file:
            self.connection: dict[str, Any] = json.load(file)
        self.language_info: dict[str, Any] = {}
        self.key = str(self.connection.get("key", "")).encode()
        self.session = uuid.uuid4().hex
        self.sent_count = 0
        self.execution_count = 0
        self.ready = False
        self.shell_parent: Message | None = None  # the shell request the child works on
        self.parent: Message | None = None  # the last execution: parent of all output
        self.executing = False
        self.reported: tuple[str, str] | None = None
        self.asking = False  # an input_request is unanswered
        self.allow_stdin = False
        self.interrupted_at: float | None = None
        self.signalled_at = 0.0
        self.before: set[int] = set()  # processes that an interrupt leaves alone
        self.pending: list[tuple[str, str]] = []
        self.pending_chars = 0
        self.streamed_at = 0.0
        self.frames = bytearray()

    # -- start -----------------------------------------------------------------------------------

    def argv(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def greet(self) -> None:
        """Called when the child was started; `self.ready` is set once it answered."""

    def run(self) -> NoReturn:
        """Serve until the child ends or somebody asks for the end."""
        with contextlib.suppress(OSError):
            if os.getpgid(0) != os.getpid():
                os.setpgid(0, 0)
        wake_r, wake_w = os.pipe()
        for end in (wake_r, wake_w):
            os.set_blocking(end, False)
        self.wake = wake_r
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        self.spawn()
        self.bind()
        self.greet()
        self.loop()

    def spawn(self) -> None:
        """Start the child with its descriptors in place."""
        argv, environment = self.argv(), self.environment()
        commands_r, self.commands = os.pipe()
        stdin_r, stdin_w = os.pipe()
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        control_r, control_w = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        self.code_file = os.memfd_create("cell")
        self.flag_file = os.memfd_create("interrupted")
        for pipe in (out_w, err_w):
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        for end in (out_r, err_r, control_r):
            os.set_blocking(end, False)
        self.stdin_r: int = stdin_r
        self.stdin_w: int | None = stdin_w
        self.outputs = {out_r: "stdout", err_r: "stderr"}
        self.decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in self.outputs}
        self.control = control_r
        child = {
            FD_STDIN: stdin_r,
            FD_CODE: self.code_file,
            FD_STDOUT: out_w,
            FD_STDERR: err_w,
            FD_CONTROL: control_w,
            FD_COMMANDS: commands_r,
            FD_FLAG: self.flag_file,
        }
        child |= self.standard_fds(child, null)
        libc = ctypes.CDLL(None, use_errno=True)
        # Orphans of the child become ours, and so do not outlive the kernel.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        front = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != front:
                    os._exit(1)
                signal.set_wakeup_fd(-1)
                for handled in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(handled, signal.SIG_DFL)
                # Copies out of the way first: an end may have a number that is wanted.
                moved = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, 300) for number, fd in child.items()}
                for number, fd in moved.items():
                    os.dup2(fd, number)
                os.closerange(3, FD_STDIN)
                os.closerange(FD_FLAG + 1, 400)
                os.execvpe(argv[0], argv, environment)  # noqa: S606  (no shell is what is wanted)
            except OSError as exc:
                os.write(2, f"{argv[0]}: {exc}\n".encode())
            finally:
                os._exit(127)
        for fd in (commands_r, out_w, err_w, control_w, null):
            os.close(fd)
        self.child = pid
        self.pidfd = os.pidfd_open(pid)
        self.let_go_of_stdin()

    def standard_fds(self, child: dict[int, int], null: int) -> dict[int, int]:
        """What the child starts with as 0, 1 and 2."""
        del null
        return {0: child[FD_STDIN], 1: child[FD_STDOUT], 2: child[FD_STDERR]}

    def bind(self) -> None:
        self.context = zmq.Context(io_threads=1)
        ipc = self.connection.get("transport") == "ipc"

        def socket(kind: int, name: str) -> zmq.Socket[bytes]:
            sock: zmq.Socket[bytes] = self.context.socket(kind)
            sock.linger = 1000
            # No message is dropped at a high-water mark; the reader's own limits apply.
            sock.sndhwm = 0
            sock.rcvhwm = 0
            if kind == zmq.ROUTER:
                # A host that follows one that was killed has its name; it must not be ignored because the end of the other has not been noticed yet.
                sock.setsockopt(zmq.ROUTER_HANDOVER, 1)
            separator = "-" if ipc else ":"
            transport, ip = self.connection.get("transport", "tcp"), self.connection["ip"]
            sock.bind(f"{transport}://{ip}{separator}{self.connection[name + '_port']}")
            return sock

        self.shell = socket(zmq.ROUTER, "shell")
        self.control_socket = socket(zmq.ROUTER, "control")
        self.stdin = socket(zmq.ROUTER, "stdin")
        self.heartbeat = socket(zmq.ROUTER, "hb")
        # XPUB sees subscriptions, so that a client can be told that it will miss nothing from now on.
        self.iopub = socket(zmq.XPUB, "iopub")
        self.iopub.setsockopt(zmq.XPUB_VERBOSE, 1)

    # -- wire ------------------------------------------------------------------------------------

    def sign(self, parts: list[bytes]) -> bytes:
        if not self.key:
            return b""
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(part)
        return digest.hexdigest().encode()

    def send(self, socket: zmq.Socket[bytes], kind: str, content: dict[str, Any], parent: Message | None, idents: list[bytes]) -> None:
        self.sent_count += 1
        header = {
            "msg_id": f"{self.session}_{os.getpid()}_{self.sent_count}",
            "session": self.session,
            "username": (parent.header.get("username") if parent else None) or "kernel",
            "date": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "msg_type": kind,
            "version": PROTOCOL,
        }
        parts = [
            json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            for part in (header, parent.header if parent else {}, {}, content)
        ]
        socket.send_multipart([*idents, DELIMITER, self.sign(parts), *parts])

    def publish(self, kind: str, content: dict[str, Any], parent: Message | None = None) -> None:
        """Send on iopub, after the output that came before."""
        self.flush()
        parent = parent or self.parent
        self.send(self.iopub, kind, content, parent, [kind.encode()])

    def receive(self, socket: zmq.Socket[bytes]) -> Message | None:
        """The next request; None where it is not one (a wrong signature, a broken frame)."""
        parts = socket.recv_multipart()
        try:
            at = parts.index(DELIMITER)
            signature, body = parts[at + 1], parts[at + 2 : at + 6]
            if self.key and not hmac.compare_digest(signature, self.sign(body)):
                return None
            header, _, metadata, content = (json.loads(part) for part in body)
        except (ValueError, IndexError):
            return None
        return Message(parts[:at], header, metadata, content)

    def reply(self, request: Message, content: dict[str, Any], socket: zmq.Socket[bytes] | None = None) -> None:
        kind = request.kind.removesuffix("_request") + "_reply"
        self.send(socket or self.shell, kind, content, request, request.idents)

    # -- loop ------------------------------------------------------------------------------------

    def loop(self) -> NoReturn:
        poller = zmq.Poller()
        for source in (self.control_socket, self.stdin, self.heartbeat, self.iopub, self.wake, self.pidfd, self.control):
            poller.register(source, zmq.POLLIN)
        for fd in self.outputs:
            poller.register(fd, zmq.POLLIN)
        listening = False
        while True:
            free = self.ready and self.shell_parent is None
            if free != listening:
                # A request waits in its queue while the child is busy; only control is served.
                poller.register(self.shell, zmq.POLLIN) if free else poller.unregister(self.shell)
                listening = free
            self.on_events(dict(poller.poll(self.timeout_ms())))
            if listening and self.shell_parent is None and self.shell.poll(0):
                self.next_request()
            self.on_tick()

    def on_events(self, events: dict[Any, int]) -> None:
        """Output before frames, frames before the child's end, all before new requests."""
        if self.wake in events:
            self.on_signals(os.read(self.wake, 64))
        if self.heartbeat in events:
            self.heartbeat.send_multipart(self.heartbeat.recv_multipart())
        if self.iopub in events:
            self.on_subscription(self.iopub.recv())
        if self.control_socket in events and (request := self.receive(self.control_socket)):
            self.on_control(request)
        for fd in self.outputs:
            if fd in events:
                self.read_output(fd)
        if self.control in events:
            self.read_frames()
        if self.pidfd in events:
            self.on_child_exit()
        if self.stdin in events and (request := self.receive(self.stdin)):
            self.on_input_reply(request)

    def timeout_ms(self) -> int | None:
        now = time.monotonic()
        waits = []
        if self.pending:
            waits.append(self.streamed_at + GATHER_S - now)
        if self.interrupted_at is not None:
            waits.append(self.signalled_at + INTERRUPT_AGAIN_S - now)
        if self.is_answerable():
            waits.append(STDIN_TICK_S)
        return math.ceil(max(0.0, min(waits)) * 1000) if waits else None

    def on_tick(self) -> None:
        now = time.monotonic()
        if self.pending and now >= self.streamed_at + GATHER_S:
            self.flush()
        if self.interrupted_at is not None and now >= self.signalled_at + INTERRUPT_AGAIN_S:
            self.signal_child(now - self.interrupted_at)
        if self.is_answerable() and self.is_stdin_wanted():
            # What the reader wrote before it fell asleep may be a frame that asks with a prompt.
            self.read_frames()
            if self.is_answerable():
                self.ask("", password=False)

    def is_answerable(self) -> bool:
        """Whether there is an execution to ask for, and no question open."""
        return self.executing and self.allow_stdin and not self.asking

    def on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGHUP in numbers:
            self.end(0)
        if signal.SIGINT in numbers:
            self.interrupt()
        if signal.SIGCHLD in numbers:
            self.reap_orphans()

    def reap_orphans(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while gone := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if gone.si_pid == self.child:
                    return
                os.waitpid(gone.si_pid, 0)

    def on_subscription(self, event: bytes) -> None:
        """Tell a subscriber that it is one (JEP 65): what is published from now on reaches it."""
        if event[:1] == b"\x01":
            topic = event[1:]
            self.send(self.iopub, "iopub_welcome", {"subscription": topic.decode("utf-8", "replace")}, None, [topic])

    def on_control(self, request: Message) -> None:
        self.publish("status", {"execution_state": "busy"}, request)
        if request.kind == "shutdown_request":
            self.reply(request, {"status": "ok", "restart": request.content.get("restart", False)}, self.control_socket)
            self.publish("status", {"execution_state": "idle"}, request)
            self.end(0)
        if request.kind == "interrupt_request":
            self.interrupt()
            self.reply(request, {"status": "ok"}, self.control_socket)
        elif request.kind == "kernel_info_request":
            self.reply(request, self.kernel_info(), self.control_socket)
        self.publish("status", {"execution_state": "idle"}, request)

    def next_request(self) -> None:
        request = self.receive(self.shell)
        if request is None:
            return
        self.shell_parent = request
        if request.kind == "execute_request":
            self.drain()
            self.flush()
            self.parent = request
        self.publish("status", {"execution_state": "busy"}, request)
        handler = getattr(self, "on_" + request.kind.removesuffix("_request"), None)
        if handler is None:
            self.finish(None)
        else:
            handler(request.content)

    def finish(self, content: dict[str, Any] | None) -> None:
        """Answer the shell request the child worked on; idle follows."""
        request, self.shell_parent = self.shell_parent, None
        assert request is not None
        self.flush()
        if content is not None:
            self.reply(request, content)
        self.publish("status", {"execution_state": "idle"}, request)

    # -- requests --------------------------------------------------------------------------------

    def kernel_info(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "protocol_version": PROTOCOL,
            "implementation": self.implementation,
            "implementation_version": "1.0",
            "language_info": self.language_info,
            "banner": self.banner,
            "help_links": [],
            "supported_features": ["iopub_welcome"],
        }

    def on_kernel_info(self, content: dict[str, Any]) -> None:
        del content
        self.finish(self.kernel_info())

    def on_history(self, content: dict[str, Any]) -> None:
        del content
        self.finish({"status": "ok", "history": []})

    def on_comm_info(self, content: dict[str, Any]) -> None:
        del content
        self.finish({"status": "ok", "comms": {}})

    def on_execute(self, content: dict[str, Any]) -> None:
        code = str(content.get("code", ""))
        silent = bool(content.get("silent"))
        if not silent:
            self.execution_count += 1
            self.publish("execute_input", {"code": code, "execution_count": self.execution_count})
        env = ((self.parent.metadata.get("kernelgate") or {}).get("env") or {}) if self.parent else {}
        env = {str(name): str(value) for name, value in env.items() if "\0" not in f"{name}{value}" and name}
        if not code.strip():
            self.finish_execute(None)
            return
        self.allow_stdin = bool(content.get("allow_stdin"))
        if self.allow_stdin:
            self.hold_stdin()
        self.before = set(descendants(self.child))
        os.ftruncate(self.flag_file, 0)
        self.executing = True
        self.execute(code.replace("\0", ""), env, silent)

    def execute(self, code: str, env: dict[str, str], silent: bool) -> None:
        """Hand a cell to the child; ends in `finish_execute`."""
        raise NotImplementedError

    def finish_execute(self, error: tuple[str, str, list[str]] | None) -> None:
        """The cell ended: its error if any, the reply, idle."""
        request = self.shell_parent
        assert request is not None
        self.executing = False
        self.asking = False
        interrupted, self.interrupted_at = self.interrupted_at is not None, None
        self.let_go_of_stdin()
        if self.allow_stdin:
            self.forget_stdin()
        self.drain()
        for fd, decoder in self.decoders.items():
            self.keep(self.outputs[fd], decoder.decode(b"", final=True))
            decoder.reset()
        if interrupted and (error is None or error[0] != "KeyboardInterrupt"):
            error = ("KeyboardInterrupt", "", ["KeyboardInterrupt: the execution was interrupted"])
        if error is None:
            self.finish(
                {
                    "status": "ok",
                    "execution_count": self.execution_count,
                    "user_expressions": {},
                    "payload": [],
                }
            )
            return
        content = {"ename": error[0], "evalue": error[1], "traceback": error[2]}
        self.publish("error", content)
        # Taken before the reply: what comes after it was sent by somebody who knows of the error.
        queued = []
        while request.content.get("stop_on_error", True) and self.shell.poll(0):
            queued.append(self.receive(self.shell))
        self.finish({"status": "error", "execution_count": self.execution_count, **content})
        self.abort([request for request in queued if request])

    def abort(self, queued: list[Message]) -> None:
        """Executions that were queued behind a failed one are not run, as in ipykernel."""
        for request in queued:
            self.publish("status", {"execution_state": "busy"}, request)
            if request.kind == "kernel_info_request":
                self.reply(request, self.kernel_info())
            else:
                self.reply(request, {"status": "aborted"})
            self.publish("status", {"execution_state": "idle"}, request)

    # -- output ----------------------------------------------------------------------------------

    def keep(self, name: str, text: str) -> None:
        if not text:
            return
        if self.pending and self.pending[-1][0] == name:
            self.pending[-1] = (name, self.pending[-1][1] + text)
        else:
            self.pending.append((name, text))
        self.pending_chars += len(text)
        if self.pending_chars >= CHUNK_CHARS:
            self.flush()

    def read_output(self, fd: int, limit: int = 256 * KiB) -> None:
        try:
            data = os.read(fd, limit)
        except BlockingIOError:
            return
        self.keep(self.outputs[fd], self.decoders[fd].decode(data))

    def drain(self) -> None:
        """Read what the output pipes hold now, and not what is written meanwhile: a writer may never stop."""
        for fd in self.outputs:
            waiting = readable(fd)
            while waiting > 0:
                self.read_output(fd, min(waiting, 256 * KiB))
                waiting -= 256 * KiB

    def flush(self) -> None:
        if not self.pending:
            return
        pending, self.pending, self.pending_chars = self.pending, [], 0
        for name, text in pending:
            self.send(self.iopub, "stream", {"name": name, "text": text}, self.parent, [b"stream"])
        self.streamed_at = time.monotonic()

    def display(self, data: dict[str, Any], metadata: dict[str, Any] | None = None, transient: dict[str, Any] | None = None) -> None:
        self.publish("display_data", {"data": data, "metadata": metadata or {}, "transient": transient or {}})

    # -- frames of the child ---------------------------------------------------------------------

    def read_frames(self) -> None:
        """Frames are `KIND LENGTH LENGTH...;` followed by as many bytes."""
        while True:
            try:
                data = os.read(self.control, PIPE_BYTES)
            except BlockingIOError:
                break
            if not data:
                break
            self.frames += data
        while (end := self.frames.find(b";")) >= 0:
            kind, *lengths = self.frames[:end].decode("ascii").split()
            sizes = [int(length) for length in lengths]
            if len(self.frames) < end + 1 + sum(sizes):
                return
            fields, at = [], end + 1
            for size in sizes:
                fields.append(bytes(self.frames[at : at + size]))
                at += size
            del self.frames[:at]
            self.drain()
            self.on_frame(kind, fields)

    def on_frame(self, kind: str, fields: list[bytes]) -> None:
        raise NotImplementedError

    def command(self, data: bytes) -> None:
        """Write to the child. It reads when it is free, and nothing is sent while it is not."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.commands, view) :]

    # -- stdin -----------------------------------------------------------------------------------

    def hold_stdin(self) -> None:
        if self.stdin_w is None:
            self.stdin_w = os.open(f"/proc/self/fd/{self.stdin_r}", os.O_WRONLY | os.O_CLOEXEC)

    def let_go_of_stdin(self) -> None:
        """Readers see the end of the file from now on."""
        if self.stdin_w is not None:
            os.close(self.stdin_w)
            self.stdin_w = None

    def forget_stdin(self) -> None:
        """Throw away what nobody read. Through an opening of our own: the flags of the other are the child's too."""
        fd = os.open(f"/proc/self/fd/{self.stdin_r}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(BlockingIOError):
            while os.read(fd, 64 * KiB):
                pass
        os.close(fd)

    def is_stdin_wanted(self) -> bool:
        """Whether a process of the child's sleeps in a read of our pipe as its descriptor 0, and has taken all that was written: one that is being woken by that looks asleep for a moment more."""
        if self.stdin_w is None or not READ_SYSCALL or readable(self.stdin_r):
            return False
        pipe = os.readlink(f"/proc/self/fd/{self.stdin_r}")
        for pid in (self.child, *descendants(self.child)):
            with contextlib.suppress(OSError, ValueError):
                with open(f"/proc/{pid}/syscall", encoding="utf-8") as file:
                    number, fd = file.read().split()[:2]
                if number == READ_SYSCALL and int(fd, 16) < 4096 and os.readlink(f"/proc/{pid}/fd/{int(fd, 16)}") == pipe:
                    return True
        return False

    def ask(self, prompt: str, *, password: bool) -> None:
        """Ask the client for a line; the answer comes to `on_answer`."""
        assert self.parent is not None
        self.asking = True
        self.drain()
        self.flush()
        self.send(self.stdin, "input_request", {"prompt": prompt, "password": password}, self.parent, self.parent.idents)

    def on_input_reply(self, request: Message) -> None:
        if self.asking and request.kind == "input_reply":
            self.asking = False
            self.on_answer(str(request.content.get("value", "")))

    def on_answer(self, value: str) -> None:
        if value == END_OF_INPUT:
            self.let_go_of_stdin()
        elif self.stdin_w is not None:
            os.write(self.stdin_w, value.encode("utf-8", "replace")[: 60 * KiB] + b"\n")

    # -- interrupt and end -----------------------------------------------------------------------

    def interrupt(self) -> None:
        if self.executing and self.interrupted_at is None:
            os.ftruncate(self.flag_file, 1)
            self.interrupted_at = time.monotonic()
            self.signal_child(0.0)

    def signal_child(self, age_s: float) -> None:
        """Interrupt the cell, asked for `age_s` ago: called again and again until the cell has ended."""
        self.signal_started(age_s)
        self.signal_interpreter()

    def signal_interpreter(self) -> None:
        self.signalled_at = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGINT)

    def started(self) -> list[int]:
        """What this cell has started and still runs, in the order of `descendants`."""
        return [pid for pid in descendants(self.child) if pid not in self.before]

    def signal_started(self, age_s: float) -> None:
        """SIGINT to what this cell started; it is made to go if it stays."""
        number = signal.SIGINT
        if age_s >= INTERRUPT_KILL_S:
            number = signal.SIGKILL
        elif age_s >= INTERRUPT_TERMINATE_S:
            number = signal.SIGTERM
        # A shell that waits goes on where its child is killed before it; the end of a pipe, which is started last,
        # must not meet the end of its input first.
        for pid in self.started():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def on_child_exit(self) -> None:
        """The interpreter is gone: say what it said last, and end the same way."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        self.read_frames()
        self.drain()
        self.flush()
        self.end(status, reaped=True)

    def end(self, status: int, *, reaped: bool = False) -> NoReturn:
        """End this process and everything below it: politely first, so that exit traps run."""
        if not reaped:
            os.close(self.commands)
            for pid in {self.child, *descendants(self.child)}:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGHUP if pid == self.child else signal.SIGTERM)
            ended = zmq.Poller()
            ended.register(self.pidfd, zmq.POLLIN)
            ended.poll(round(POLITE_S * 1000))
        below = [pid for pid in descendants(os.getpid()) if pid != self.child]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child, signal.SIGKILL)
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not reaped:
            os.waitpid(self.child, 0)
            self.drain()
            self.flush()
        self.tidy()
        self.context.destroy(linger=500)
        if self.connection.get("transport") == "ipc":
            for name in ("shell", "iopub", "stdin", "control", "hb"):
                with contextlib.suppress(OSError):
                    os.unlink(f"{self.connection['ip']}-{self.connection[name + '_port']}")
        if status < 0:
            # Whoever waits for this process shall see the signal that ended the interpreter.
            signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
            os.kill(os.getpid(), -status)
        os._exit(status & 0xFF)

    def tidy(self) -> None:
        """Called when the child is gone."""


def serve(front: type[Front], connection_file: str) -> NoReturn:
    """Run a kernel in this process; never returns."""
    try:
        front(connection_file).run()
    except BaseException:  # noqa: BLE001  (a supervisor's last word)
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)
