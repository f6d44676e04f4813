"""Notebook frontends: what they send goes to their kernel, and what the kernel says goes into a log from which each of them is served.

A context has a *relay* once a frontend was attached to it; until then nothing here costs anything. From then on every message of the kernel on iopub, and every reply to a
frontend, is written to the context's frame log (link/framelog.py) as it came, before it is sent on. A *client* is a frontend by the name it gives itself (the session_id of
Jupyter's WebSocket), attached or away: one that comes back goes on where it was.

Cells do not go past the others: an execute_request becomes an execution of the context, in the same queue, with the same record. It is sent to the kernel in the
frontend's own words, so that what the kernel answers has the frontend's message as its parent. What a client sends after a cell of its own that still waits, waits behind it. As a kernel does
with its own queue, a cell that fails takes those of its client that wait with it (`stop_on_error`): they are answered `aborted`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelgate import ids
from kernelgate.errors import KernelgateError, RemoteProtocolError
from kernelgate.link import framelog
from kernelgate.link.framelog import FrameLog
from kernelgate.protocol import frontend
from kernelgate.protocol.execution import Death
from kernelgate.protocol.jupyter import Message
from kernelgate.protocol.result import timestamp

if TYPE_CHECKING:
    from kernelgate.host.context import Context, Job
    from kernelgate.host.server import Connection, Request, Upload
    from kernelgate.host.session import SessionHost

log = logging.getLogger(__name__)

#: A context's frame log, and those of a session together where its journal has no limit; the oldest messages are let go of beyond it.
LOG_BYTES, ALL_LOGS_BYTES = 256 * 1024 * 1024, 1024 * 1024 * 1024
#: Messages whose replies may still come, and clients that may come back.
_REMEMBERED = 4096
#: What clients sent while the kernel was not ready; they are read on when it is.
_HELD_BYTES = 64 * 1024 * 1024
#: One message to frontends; the gateway holds it whole.
MESSAGE_BYTES = 64 * 1024 * 1024
#: A kernel that dies again and again is not started for its frontends any more.
_RESTARTS, _RESTARTS_WITHIN_S = 5, 60.0


@dataclass(slots=True)
class Origin:
    """A frontend's execute_request: its parts as they are sent to the kernel, and what must be known to answer in the kernel's stead."""

    client: str
    msg_id: str
    header: bytes
    parts: list[bytes]
    stop_on_error: bool
    beside: bool  # for a subshell: it does not wait for the others

    def with_env(self, env: dict[str, str]) -> list[bytes]:
        """The parts to send, with variables for this execution where there are any."""
        if not env:
            return self.parts
        metadata = {**json.loads(self.parts[2]), "kernelgate": {"env": env}}
        return [*self.parts[:2], json.dumps(metadata).encode(), *self.parts[3:]]

    def spooled(self) -> dict[str, Any]:
        return {
            "client": self.client, "msg_id": self.msg_id, "header": self.header.decode(), "stop_on_error": self.stop_on_error, "beside": self.beside,
            "parts": [base64.b64encode(part).decode() for part in self.parts],
        }  # fmt: skip

    @classmethod
    def of_spooled(cls, spooled: dict[str, Any]) -> Origin:
        parts = [base64.b64decode(part) for part in spooled["parts"]]
        return cls(spooled["client"], spooled["msg_id"], spooled["header"].encode(), parts, spooled["stop_on_error"], spooled["beside"])


@dataclass(slots=True)
class _Away:
    """A client that left: how far it had come, and under which names it is also served."""

    at: int
    names: list[str] = field(default_factory=list)
    inherited: bool = False  # what it left behind was given to another


class Relay:
    """Between one context and its frontends."""

    def __init__(self, frontends: Frontends, context: Context) -> None:
        self.context, self._host, self._frontends = context, frontends.host, frontends
        self.log = FrameLog(frontends.path(context.id), limit_bytes=LOG_BYTES)
        self.clients: list[Client] = []
        self._away: OrderedDict[str, _Away] = OrderedDict()
        for note in self.log.notes:
            self._away[note.client] = _Away(**json.loads(note.data))
        self._senders: OrderedDict[str, str] = OrderedDict()
        self._requests: OrderedDict[str, str] = OrderedDict()
        self._last_for: OrderedDict[str, int] = OrderedDict()
        self._held: deque[tuple[str, list[bytes]]] = deque()
        self._held_bytes = 0
        self._restarts: deque[float] = deque(maxlen=_RESTARTS)
        self.restarting = self.closed = False

    def recover(self, job: Job) -> None:
        """An execution that a dead host had taken from a frontend."""
        if job.origin is not None:
            _remember(self._requests, job.origin.msg_id, job.execution.id)
            _remember(self._senders, job.origin.msg_id, job.origin.client)

    # -- from frontends --

    def take(self, client: Client, channel: str, parts: list[bytes]) -> None:
        """A message of a frontend. What is none is dropped with a line in the log, as Jupyter's servers do."""
        try:
            msg_id, msg_type = frontend.check(parts)
        except RemoteProtocolError as exc:
            log.warning("a frontend's message was dropped: %s", exc.detail)
            return
        _remember(self._senders, msg_id, client.name)
        self._host.last_activity = time.time()
        self.context.used = True
        if channel == "shell" and msg_type == "execute_request":
            self._execute(client, msg_id, parts)
        elif channel == "control" and msg_type == "interrupt_request":
            self.context.interrupt(escalate=False)
            self.say("control", "interrupt_reply", {"status": "ok"}, parent=parts[0], client=client.name)
        elif channel in frontend.CHANNELS:
            if channel == "stdin":
                self.context.input_answered()
            self._forward(client, channel, parts)

    def _forward(self, client: Client, channel: str, parts: list[bytes]) -> None:
        """To the kernel, but not past the cells of the same client that wait."""
        before = None
        if channel == "shell" and self.context.queue and not json.loads(parts[0]).get("subshell_id"):
            before = next(
                (job for job in reversed(self.context.queue) if job.origin is not None and job.origin.client == client.name), None
            )
        if before is not None:
            before.followers.append(parts)
        else:
            self._send(channel, parts)

    def _send(self, channel: str, parts: list[bytes]) -> None:
        kernel = self.context.kernel
        if kernel is not None and kernel.ready:
            kernel.relay(channel, parts)
            return
        self._held.append((channel, parts))
        self._held_bytes += sum(map(len, parts))
        self.context.start()

    @property
    def blocked(self) -> bool:
        """Whether frontends must wait before more is taken from them."""
        return self._held_bytes > _HELD_BYTES

    def _execute(self, client: Client, msg_id: str, parts: list[bytes]) -> None:
        """Makes an execution of a frontend's request, or answers why not."""
        header, content = json.loads(parts[0]), json.loads(parts[3])
        code = content.get("code")
        if not isinstance(code, str):
            self._answer_error(parts[0], client.name, "InvalidRequest", "execute_request needs `code`, a text")
            return
        silent = bool(content.get("silent"))
        stop_on_error = bool(content.get("stop_on_error", True)) and not silent
        # The queue is ours, and so is what becomes of it: a kernel that empties its own would take others' cells with it.
        content["stop_on_error"] = False
        sent = [*parts[:3], json.dumps(content).encode(), *parts[4:]]
        origin = Origin(client.name, msg_id, parts[0], sent, stop_on_error, beside=bool(header.get("subshell_id")))
        execution_id = ids.new_execution_id()
        spooled = {
            "execution_id": execution_id, "context_tag": self.context.tag(), "code": code, "env": {}, "allow_stdin": bool(content.get("allow_stdin")), "ansi": False,
            **client.limits, "origin": origin.spooled(), "hidden": silent or not content.get("store_history", True),
        }  # fmt: skip
        _remember(self._requests, msg_id, execution_id)
        try:
            self._host.accept(spooled, self.context, client.request_id)
        except (KernelgateError, OSError) as exc:
            detail = exc.detail if isinstance(exc, KernelgateError) else f"the session's disk cannot take it: {exc.strerror}"
            self._answer_error(parts[0], client.name, "CapacityExceeded", detail)

    # -- from the kernel --

    def execution_of(self, msg_id: str) -> str | None:
        return self._requests.get(msg_id)

    def knows(self, msg_id: str) -> bool:
        """Whether a frontend sent a message with this id."""
        return msg_id in self._senders

    def kernel_said(self, channel: str, message: Message) -> None:
        """Writes it to the log, but for what answers the host's own questions."""
        own = self.context.kernel is not None and message.parent_id.startswith(f"{self.context.kernel.wire.session}:")
        client = ""
        if channel == "iopub":
            if message.msg_type == "iopub_welcome" or (own and message.parent_id.split(":", 2)[1].startswith("~")):
                return
        elif own:
            return
        else:
            client = self._sender_of(message)
        size = sum(map(len, message.parts))
        if size > MESSAGE_BYTES:
            self._too_large(channel, message, size, client)
        else:
            self._append(client, frontend.encode(channel, message.parts))

    def _too_large(self, channel: str, message: Message, size: int, client: str) -> None:
        text = f"a message of {size} bytes ({message.msg_type[:50]}) was left out: one may have {MESSAGE_BYTES}"
        if channel == "iopub":
            self.say("iopub", "stream", {"name": "stderr", "text": f"[{text}]\n"}, parent=message.parts[1])
        else:
            error = {"status": "error", "ename": "MessageTooLarge", "evalue": text, "traceback": []}
            self.say(channel, message.msg_type, error, parent=message.parts[1], client=client)

    def _append(self, client: str, frame: bytes) -> None:
        seq = self.log.append(client, frame)
        if client:
            self._last_for[client] = seq
            self._last_for.move_to_end(client)
            while len(self._last_for) > _REMEMBERED:
                self._last_for.popitem(last=False)

    def _sender_of(self, message: Message) -> str:
        """Who gets a reply: the sender of the request; where that is forgotten, the client of that name; else all, of whom one knows the request."""
        sender = self._senders.get(message.parent_id)
        if sender is not None:
            return sender
        name = message.parent_header.get("session")
        return name if isinstance(name, str) and (name in self._away or any(client.name == name for client in self.clients)) else ""

    # -- in the kernel's stead --

    def say(self, channel: str, msg_type: str, content: dict[str, Any], *, parent: bytes = b"{}", client: str = "") -> None:
        header = {
            "msg_id": ids.new_request_id(), "msg_type": msg_type, "username": "kernelgate", "session": f"kg-{self.context.id}",
            "date": datetime.now(UTC).isoformat(), "version": "5.4",
        }  # fmt: skip
        self._append(client, frontend.encode(channel, [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]))

    def status(self, state: str, parent: bytes = b"{}") -> None:
        self.say("iopub", "status", {"execution_state": state}, parent=parent)

    def _answer_error(self, parent: bytes, client: str, name: str, value: str) -> None:
        """An execution's end, complete with everything that a frontend waits for."""
        error = {"ename": name, "evalue": value, "traceback": [f"{name}: {value}"]}
        self.status("busy", parent)
        self.say("iopub", "error", error, parent=parent)
        self.say("shell", "execute_reply", {"status": "error", "execution_count": 0, **error}, parent=parent, client=client)
        self.status("idle", parent)

    def lost(self, job: Job, death: Death) -> None:
        """The kernel is gone with this execution: its frontend gets the reply that the kernel owes."""
        if job.origin is not None:
            self._answer_error(job.origin.header, job.origin.client, "KernelDied", death.message)
            if not self.restarting:
                self.abort(job.origin.client)

    def cancelled(self, job: Job) -> None:
        """An execution that was never sent is over: its frontend gets the reply that a kernel would give, and what came after it goes on."""
        self.sent(job)
        if job.origin is None:
            return
        parent, client = job.origin.header, job.origin.client
        self.status("busy", parent)
        self.say("shell", "execute_reply", {"status": "aborted"}, parent=parent, client=client)
        self.status("idle", parent)

    def abort(self, client: str | None = None) -> None:
        """Takes what waits of one client, or of all frontends, out of the queue."""
        for job in [job for job in self.context.queue if job.origin is not None and client in (None, job.origin.client)]:
            self.context.cancel(job.execution.id)

    # -- the kernel's life --

    def restart(self) -> None:
        """It was asked for: what waits is for the kernel that goes."""
        self.restarting = True
        self.abort()

    def sent(self, job: Job) -> None:
        """A cell went to the kernel, or will not: what came after it follows."""
        followers, job.followers = job.followers, []
        for parts in followers:
            self._send("shell", parts)

    def kernel_ready(self) -> None:
        held, self._held, self._held_bytes = self._held, deque(), 0
        self.status("idle")
        for channel, parts in held:
            self._send(channel, parts)
        for client in list(self.clients):
            client.read_on()

    def kernel_gone(self, death: Death) -> bool:
        """Tells the frontends. Returns whether a new kernel should be started for them."""
        if death.reason != "restarted":
            self.abort()  # what was sent for the old one; where it was ended on purpose, what waits now came later
        if self.closed:
            return False
        failed, now = death.reason == "start_failed", time.monotonic()
        starts = self.context.wanted and not failed
        tired = len(self._restarts) == _RESTARTS and now - self._restarts[0] < _RESTARTS_WITHIN_S
        if not starts and not failed and self.clients and not tired:
            self._restarts.append(now)
            starts = True
        if not starts:
            self._held.clear()
            self._held_bytes = 0
        # Asked for, it is no accident that a frontend should warn of; `restarting` is what it takes for one.
        self.status("starting" if self.restarting else "restarting" if starts else "dead")
        self.restarting = False
        return starts

    # -- clients --

    def attach(self, client: Client, after: int | None) -> int:
        """Where a client begins. A gateway that knows says it (`after`); else a known one goes on where it was, and a new one takes the place of one that left answers behind."""
        for other in [other for other in self.clients if other.name == client.name]:
            other.replaced()
        self.clients.append(client)
        known = self._away.pop(client.name, None)
        if known is not None:
            client.names.update(known.names)
        if after is not None:
            return after
        if known is not None:
            return known.at
        for name, away in reversed(self._away.items()):
            waiting = any(job.origin is not None and job.origin.client == name for job in self.context.jobs())
            if not away.inherited and (waiting or self._last_for.get(name, 0) > away.at):
                client.names.update((name, *away.names))
                away.inherited = True
                return away.at
        return self.log.last_seq

    def detach(self, client: Client, at: int) -> None:
        self.clients.remove(client)
        if self.closed:
            if not self.clients:
                self.log.close()
            return
        away = _Away(at, sorted(client.names - {client.name}))
        _remember(self._away, client.name, away)
        self.log.append(client.name, json.dumps({"at": away.at, "names": away.names}).encode(), framelog.NOTE)

    def close(self) -> None:
        """The context is deleted."""
        self.abort()
        self.status("dead")
        self.closed = True
        with contextlib.suppress(OSError):
            self.log.flush()
        self.log.path.unlink(missing_ok=True)
        self._frontends.forget(self)
        if not self.clients:
            self.log.close()
        for client in list(self.clients):
            client.advance()


