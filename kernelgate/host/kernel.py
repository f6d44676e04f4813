"""One kernel process as the host sees it: its sockets, its readiness, its death."""

from __future__ import annotations

import errno
import functools
import json
import logging
import math
import os
import secrets
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kernelgate.errors import RemoteProtocolError
from kernelgate.host.peer import Address, Peer
from kernelgate.protocol.execution import Death
from kernelgate.protocol.jupyter import Message, Wire

if TYPE_CHECKING:
    from kernelgate.host.loop import Loop, Timer

log = logging.getLogger(__name__)

_WARM_UP = "~warm"
CHANNELS = ("shell", "iopub", "stdin", "control")
#: Kernels inside a sandbox listen on its own loopback, above the ports the system gives out by itself (32768 to 60999).
FIRST_PORT = 61000
#: A kernel that has not answered by then is not going to; R takes 0.5 s, Java 1 s, and twenty times that on a loaded machine.
START_TIMEOUT_S = 60.0
#: Between two attempts to connect, at first and at most.
_RETRY_S, _RETRY_MOST_S = 0.003, 0.05
_NUDGE_S = 0.2
_ASK_AGAIN_S = 0.005
#: After its process is gone, others that have its sockets may still write to them, as forks of it may until they are ended; they are waited for so long.
DRAIN_S = 0.1
_DRAIN_AGAIN_S = 0.005
#: A kernel that says it exits runs its exit functions first.
LEAVE_S = 5.0
_LOG_BYTES = 8 * 1024
FULL = Death("signalled", signal="SIGKILL", message="the kernel was ended because its processes filled the session", limit="processes")


class Spawner(Protocol):
    """What a kernel needs of init. `swept`: whether the process whose exit is being told was ended because its processes filled the session."""

    swept: bool

    def spawn(
        self, request: dict[str, Any], on_spawned: Callable[[int, list[int]], None], on_exit: Callable[[int, bool], None]
    ) -> None: ...
    def signal(self, pid: int, number: int) -> None: ...


