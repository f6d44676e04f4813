"""The session host: contexts, executions and the journal of one session, and the requests the gateway makes of it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from kernelgate import ids
from kernelgate.errors import (
    CapacityExceeded,
    ContextNotFound,
    ExecutionConflict,
    ExecutionNotFound,
    InvalidRequest,
    KernelgateError,
    KernelStartFailed,
    LocalProtocolError,
    NoSpace,
    NotWaitingForInput,
)
from kernelgate.host import channel
from kernelgate.host.context import Context, Job
from kernelgate.host.files import Files
from kernelgate.host.frontend import Frontends, Origin
from kernelgate.host.loop import Loop
from kernelgate.host.meter import Meter
from kernelgate.host.pressure import Pressure
from kernelgate.host.process import Commands
from kernelgate.host.processes import Processes
from kernelgate.host.server import Request, Server
from kernelgate.host.shell import Shells
from kernelgate.host.sleep import Sleep
from kernelgate.host.spool import Spool
from kernelgate.host.terminal import Terminals
from kernelgate.link.journal import Journal
from kernelgate.protocol import jsontext
from kernelgate.protocol.event import decode
from kernelgate.protocol.execution import Death, Execution, Limits
from kernelgate.protocol.jupyter import Message

log = logging.getLogger(__name__)

MAX_CONTEXTS = 64
#: How long a session keeps kernels that were started before it was asked for, and that it has not used.
UNUSED_KERNEL_S = 120.0
#: Ended executions that may still get late output, and displays that may still be updated.
_REMEMBERED = 1024
#: A full disk is tried again this often; meanwhile kernels are not read, so they wait and nothing is lost.
_RETRY_WRITE_S = 0.5
#: Who waits for an end is told after so long that it cannot be written.
_UNWRITTEN_S = 10.0


class InitClient:
    """The host's end of the socket to init: asks for processes and hears of their end."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._sock = sock
        self._number = 0
        self._spawned: dict[int, Callable[[int, list[int]], None]] = {}
        self._exits: dict[int, Callable[[int, bool], None]] = {}
        #: What the process used whose exit is being told, and whether it was ended because its processes filled the session.
        self.usage: dict[str, Any] | None = None
        self.swept = False
        self._asked: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._starting: dict[int, Callable[[int, bool], None]] = {}
        self._on_usage: Callable[[dict[str, Any]], None] | None = None
        loop.add_reader(sock.fileno(), self._read)

    def spawn(self, request: dict[str, Any], on_spawned: Callable[[int, list[int]], None], on_exit: Callable[[int, bool], None]) -> None:
        self._number += 1
        self._spawned[self._number] = on_spawned
        self._starting[self._number] = on_exit
        channel.send(self._sock, {"op": "spawn", "id": self._number, **request})

    def watch(self, pid: int, on_exit: Callable[[int, bool], None]) -> None:
        self._exits[pid] = on_exit

    def signal(self, pid: int, number: int) -> None:
        channel.send(self._sock, {"op": "signal", "pid": pid, "signal": int(number)})

    def close(self, pid: int, index: int) -> None:
        """Lets init close its copy of a process' descriptor (its place in what `spawn` gave), so that stdin can end."""
        channel.send(self._sock, {"op": "close", "pid": pid, "index": index})

    def forget(self, pid: int) -> None:
        """Lets init let go of a process that was spawned with `keep` and has ended."""
        channel.send(self._sock, {"op": "forget", "pid": pid})

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that was asked for is under way."""
        return not (self._spawned or self._asked)

    def _ask(self, request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        self._number += 1
        self._asked[self._number] = answer
        channel.send(self._sock, {"id": self._number, **request})

    def cpu(self, pid: int, on_told: Callable[[float], None]) -> None:
        """Asks for the processor time of a process and of all below it, in seconds."""
        self._ask({"op": "cpu", "pid": pid}, lambda said: on_told(said["cpu_s"]))

    def sweep(self, pid: int, since: int, on_swept: Callable[[bool], None]) -> None:
        """Lets init kill what a kernel or command has started since then (in clock ticks since boot) and left, because the session was full of processes.

        `on_swept` is told whether that made no room, because they are still there as children that the process does not wait for.
        """
        self._ask({"op": "sweep", "pid": pid, "since": since}, lambda said: on_swept(said["full"]))

    def limit(self, limits: dict[str, Any]) -> None:
        """The limits of processes that are started from now on."""
        channel.send(self._sock, {"op": "limits", "limits": limits})

    def ask_usage(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """What the session uses; one who asks at a time."""
        self._on_usage = answer
        channel.send(self._sock, {"op": "usage"})

    def shutdown(self) -> None:
        channel.send(self._sock, {"op": "shutdown"})

    def _read(self) -> None:
        message, fds = channel.receive(self._sock)
        if message is None:
            os._exit(0)  # init is gone, and with it the sandbox
        match message["event"]:
            case "spawned":
                pid, on_exit = message["pid"], self._starting.pop(message["id"])
                if pid > 0:
                    self._exits[pid] = on_exit
                self._spawned.pop(message["id"])(pid, fds)
            case "exited":
                on_exited = self._exits.pop(message["pid"], None)
                if on_exited:
                    self.usage, self.swept = message["usage"], message["swept"]
                    on_exited(message["status"], message["oom"])
            case "cpu" | "swept":
                if answer := self._asked.pop(message["id"], None):  # else it answers the host before this one
                    answer(message)
            case "usage":
                if self._on_usage is not None:
                    self._on_usage(message["usage"])
            case other:
                raise LocalProtocolError(f"unknown message {other!r}")


class SessionHost:
    """One session. `config` comes from the gateway through the zygote: session_id, isolated, base_env, cwd, directories."""

    def __init__(self, config: dict[str, Any], listener: socket.socket, init: socket.socket, pressure: Pressure) -> None:
        self.config, self.pressure = config, pressure
        self.loop = Loop()
        self.init = InitClient(self.loop, init)
        self.kernels_dir = Path(config["kernels_dir"])
        self.spool = Spool(Path(config["spool_dir"]))
        self.journal = Journal(Path(config["journal"]), limit_bytes=config["journal_bytes"])
        self.contexts: dict[str, Context] = {}
        self.jobs: dict[str, tuple[Context, Job]] = {}
        self.last_activity = time.time()
        self._late: OrderedDict[str, Execution] = OrderedDict()
        self._displays: OrderedDict[tuple[str, str], list[Execution]] = OrderedDict()
        self._kernel_number = 0
        self._retry_at = self._unwritten_since = 0.0
        self._listening = True
        self.files = Files(self)
        self.commands = Commands(self)
        state = self.spool.state()
        self.env: dict[str, str] = state.get("env", {})
        #: Contexts that were only made ready before anybody wanted them: they are not shown.
        self._unwanted: set[str] = set(state.get("unwanted", ()))
        self.terminals = Terminals(self)
        self.shells = Shells(self, state.get("shells", {}))
        self.frontends = Frontends(self)
        self.meter = Meter(self)
        self.sleep = Sleep(self)
        self._asleep: dict[str, Any] | None = state.get("asleep")
        #: What answers requests, by methods named `op_...`.
        self._parts: tuple[Any, ...] = (self, self.commands, Processes(self), self.shells, self.terminals, self.frontends, self.meter)
        self.server = Server(self.loop, listener, self.journal, self._handle)
        self.loop.before_wait = self.flush

    @property
    def last_activity(self) -> float:
        """When something was last asked of the session or ended in it (Unix seconds); how long ago that is, is measured by a clock that nobody sets."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, at: float) -> None:
        self._last_activity, self._active_at = at, time.monotonic()

    @property
    def idle_s(self) -> float:
        return time.monotonic() - self._active_at

    # -- events --

    def emit(self, execution_id: str | None, kind: str, fields: dict[str, Any]) -> None:
        self.journal.append(execution_id, kind, fields)

    def output(self, context: Context, execution: Execution, kind: str, fields: dict[str, Any]) -> None:
        """An event of an execution. An update of a display goes to every execution that showed it, as it does in a notebook."""
        if kind == "update":
            key = (context.id, fields["display_id"])
            for owner in self._displays.get(key, []):
                if owner is not execution:
                    self.emit(owner.id, kind, {**fields, "late": True} if owner.done else fields)
        elif kind == "result" and (display_id := fields.get("display_id")):
            owners = self._displays.setdefault((context.id, display_id), [])
            if execution not in owners:
                owners.append(execution)
            while len(self._displays) > _REMEMBERED:
                self._displays.popitem(last=False)
        self.emit(execution.id, kind, fields)

    def late(self, context: Context, execution_id: str, on: str, message: Message, now: float) -> None:
        """Output of an execution that has ended (or, after a host died, of one it no longer knows)."""
        execution = self._late.get(execution_id)
        if execution is None:
            if execution_id not in self.journal.spans:
                return
            execution = self._late[execution_id] = Execution(execution_id, context.id, done=True)
        for kind, fields in execution.message(on, message, now):
            self.output(context, execution, kind, fields)

    def done(self, job: Job) -> None:
        """Lets go of an execution that has ended; late output may still come."""
        self.jobs.pop(job.execution.id, None)
        self.spool.remove(job.execution.id)
        self._late[job.execution.id] = job.execution
        while len(self._late) > _REMEMBERED:
            self._late.popitem(last=False)
        self.last_activity = time.time()

    def flush(self) -> bool:
        """Writes the events there are, and moves on those who follow them. Whether they are all written."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            if self.journal.flush():
                self.meter.awake()
                self.server.advance()
            if self.frontends.relays:
                self.frontends.flush()
        except OSError as exc:
            now = time.monotonic()
            if self._listening:
                self._unwritten_since = now
                log.error("the journal cannot be written: %s", exc)
            self._retry_at = now + _RETRY_WRITE_S
            self.loop.call_later(_RETRY_WRITE_S, lambda: None)
            self._listen(False)
            if now > self._unwritten_since + _UNWRITTEN_S:
                self.server.give_up(
                    NoSpace(f"the session's journal cannot be written ({exc.strerror}); what runs waits, ask for it again later")
                )
            return False
        self._listen(True)
        return True

    def emit_or_refuse(self, execution_id: str, kind: str, fields: dict[str, Any]) -> None:
        """The first event of something: what cannot be written down does not happen. Raises NoSpace."""
        self.emit(execution_id, kind, fields)
        if not self.flush():
            self.journal.take_back()
            raise NoSpace("the session's journal cannot be written: nothing new is begun; make room and try again")

    def _listen(self, wanted: bool) -> None:
        """Whether kernels are read. While nothing can be written they are not: their messages wait in the sockets."""
        if wanted != self._listening:
            self._listening = wanted
            for context in self.contexts.values():
                if context.kernel is not None:
                    context.kernel.listen(wanted)
            self.commands.listen(wanted)

    def next_kernel_number(self) -> int:
        self._kernel_number += 1
        return self._kernel_number

    # -- taking over from a host that died or slept --

    def displays(self) -> list[tuple[str, str, list[str]]]:
        """Which executions showed which displays: (context, display, executions)."""
        return [(*key, [execution.id for execution in owners]) for key, owners in self._displays.items()]

    def restore(self, asleep: dict[str, Any]) -> None:
        """What the host before knew when it went to sleep. Once: a host that dies after this one takes over as from a dead one."""
        contexts = dict(self.contexts)
        self.contexts.clear()
        for facts in asleep["contexts"]:
            name = facts["tag"]["id"]
            context = self.contexts[name] = contexts.get(name) or Context(self, **facts["tag"])
            context.awake(facts)
        self.contexts.update(contexts)
        for context_id, display_id, names in asleep["displays"]:
            owners = [self._late.setdefault(name, Execution(name, context_id, done=True)) for name in names if name in self.journal.spans]
            self._displays[context_id, display_id] = owners
        self.meter.awake_with(asleep["meter"])
        self._last_activity, self._active_at = asleep["last_activity"], asleep["active_at"]
        with contextlib.suppress(OSError):
            self.save_state()

    def recover(self, children: list[dict[str, Any]]) -> None:
        """Continues the session of a host that died or slept: its kernels, the executions it had sent, the ones it had not."""
        asleep = self._asleep
        if asleep is None and not self.journal.size and not children:
            return
        self.sleep.begin()
        # New kernels get ports above those of the kernels that live.
        numbers = [child["tag"]["kernel"]["number"] for child in children if "kernel" in child["tag"]]
        self._kernel_number = max(numbers, default=0)
        for child in children:
            tag = child["tag"]
            if tag.get("kind") == "files":
                self.files.end(child)
            if "context" not in tag:
                continue
            context = self.contexts[tag["context"]["id"]] = Context(self, **tag["context"])
            context.adopt(tag["kernel"], child["pid"], child["fds"][0], was_ready=asleep is not None)
            assert context.kernel is not None
            if (told := child["ended"]) is None:
                self.init.watch(child["pid"], context.kernel.exited)
            else:
                self.init.usage, self.init.swept = told["usage"], told["swept"]
                context.kernel.exited(told["status"], told["oom"])
        if gone := self._unwanted - self.contexts.keys():
            self._unwanted -= gone
            self.save_state()
        self.terminals.recover([child for child in children if "terminal" in child["tag"]])
        self.commands.recover([child for child in children if "command" in child["tag"]])
        self.frontends.recover()
        for request, was_sent in self.spool.recover():
            execution_id = request["execution_id"]
            span = self.journal.spans.get(execution_id)
            if span is None or span.ended:
                self.spool.remove(execution_id)
                continue
            context = self.contexts.get(request["context_tag"]["id"]) or self._add_context(Context(self, **request["context_tag"]))
            job = self._job(request, context)
            self.jobs[execution_id] = (context, job)
            if context.relay is not None:
                context.relay.recover(job)
            if not was_sent:
                context.submit(job)
            else:
                self.emit(
                    execution_id, "gap", {"reason": "the session host was restarted while this ran; output of that moment may be missing"}
                )
                if job.artifacts is not None:
                    job.since_ns = self._queued_ns(execution_id)
                context.resume(job)
        if asleep is not None:
            self.sleep.wake(asleep)

    def _queued_ns(self, execution_id: str) -> int:
        """When an execution was queued. When it was sent its host took with it; so its artifacts may have more in them than it made, and lack none."""
        return next(int(event["time"] * 1e9) for event in self.journal.execution(execution_id) if event["type"] == "queued")

    # -- requests --

    def _handle(self, request: Request) -> None:
        """Answers a request, now or later. Errors of the closed set go back as such."""
        name = "op_" + str(request.fields.get("op"))
        operation = next((found for part in self._parts if (found := getattr(part, name, None))), None)
        if operation is None:
            raise InvalidRequest("unknown operation")
        operation(request)

    def op_hello(self, request: Request) -> None:
        """The session's state: what the gateway shows of it, and what culling needs."""
        request.reply({
            "session_id": self.config["session_id"],
            "contexts": [context.describe() for context in self.shown()],
            "executing": len(self.jobs) + self.commands.running(),
            "idle_s": self.idle_s,
            "last_seq": self.journal.last_seq,
            "env_names": sorted(self.env),
        })  # fmt: skip

    def op_configure(self, request: Request) -> None:
        """Makes a ready host somebody's session: its environment, its limits, and the contexts to warm.

        `limits` are those of single processes, `specs` what the kernels of the languages that are warm are started with under these: a kernel that was started with others starts anew.
        """
        limits = request.fields["limits"]
        if limits is not None:
            self.init.limit(limits)
        specs = {spec["language"]: spec for spec in request.fields["specs"]}
        for context in self.contexts.values():
            spec = specs.get(context.language, context.spec)
            if spec != context.spec or (limits is not None and context.kernel is not None):
                context.spec = spec
                if context.kernel is not None:
                    context.kernel.kill(Death("restarted", message="the session was given its limits"))
        self.env = dict(request.fields["env"])
        self.save_state()
        self.last_activity = time.time()
        if self.env:
            # A kernel that was warmed before has been started without it.
            for context in self.contexts.values():
                if context.kernel is not None:
                    context.kernel.kill(Death("restarted", message="the session was given its environment"))
        for spec in request.fields["warm"]:
            self._default_context(spec).start()
        self.loop.call_later(UNUSED_KERNEL_S, self._release_unused)
        self.sleep.begin()
        self.op_hello(request)

    def save_state(self, asleep: dict[str, Any] | None = None) -> None:
        """Keeps what a new host must know and the journal must not. Raises OSError."""
        self.spool.put_state({"env": self.env, "shells": self.shells.known, "unwanted": sorted(self._unwanted), "asleep": asleep})

    def run_aside(self, argv: list[str]) -> None:
        """Runs a program as the session's user whose end and output nobody waits for."""
        request = {
            "fork": None, "argv": argv, "env": self.config["base_env"], "cwd": "/", "connection_file": "", "stdio": "log", "tag": {"kind": "aside"},
        }  # fmt: skip

        def spawned(_: int, fds: list[int]) -> None:
            for fd in fds:
                os.close(fd)

        self.init.spawn(request, spawned, lambda *_: None)

    def op_env(self, request: Request) -> None:
        request.reply({"env": self.env})

    def op_env_change(self, request: Request) -> None:
        """Sets and unsets variables of the session: for kernels and commands that start from now on, and for the next executions of kernels that run."""
        changed = {name: value for name, value in self.env.items() if not request.fields["clear"] and name not in request.fields["unset"]}
        changed.update(request.fields["set"])
        if sum(len(name.encode()) + len(value.encode()) + 2 for name, value in changed.items()) > request.fields["max_bytes"]:
            raise InvalidRequest(f"env: all variables together may have {request.fields['max_bytes']} bytes", code="invalid_env")
        self.env = changed
        self.save_state()
        request.reply({"env": self.env})

    def _release_unused(self) -> None:
        """Ends kernels that were started in the pool and that nobody has used: their memory is others'."""
        for context in self.contexts.values():
            if context.is_default and context.kernel is not None and not context.used:
                context.kernel.kill(Death("released", message="the kernel was not used"))

    def op_warm(self, request: Request) -> None:
        """Starts a language's default context and runs a cell in it that nobody sees; answers when the kernel is ready for the first of its caller.

        The context is shown from when its caller first names it or its language.
        """
        spec = request.fields["spec"]
        context = self.contexts.get(spec["language"])
        if context is None:
            context = self._make_default(spec)
            self._unwanted.add(context.id)
            self.save_state()

        def up(death: Death | None) -> None:
            if death is not None:
                request.fail(KernelStartFailed(death.message))
                return
            assert context.kernel is not None
            context.kernel.warm_up(spec["warm_code"], lambda: request.reply({}))

        context.start(up)

    def op_shutdown(self, request: Request) -> None:
        """Ends the session: every process in the sandbox is gone when init is."""
        for context in self.contexts.values():
            context.close()
        self.flush()
        request.reply({})
        self.loop.call_later(0.02, self.init.shutdown)

    def _default_context(self, spec: dict[str, Any]) -> Context:
        context = self.contexts.get(spec["language"])
        return self._make_default(spec) if context is None else self._want(context)

    def _make_default(self, spec: dict[str, Any]) -> Context:
        name = spec["language"]
        return self._add_context(
            Context(self, id=name, name=name, language=name, spec=spec, cwd=self.config["cwd"], env={}, is_default=True)
        )

    def _want(self, context: Context) -> Context:
        """A context that a caller has named. One that was made ready before is, to callers, made now. Raises InvalidRequest, OSError."""
        if context.id in self._unwanted:
            self._check_room()
            self._unwanted.discard(context.id)
            self.save_state()
            context.created_at = time.time()
            self.contexts[context.id] = self.contexts.pop(context.id)
        return context

    def shown(self) -> list[Context]:
        """The contexts that callers have made or named, oldest first."""
        return [context for context in self.contexts.values() if context.id not in self._unwanted]

    def _add_context(self, context: Context) -> Context:
        self._check_room()
        self.contexts[context.id] = context
        return context

    def _check_room(self) -> None:
        if len(self.shown()) >= MAX_CONTEXTS:
            raise InvalidRequest(f"a session can have {MAX_CONTEXTS} contexts; delete one first", code="too_many_contexts")

    def find_context(self, request: Request) -> Context:
        """The context a request names, or the default one of its language."""
        name = request.fields.get("context")
        if name is None:
            return self._default_context(request.fields["spec"])
        context = self.contexts.get(name)
        if context is None:
            if "spec" in request.fields and request.fields["spec"]["language"] == name:
                return self._default_context(request.fields["spec"])
            has = ", ".join(context.id for context in self.shown()) or "none"
            raise ContextNotFound(f"there is no context {name!r} in this session; it has: {has}")
        return self._want(context)

    def op_contexts(self, request: Request) -> None:
        request.reply({"contexts": [context.describe() for context in self.shown()]})

    def op_context(self, request: Request) -> None:
        request.reply(self.find_context(request).describe())

    def op_context_create(self, request: Request) -> None:
        fields = request.fields
        context = Context(
            self, id=ids.new_context_id(), name=fields["name"] or "", language=fields["spec"]["language"], spec=fields["spec"],
            cwd=self.resolve_cwd(fields["cwd"]), env=fields["env"], is_default=False,
        )  # fmt: skip
        self._add_context(context)
        context.start()
        request.reply(context.describe())

    def resolve_cwd(self, cwd: str | None) -> str:
        """A directory as callers give it: relative to the workspace, or none for that."""
        root = self.config["cwd"]
        return root if cwd is None else os.path.normpath(os.path.join(root, cwd))

    def op_context_delete(self, request: Request) -> None:
        context = self.find_context(request)
        context.close()
        del self.contexts[context.id]
        request.reply({})

    def op_context_restart(self, request: Request) -> None:
        context = self.find_context(request)

        def up(death: Death | None) -> None:
            request.fail(KernelStartFailed(death.message)) if death else request.reply(context.describe())

        context.restart(up)

    def op_interrupt(self, request: Request) -> None:
        """Interrupts one context, or all of them."""
        contexts = list(self.contexts.values()) if request.fields.get("context") is None else [self.find_context(request)]
        request.reply({"interrupted": [execution_id for context in contexts for execution_id in context.interrupt()]})

    def op_ask(self, request: Request) -> None:
        """complete, inspect, is_complete: a question to the kernel of a context."""

        def answer(reply: dict[str, Any] | Exception) -> None:
            if isinstance(reply, KernelgateError):
                request.fail(reply)
            else:
                assert isinstance(reply, dict)
                request.reply(reply)

        self.find_context(request).ask(request.fields["msg_type"], request.fields["content"], answer)

    def op_execute(self, request: Request) -> None:
        """Starts an execution, or re-attaches to the one with this id. Then answers as `mode` says: accept, result or stream."""
        fields = request.fields
        execution_id = fields["execution_id"]
        if execution_id in self.jobs or execution_id in self.journal.spans:
            self._same(execution_id, fields)
            self._attach(request, execution_id)
            return
        if execution_id in self.journal.dropped:
            raise ExecutionConflict(f"execution {execution_id!r} has run, and its record was let go of to make room; choose another id")
        context = self.find_context(request)
        limits = fields["limits"]
        spooled = {
            "execution_id": execution_id, "context_tag": context.tag(), "code": fields["code"], "env": fields["env"], "allow_stdin": fields["allow_stdin"],
            "ansi": fields["ansi"], "timeout_s": fields["timeout_s"], "cpu_time_s": limits["cpu_time_s"], "output_bytes": limits["output_bytes"], "result_bytes": limits["result_bytes"],
            "artifacts": fields["artifacts"],
        }  # fmt: skip
        self.accept(spooled, context, fields["request_id"])
        self.flush()
        self._attach(request, execution_id)

    def accept(self, spooled: dict[str, Any], context: Context, request_id: str) -> None:
        """Makes an execution and queues it. Raises CapacityExceeded, NoSpace."""
        if self.journal.full:
            raise CapacityExceeded(
                "the session's journal is full: what runs keeps older records from being let go of; let it end, or cancel it"
            )
        execution_id = spooled["execution_id"]
        job = self._job(spooled, context)
        position = context.ahead()
        self.spool.put(execution_id, spooled)
        self.last_activity = time.time()
        queued = {
            "context_id": context.id,
            "language": context.language,
            "code": spooled["code"],
            "position": position,
            "request_id": request_id,
            "session_id": self.config["session_id"],
            "timeout_s": spooled["timeout_s"],
        }
        if spooled.get("hidden"):
            queued["hidden"] = True
        try:
            self.emit_or_refuse(execution_id, "queued", queued)
        except NoSpace:
            self.spool.remove(execution_id)
            raise
        try:
            context.submit(job)
        except KernelgateError:
            self.emit(
                execution_id,
                "end",
                {
                    "status": "cancelled",
                    "success": False,
                    "execution_count": None,
                    "execution_time": 0.0,
                    "truncated": None,
                    "timeout": None,
                    "death": None,
                    "limit": None,
                },
            )
            self.spool.remove(execution_id)
            raise

    def _job(self, spooled: dict[str, Any], context: Context) -> Job:
        execution = Execution(
            spooled["execution_id"],
            context.id,
            limits=Limits(spooled["output_bytes"], spooled["result_bytes"]),
            ansi=spooled["ansi"],
            timeout_s=spooled["timeout_s"],
            cpu_time_s=spooled.get("cpu_time_s"),
        )
        origin = Origin.of_spooled(spooled["origin"]) if spooled.get("origin") else None
        return Job(execution, spooled["code"], spooled["env"], spooled["allow_stdin"], origin=origin, artifacts=spooled.get("artifacts"))

    def _same(self, execution_id: str, fields: dict[str, Any]) -> None:
        self.flush()
        span = self.journal.spans.get(execution_id)
        if span is None or execution_id in self.commands.live:
            raise ExecutionConflict(f"{execution_id!r} is being started, or is a command; choose another id")
        first = decode(self.journal.read(span.start, span.end).split(b"\n", 1)[0])
        wanted = fields.get("context") or fields["spec"]["language"]
        if first.get("code") != fields["code"] or first.get("context_id") != wanted:
            raise ExecutionConflict(f"execution {execution_id!r} exists already, with other code or in another context; choose another id")

    def _attach(self, request: Request, execution_id: str) -> None:
        mode = request.fields["mode"]
        self.flush()  # an end of this turn of the loop is not in the journal yet, and its job is gone already
        if mode == "stream":
            self.server.stream(request, execution_id, request.fields.get("after") or 0)
        elif mode == "result" and (execution_id in self.jobs or not (self._listening or self.journal.spans[execution_id].ended)):
            self.server.when_ended(execution_id, request, lambda: self._reply_result(request, execution_id))
        else:
            self._reply_result(request, execution_id)

    def _reply_result(self, request: Request, execution_id: str) -> None:
        request.reply({}, jsontext.dump(self.result(execution_id)))

    def result(self, execution_id: str) -> dict[str, Any]:
        """The result so far, from the journal."""
        result = self.journal.result(execution_id)
        known = self.jobs.get(execution_id)
        if known is not None:
            result["queue_position"] = known[0].position(execution_id)
        return result

    def _known(self, request: Request) -> str:
        execution_id = str(request.fields["execution_id"])
        if execution_id not in self.jobs and not self.journal.has(execution_id):
            raise ExecutionNotFound(f"there is no execution {execution_id!r} in this session")
        return execution_id

    def op_attach(self, request: Request) -> None:
        self._attach(request, self._known(request))

    def op_cancel(self, request: Request) -> None:
        execution_id = self._known(request)
        if execution_id in self.jobs:
            self.jobs[execution_id][0].cancel(execution_id)
            self.flush()
        self._reply_result(request, execution_id)

    def op_stdin(self, request: Request) -> None:
        execution_id = self._known(request)
        if execution_id not in self.jobs:
            raise NotWaitingForInput("this execution has ended, and waits for no input")
        context, job = self.jobs[execution_id]
        context.answer_input(job, request.fields["value"])
        request.reply({})

    def op_executions(self, request: Request) -> None:
        """Summaries, newest first, from before `before` (an execution id)."""
        names = self.journal.names()
        names.reverse()
        before = request.fields.get("before")
        if before is not None:
            names = names[names.index(before) + 1 :] if before in names else []
        page = names[: request.fields["limit"]]
        request.reply({"executions": [self._summary(name) for name in page], "more": len(names) > len(page)})

    def _summary(self, execution_id: str) -> dict[str, Any]:
        summary = self.journal.summary(execution_id)
        known = self.jobs.get(execution_id)
        return summary if known is None else {**summary, "queue_position": known[0].position(execution_id)}

    def op_files(self, request: Request) -> None:
        self.files.take(request)

    def op_events(self, request: Request) -> None:
        self.server.stream(request, None, request.fields.get("after") or 0)

    def op_history(self, request: Request) -> None:
        """Everything, once: the events up to now."""
        self.server.stream(request, None, 0, follow=False)


def run(
    config: dict[str, Any], listener: socket.socket, init: socket.socket, children: list[dict[str, Any]], pressure: Pressure
) -> NoReturn:
    """The host's process, forked from init. Never returns."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    # Not basicConfig: it visits every logger there is, which after a fork copies the page each of them is on.
    logging.root.handlers[:] = [handler]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = 1
    try:
        host = SessionHost(config, listener, init, pressure)
        host.recover(children)
        host.loop.run()
        status = 0
    except Exception:
        log.exception("the session host failed")
    finally:
        os._exit(status)