class Client:
    """A frontend that is attached: its connection to the gateway, both ways, and its place in the log."""

    def __init__(self, relay: Relay, request: Request, upload: Upload) -> None:
        fields = request.fields
        self.name: str = fields["client"]
        self.names = {"", self.name}
        self.limits: dict[str, Any] = fields["limits"]
        self.request_id: str = fields["request_id"]
        self._relay, self._upload = relay, upload
        self._connection: Connection = request.connection
        self._at = relay.attach(self, fields["after"])
        self._after = self._at
        self._offset = relay.log.offset_after(self._at)
        self._connection.cursor = self
        upload.on_piece = self.read_on
        self._connection.write({"attached": True, "at": self._at})

    def read_on(self) -> None:
        """Takes what the gateway sent: messages, how far the frontend has come (`at`), and at last that it has left (`end`)."""
        while not self._relay.blocked and (piece := self._upload.take()) is not None:
            fields, body = piece
            self._at = max(self._at, int(fields.get("at", 0))) if not fields.get("end") else int(fields["at"])
            if fields.get("end"):
                self._connection.finish({"end": True})
                self.closed()
                return
            if body:
                try:
                    channel, parts = frontend.decode(body)
                except RemoteProtocolError as exc:
                    log.error("the gateway sent nonsense: %s", exc.detail)
                    continue
                self._relay.take(self, channel, parts)

    def advance(self) -> None:
        """Sends what there is and the connection can take."""
        source, connection = self._relay.log, self._connection
        while connection.writable and connection.cursor is self:
            if self._offset >= source.size:
                if self._relay.closed:
                    connection.finish({"end": True, "deleted": True})
                    self.closed()
                return
            if self._offset < source.start:
                self._offset = source.start
                connection.write({"missed": True, "at": self._after})
                continue
            data = source.read(self._offset, source.size)
            self._offset += len(data)
            picked, last = [], self._after
            for start, end in framelog.bounds(data):
                (record,) = framelog.decode(data[start:end])
                last = record.seq
                if record.seq > self._after and record.kind == framelog.MESSAGE and record.client in self.names:
                    picked.append(data[start:end])
            self._after = max(self._after, last)
            if picked:
                connection.write({"at": self._after}, b"".join(picked))

    def replaced(self) -> None:
        """The same client is here on another connection: what this one has to say of its end would come too late."""
        self._connection.finish({"end": True})
        self.closed()

    def closed(self) -> None:
        """It has left, or its gateway has died: then all that was given to its socket counts as received."""
        if self in self._relay.clients:
            self._relay.detach(self, self._at)