class Kernel:
    """A kernel, from the request to start it until its end.

    `on_message(channel, message)`, `on_ready()` and `on_death(death)` are called from the loop; on_death once, last, and after every message that had arrived.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        name: str,
        spec: dict[str, Any],
        connection: dict[str, Any],
        on_message: Callable[[str, Message], None],
        on_ready: Callable[[], None],
        on_death: Callable[[Death], None],
    ) -> None:
        self.name = name
        self.spec = spec
        self.connection = connection
        self.pid: int | None = None
        self.ready = self._was_ready = False
        self.dead = False
        self.execution_state = "starting"
        self._loop = loop
        self._on_message, self._on_ready, self._on_death = on_message, on_ready, on_death
        # The same for every host of this kernel: a successor is the same peer to the kernel, and gets the replies to its predecessor's requests.
        self.wire = Wire(connection["key"], f"kg-{name}")
        self._peers: dict[str, Peer] = {}
        self._log = deque[bytes](maxlen=64)
        self._log_fd: int | None = None
        self._nudges: set[str] = set()
        self._replied = self._heard = False
        self._timer: Timer | None = None
        self._give_up_at = 0.0
        self._spawner: Spawner | None = None
        self._death: Death | None = None
        self._waiting: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._on_held: Callable[[], None] | None = None

    # -- start --

    def start(self, spawner: Spawner, *, env: dict[str, str], cwd: str, connection_file: Path, tag: dict[str, Any]) -> None:
        """Asks init for the process and waits for it to answer on both sockets."""
        connection_file.write_text(json.dumps(self.connection))
        connection_file.chmod(0o644)
        argv = [
            part.replace("{connection_file}", str(connection_file)).replace("{resource_dir}", self.spec["resource_dir"])
            for part in self.spec["argv"]
        ]
        self._spawner = spawner
        self._connect()
        self._give_up_at = time.monotonic() + START_TIMEOUT_S
        spawner.spawn(
            {
                "fork": self.spec.get("fork"),
                "argv": argv,
                "connection_file": str(connection_file),
                "env": {**self.spec.get("env", {}), **env},
                "cwd": cwd,
                "tag": tag,
            },
            self._spawned,
            self.exited,
        )

    def fail(self, message: str) -> None:
        """It could not be started. on_death is called from the loop, as for every other end."""
        self._death = Death("start_failed", message=message)
        self._loop.call_later(0, lambda: self._die(self._death or Death("start_failed")))

    def adopt(self, spawner: Spawner, pid: int, log_fd: int, *, was_ready: bool) -> None:
        """Takes over a running kernel from a host that died, or that went to sleep when it was ready."""
        self._spawner = spawner
        self._was_ready = was_ready
        self._connect()
        self._give_up_at = math.inf  # it may be busy for hours before it answers
        self._spawned(pid, [log_fd])

    def _spawned(self, pid: int, fds: list[int]) -> None:
        if pid <= 0:
            message = f"the kernel could not be started: {os.strerror(-pid) if pid else 'no process'}"
            self._die(Death("start_failed", message=message, limit="processes" if -pid == errno.EAGAIN else None))
            return
        self.pid = pid
        (log_fd,) = fds
        os.set_blocking(log_fd, False)
        self._log_fd = log_fd
        self._loop.add_reader(log_fd, self._read_log)
        if self._death is not None:
            self.kill()
            return
        self._nudge()

    def _connect(self) -> None:
        # A forked kernel listens after some 10 ms; others take longer, and are asked less and less often.
        most_s = _RETRY_S if self.spec.get("fork") else _RETRY_MOST_S
        for channel in CHANNELS:
            kind, identity = (b"SUB", b"") if channel == "iopub" else (b"DEALER", self.wire.session.encode())
            received = functools.partial(self._receive, channel)
            self._peers[channel] = Peer(self._loop, self._address(channel), kind, identity, received, retry_s=_RETRY_S, retry_most_s=most_s)

    def listen(self, wanted: bool) -> None:
        """Reads what the kernel sends, or leaves it in the sockets for now."""
        for peer in self._peers.values():
            peer.listen(wanted)

    def _address(self, channel: str) -> Address:
        ip, port = self.connection["ip"], self.connection[f"{channel}_port"]
        return (ip, port) if self.connection["transport"] == "tcp" else f"{ip}-{port}".replace("@", "\0", 1)

    def _nudge(self) -> None:
        """Asks until the kernel has answered and been heard on iopub: a subscription joins late, and what was published before is lost."""
        if self.dead or self.ready:
            return
        if time.monotonic() > self._give_up_at:
            self._death = Death("start_failed", message=f"the kernel did not answer within {START_TIMEOUT_S:g} s{self._log_tail()}")
            self.kill()
            return
        if not self._nudges or self._replied:
            self._replied = False
            self._nudges.add(self._send("shell", "kernel_info_request", {}, tag="~nudge"))
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(_NUDGE_S, self._nudge)

    # -- messages --

    def _send(
        self,
        channel: str,
        msg_type: str,
        content: dict[str, Any],
        *,
        tag: str,
        metadata: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
    ) -> str:
        # Our own tags begin with "~", which no execution's id may have.
        msg_id = self.wire.new_id(tag)
        frames = self.wire.encode(msg_type, content, msg_id=msg_id, metadata=metadata, parent_header=parent)
        self._peers[channel].send(frames)
        return msg_id

    def execute(self, execution_id: str, code: str, *, allow_stdin: bool, env: dict[str, str]) -> str:
        """Sends an execute_request. Its message id names the execution."""
        content = _cell(code, silent=False, allow_stdin=allow_stdin)
        return self._send("shell", "execute_request", content, tag=execution_id, metadata={"kernelgate": {"env": env}} if env else None)

    def relay(self, channel: str, parts: list[bytes]) -> None:
        """Sends a frontend's message in its own words, signed here."""
        self._peers[channel].send(self.wire.seal(parts))

    def input_reply(self, value: str, request: dict[str, Any]) -> None:
        self._send("stdin", "input_reply", {"value": value, "status": "ok"}, tag="~stdin", parent=request)

    def ask(
        self,
        msg_type: str,
        content: dict[str, Any],
        answer: Callable[[dict[str, Any]], None],
        *,
        tag: str = "~ask",
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """A request on the shell channel whose reply's content goes to `answer`; `forget` it when it is no longer wanted."""
        msg_id = self._send("shell", msg_type, content, tag=tag, metadata=metadata)
        self._waiting[msg_id] = answer
        return msg_id

    def warm_up(self, code: str, answer: Callable[[], None]) -> None:
        """Runs a cell that nobody sees, before the first one of a caller (docs/kernels.md)."""
        content = _cell(code, silent=True, allow_stdin=False)
        self.ask("execute_request", content, lambda _: answer(), tag=_WARM_UP, metadata={"kernelgate": {"warm": True}})

    def ask_after_cells(self, answer: Callable[[], None]) -> None:
        """Calls `answer` when the cells that it was sent until now have ended: an empty one comes after them, also where other requests do not."""
        self.ask("execute_request", _cell("", silent=True, allow_stdin=False), lambda _: answer(), tag="~after")

    def is_of_warm_up(self, message: Message) -> bool:
        """Whether a message comes from that cell; its output may come after its reply, and must not be taken for a caller's."""
        return message.parent_id.startswith(f"{self.wire.session}:{_WARM_UP}:")

    def forget(self, msg_id: str) -> None:
        self._waiting.pop(msg_id, None)

    def execution_of(self, parent_id: str) -> str | None:
        """The execution that a parent message id belongs to, if it is one of this kernel's client."""
        session, _, rest = parent_id.partition(":")
        if session != self.wire.session:
            return None
        name, _, _ = rest.rpartition(":")
        return name if name and not name.startswith("~") else None

    def _receive(self, channel: str, frames: list[bytes]) -> None:
        if self.dead:
            return
        try:
            message = self.wire.decode(frames)
        except RemoteProtocolError as exc:
            log.warning("kernel %s: %s", self.name, exc.detail)
            return
        self._dispatch(channel, message)

    def _dispatch(self, channel: str, message: Message) -> None:
        if channel == "iopub":
            if message.msg_type == "kernelgate_held":
                on_held, self._on_held = self._on_held, None
                if on_held is not None:
                    on_held()
                return
            if message.msg_type == "status":
                self.execution_state = str(message.content.get("execution_state"))
            if not self.ready and message.parent_id in self._nudges:
                self._heard = True
                self._check_ready()
                return
        elif channel == "shell":
            if message.parent_id in self._nudges:
                self._replied = True
                self._check_ready()
                if not self.ready:
                    # The status of this request was published before the subscription got through: ask again at once.
                    self._loop.call_later(_ASK_AGAIN_S, self._nudge)
                return
            answer = self._waiting.pop(message.parent_id, None)
            if answer is not None:
                answer(message.content)
                return
        self._on_message(channel, message)

    def _check_ready(self) -> None:
        if self._replied and self._heard and not self.ready and self._death is None:
            self.ready = self._was_ready = True
            if self._timer:
                self._timer.cancel()
            self._on_ready()

    # -- control --

    def interrupt(self) -> None:
        """Asks the kernel to stop what it runs, the way its kernelspec says."""
        if self.dead or self.pid is None:
            return
        if self.spec.get("interrupt_mode") == "message":
            self._send("control", "interrupt_request", {}, tag="~interrupt")
            return
        assert self._spawner is not None
        self._spawner.signal(self.pid, signal.SIGINT)
        # ipykernel waiting in `await` notices the signal only at the next message on the shell channel.
        self._send("shell", "kernel_info_request", {}, tag="~interrupt")

    @property
    def is_quiet(self) -> bool:
        """Whether it is idle and nothing is asked of it."""
        return (
            self.ready
            and not self.dead
            and self.execution_state == "idle"
            and not self._waiting
            and self._death is None
            and self._on_held is None
        )

    def hold(self, then: Callable[[], None]) -> None:
        """Lets the kernel keep what it publishes from now on, for the next host; `then`, when all that it published before was read (docs/kernels.md)."""
        self._on_held = then
        self._send("control", "kernelgate_hold_request", {}, tag="~hold")

    def listen_again(self) -> None:
        """After `hold`: a new subscription, with which what was kept comes. Not before the kernel holds it: what it publishes between two subscriptions is lost."""
        if self._on_held is not None:
            self._on_held = self.listen_again
        elif self._peers:
            self._peers["iopub"].subscribe_anew()

    def kill(self, death: Death | None = None) -> None:
        """Ends the process and its group at once. `death` is what on_death will say."""
        self._death = self._death or death
        self.ready = False  # what comes from now on is for its successor
        if self.pid is None or self.dead:
            return
        assert self._spawner is not None
        self._spawner.signal(self.pid, signal.SIGKILL)

    def leaving(self) -> None:
        """It has said that it ends by itself; what comes from now on is for its successor."""
        self.ready = False
        self._nudges.clear()
        self._loop.call_later(LEAVE_S, lambda: self.kill(Death("exited", message="the kernel was told to exit, did not, and was ended")))

    def exited(self, status: int, oom: bool) -> None:
        """The process is gone. What it had sent is read first."""
        if self._death is None or self._death.reason == "start_failed":
            self._death = self._death or self._explain(status, oom, swept=self._was_swept())
        death = self._death
        self.ready = False
        until = time.monotonic() + DRAIN_S
        self._loop.call_later(0, lambda: self._drain(death, until))

    def _drain(self, death: Death, until: float) -> None:
        """Reads on until nobody is at the other end any more."""
        for peer in self._peers.values():
            peer.read_all()
        if time.monotonic() < until and any(peer.connected for peer in self._peers.values()):
            self._loop.call_later(_DRAIN_AGAIN_S, lambda: self._drain(death, until))
        else:
            self._die(death)

    def _was_swept(self) -> bool:
        return self._spawner is not None and self._spawner.swept

    def _explain(self, status: int, oom: bool, *, swept: bool) -> Death:
        if oom:
            message = "the kernel was ended because the session used more memory than it may"
            return Death("out_of_memory", signal="SIGKILL", message=message, limit="memory")
        if swept:
            return FULL
        where = "" if self._was_ready else " before it was ready"
        tail = "" if self._was_ready else self._log_tail()
        reason = "exited" if status >= 0 else "signalled"
        if not self._was_ready:
            reason = "start_failed"
        if status >= 0:
            return Death(reason, exit_code=status, message=f"the kernel exited with status {status}{where}{tail}")
        name = _signal_name(-status)
        return Death(reason, signal=name, message=f"the kernel was ended by {name}{where}{tail}")

    def _die(self, death: Death) -> None:
        if self.dead:
            return
        self.dead = True
        self.execution_state = "dead"
        self.close()
        for answer in list(self._waiting.values()):
            answer({"status": "error", "ename": "KernelDied", "evalue": death.message})
        self._waiting.clear()
        self._on_death(death)

    def close(self) -> None:
        """Lets go of the sockets; the process is not touched."""
        if self._timer:
            self._timer.cancel()
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        if self._log_fd is not None:
            self._read_log()
        if self._log_fd is not None:
            self._loop.remove_reader(self._log_fd)
            os.close(self._log_fd)
            self._log_fd = None

    # -- what it says on its own stdout and stderr: kept for when it cannot start --

    def _read_log(self) -> None:
        assert self._log_fd is not None
        try:
            data = os.read(self._log_fd, 64 * 1024)
        except BlockingIOError:
            return
        if data:
            self._log.append(data[-_LOG_BYTES:])
        else:
            self._loop.remove_reader(self._log_fd)
            os.close(self._log_fd)
            self._log_fd = None

    def _log_tail(self) -> str:
        if self._log_fd is not None:
            self._read_log()
        text = b"".join(self._log)[-2048:].decode("utf-8", "replace").strip()
        return f"; it said: {text}" if text else ""


def _cell(code: str, *, silent: bool, allow_stdin: bool) -> dict[str, Any]:
    """The content of an execute_request. A silent one is not kept in the history."""
    return {
        "code": code, "silent": silent, "store_history": not silent, "user_expressions": {}, "allow_stdin": allow_stdin, "stop_on_error": False,
    }  # fmt: skip


def new_connection(spec: dict[str, Any], *, number: int, isolated: bool, directory: Path, name: str) -> dict[str, Any]:
    """What goes into a connection file.

    Kernels that can have unix sockets. In a sandbox these are abstract ones, which belong to its network namespace, so that the kernel's user and the host's need no directory together; the others have five
    ports of the sandbox's own loopback. Nothing can collide there, nor be reached from outside. Without a sandbox they are sockets in a directory, or ports that are free now.
    """
    base: dict[str, Any] = {"key": secrets.token_hex(32), "signature_scheme": "hmac-sha256", "kernel_name": spec.get("language", "")}
    ports = [f"{channel}_port" for channel in ("shell", "iopub", "stdin", "control", "hb")]
    if spec.get("transport") == "ipc":
        prefix = f"@{name}" if isolated else str(directory / name)
        return {**base, "transport": "ipc", "ip": prefix, **{port: i + 1 for i, port in enumerate(ports)}}
    if isolated:
        first = FIRST_PORT + (number * 5) % 4500
        return {**base, "transport": "tcp", "ip": "127.0.0.1", **{port: first + i for i, port in enumerate(ports)}}
    return {**base, "transport": "tcp", "ip": "127.0.0.1", **dict(zip(ports, _free_ports(5), strict=True))}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