class Frontends:
    """The part of a session's host that serves notebook frontends."""

    def __init__(self, host: SessionHost) -> None:
        self.host = host
        self.relays: dict[str, Relay] = {}

    def path(self, context_id: str) -> Path:
        return Path(self.host.config["journal"]).with_name(f"frontends-{context_id}")

    def recover(self) -> None:
        """After a host died: the relays of its contexts go on."""
        for context in self.host.contexts.values():
            if self.path(context.id).exists():
                self._relay(context)

    def flush(self) -> None:
        """Writes what kernels said and sends it on. Raises OSError."""
        for relay in list(self.relays.values()):
            if relay.log.flush():
                for client in list(relay.clients):
                    client.advance()

    def forget(self, relay: Relay) -> None:
        self.relays.pop(relay.context.id, None)
        relay.context.relay = None
        self._share()

    def _relay(self, context: Context) -> Relay:
        if context.relay is None:
            context.relay = self.relays[context.id] = Relay(self, context)
            self._share()
        return context.relay

    def _share(self) -> None:
        """All logs together have the room of one journal."""
        together = self.host.config["journal_bytes"] or ALL_LOGS_BYTES
        for relay in self.relays.values():
            relay.log.limit_bytes = min(LOG_BYTES, together // len(self.relays))

    # -- requests --

    def op_frontend_kernels(self, request: Request) -> None:
        """The contexts as Jupyter sees kernels: those that were used or asked for, else the one that is ready for first use."""
        shown = self.host.shown() or list(self.host.contexts.values())[:1]
        request.reply({"kernels": [self._describe(context) for context in shown]})

    def op_frontend_kernel(self, request: Request) -> None:
        request.reply(self._describe(self.host.find_context(request)))

    def op_frontend_ready(self, request: Request) -> None:
        """Answers when the kernel is ready for messages, or will not be."""
        context = self.host.find_context(request)
        context.used = True
        context.start(lambda _: request.reply({"language": context.language}))

    def op_frontend_start(self, request: Request) -> None:
        """The context for a new kernel, started and not taken for unused."""
        context = self.host.find_context(request)
        context.used = True
        context.start()
        request.reply(self._describe(context))

    def op_frontend_interrupt(self, request: Request) -> None:
        self.host.find_context(request).interrupt(escalate=False)
        request.reply({})

    def op_frontend_attach(self, request: Request) -> None:
        """A frontend's socket: its messages come in pieces, and the log's records go out, until one side ends it."""
        upload = request.connection.upload
        assert upload is not None
        context = self.host.find_context(request)
        context.used = True
        relay = self._relay(context)
        client = Client(relay, request, upload)
        context.start()
        client.advance()
        client.read_on()

    def _describe(self, context: Context) -> dict[str, Any]:
        described, kernel = context.describe(), context.kernel
        state = described["state"]
        if state == "idle" and kernel is not None and kernel.execution_state == "busy":
            state = "busy"  # with a comm, a question, a subshell
        elif state == "starting" and context.generation > 1:
            state = "restarting"
        return {
            "id": context.id, "language": context.language, "state": state, "last_activity": timestamp(max(self.host.last_activity, context.created_at)),
            "connections": len(context.relay.clients) if context.relay is not None else 0, "reason": context.death.message if context.death and state == "dead" else None,
        }  # fmt: skip


def _remember(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
