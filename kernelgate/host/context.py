"""A context: a named kernel of a session, the queue before it, and what happens when it stops answering."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelgate.errors import CapacityExceeded, KernelStartFailed, KernelUnresponsive, NotWaitingForInput
from kernelgate.host import artifacts
from kernelgate.host.clock import CpuWatch, boot_ticks
from kernelgate.host.kernel import FULL, Kernel, new_connection
from kernelgate.host.pressure import Mark
from kernelgate.protocol.execution import Death, Emit, Execution
from kernelgate.protocol.jupyter import Message
from kernelgate.protocol.result import timestamp

if TYPE_CHECKING:
    from kernelgate.host.frontend import Origin, Relay
    from kernelgate.host.loop import Timer
    from kernelgate.host.session import SessionHost

log = logging.getLogger(__name__)

#: Executions waiting on one context; more are refused rather than kept.
MAX_QUEUED = 1000
#: What a kernel published before it answered may be read after the answer: they come by different sockets.
_SETTLE_S = 0.2
#: How long an interrupted kernel has to answer before it is restarted. Contracts say one second; a loaded machine gets more.
INTERRUPT_GRACE_S = 5.0
#: Some kernels lose a signal that comes at a bad moment (between two cells, in native code): it is sent again meanwhile.
INTERRUPT_AGAIN_S = 1.0
#: How long complete, inspect and is_complete may take; they queue behind a running cell.
ASK_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Job:
    """An execution with what is needed to start it; the code and the environment are let go of once it is sent."""

    execution: Execution
    code: str
    env: dict[str, str]
    allow_stdin: bool
    input_request: dict[str, Any] | None = None
    timers: list[Timer] = field(default_factory=list)
    #: How often limits had been met when it was sent, and when that was, in clock ticks since boot.
    mark: Mark | None = None
    #: The same at its end.
    now: Mark | None = None
    sent_ticks: int = 0
    cpu: CpuWatch | None = None
    #: The frontend's request that it was made of, and what frontends sent after it while it waited.
    origin: Origin | None = None
    followers: list[list[bytes]] = field(default_factory=list)
    #: What of its files is to be returned, and when it was sent, where something is.
    artifacts: dict[str, Any] | None = None
    since_ns: int | None = None


class Context:
    """One context. All its output goes through `SessionHost.emit`."""

    def __init__(
        self, host: SessionHost, *, id: str, name: str, language: str, spec: dict[str, Any], cwd: str, env: dict[str, str], is_default: bool
    ) -> None:
        self.host = host
        self.id, self.name, self.language, self.spec, self.cwd, self.env, self.is_default = id, name, language, spec, cwd, env, is_default
        self.created_at = time.time()
        self.generation = 0
        self.execution_count = 0
        self.kernel: Kernel | None = None
        self.death: Death | None = None
        self.queue: deque[Job] = deque()
        self.current: Job | None = None
        #: It has ended but for what it made, which is looked for.
        self._gathering: Job | None = None
        self.beside: dict[str, Job] = {}  # in subshells, which do not wait for the queue
        self.relay: Relay | None = None
        self.last_execution_id: str | None = None
        self.used = False
        self._env_at_start: dict[str, str] = {}
        self._fresh: str | None = None
        self._on_up: list[Callable[[Death | None], None]] = []
        self._sweeping = 0

    # -- the kernel's life --

    def describe(self) -> dict[str, Any]:
        kernel = self.kernel
        if kernel is None or kernel.dead:
            state = "dead"
        elif not kernel.ready:
            state = "starting"
        else:
            state = "busy" if self._is_busy else "idle"
        return {
            "id": self.id, "name": self.name, "language": self.language, "cwd": self.cwd, "is_default": self.is_default, "state": state,
            "execution_count": self.execution_count, "queued": len(self.queue), "created_at": timestamp(self.created_at), "generation": self.generation,
            "death": self.death.as_dict() if self.death and state == "dead" else None,
        }  # fmt: skip

    @property
    def _is_busy(self) -> bool:
        return self.current is not None or self._gathering is not None

    def start(self, on_up: Callable[[Death | None], None] | None = None) -> None:
        """Starts a kernel where none runs. `on_up` is told when it is ready, or why it will not be."""
        if on_up:
            self._on_up.append(on_up)
        if self.kernel is not None and not self.kernel.dead:
            if self.kernel.ready:
                self._up(None)
            return
        self.generation += 1
        self._env_at_start = dict(self.host.env)
        name = f"{self.id}-{self.generation}"
        directory = self.host.kernels_dir
        number = self.host.next_kernel_number()
        connection = new_connection(self.spec, number=number, isolated=self.host.config["isolated"], directory=directory, name=name)
        kernel = self._make(name, connection)
        self.host.emit(None, "kernel", {"context_id": self.id, "event": "starting", "generation": self.generation})
        try:
            kernel.start(
                self.host.init,
                env={**self.host.config["base_env"], **self.host.env, **self.env},
                cwd=self.cwd,
                connection_file=Path(directory, f"{name}.json"),
                tag={
                    "context": self.tag(),
                    "kernel": {
                        "name": name,
                        "number": number,
                        "connection": connection,
                        "generation": self.generation,
                        "execution_count": self.execution_count,
                        "session_env": self._env_at_start,
                    },
                },
            )
        except OSError as exc:  # a full disk, no descriptors left, an address that cannot be used
            kernel.fail(f"the kernel could not be started: {exc}")

    def _make(self, name: str, connection: dict[str, Any]) -> Kernel:
        self.kernel = Kernel(
            self.host.loop,
            name=name,
            spec=self.spec,
            connection=connection,
            on_message=self._message,
            on_ready=self._ready,
            on_death=self._dead,
        )
        return self.kernel

    def tag(self) -> dict[str, Any]:
        """What a new host needs to know of this context; init keeps it with the process."""
        return {
            "id": self.id,
            "name": self.name,
            "language": self.language,
            "spec": self.spec,
            "cwd": self.cwd,
            "env": self.env,
            "is_default": self.is_default,
        }

    def adopt(self, kernel: dict[str, Any], pid: int, log_fd: int, *, was_ready: bool) -> None:
        """Takes over the kernel of a host that died or slept."""
        self.generation, self.execution_count, self._env_at_start = kernel["generation"], kernel["execution_count"], kernel["session_env"]
        self._make(kernel["name"], kernel["connection"]).adopt(self.host.init, pid, log_fd, was_ready=was_ready)

    def resume(self, job: Job) -> None:
        """Waits on for an execution that a dead host had sent."""
        if job.origin is not None and job.origin.beside and self.kernel is not None:
            self.beside[job.execution.id] = job
            job.execution.sent("", time.monotonic())
            return
        self.current, self.last_execution_id, self.used = job, job.execution.id, True
        now = time.monotonic()
        job.execution.sent("", now)
        if self.kernel is None:
            self.current = None
            self._emit(job, job.execution.lost(Death("exited", message="the kernel ended while the session host was restarted"), now))
            return
        self._watch_limits(job)
        if job.execution.timeout_s is not None:
            job.timers.append(self.host.loop.call_at(now + job.execution.timeout_s, lambda: self._stop(job, "timeout")))

    def _ready(self) -> None:
        self.death = None
        job, kernel = self.current, self.kernel
        if job is not None and kernel is not None and job.execution.replied_at is None:
            # An adopted kernel. One that answers one request after the other has answered a later one: the reply of this one went to the dead host.
            if self.spec.get("serial_shell", True):
                self._reply_lost(job)
            else:
                kernel.ask_after_cells(lambda: self._lost_soon(job))
        self.host.emit(None, "kernel", {"context_id": self.id, "event": "ready", "generation": self.generation})
        self._up(None)
        if self.relay is not None:
            self.relay.kernel_ready()
        self._next()

    def _lost_soon(self, job: Job) -> None:
        self.host.loop.call_later(_SETTLE_S, lambda: self._reply_lost(job))

    def _reply_lost(self, job: Job) -> None:
        """It has ended, and its reply went to nobody."""
        if self.current is job and job.execution.replied_at is None:
            self._finished(job, job.execution.reply_lost(time.monotonic()))

    def _up(self, death: Death | None) -> None:
        waiting, self._on_up = self._on_up, []
        for on_up in waiting:
            on_up(death)

    def _dead(self, death: Death) -> None:
        self.kernel = None
        self.death = death
        self.execution_count = 0
        self.host.emit(None, "kernel", {"context_id": self.id, "event": "died", "generation": self.generation, "death": death.as_dict()})
        running, self.current = [*([self.current] if self.current else []), *self.beside.values()], None
        self.beside.clear()
        for job in running:
            job.now = None
            self._emit(job, job.execution.lost(death, time.monotonic()))
            if self.relay is not None:
                self.relay.lost(job, death)
        restarts = self.relay is not None and self.relay.kernel_gone(death)
        if self.used:
            self._fresh = death.message  # nothing is lost with a kernel that nobody has used
        if death.reason == "start_failed":
            # Nobody waiting can be served by trying again at once: each is told why.
            waiting, self.queue = self.queue, deque()
            for job in waiting:
                self._emit(job, job.execution.lost(death, time.monotonic()))
            self._up(death)
        elif self.wanted or restarts:
            self.start()

    def restart(self, on_up: Callable[[Death | None], None]) -> None:
        """A fresh kernel. The execution that runs ends as kernel_died; those that wait stay in the queue."""
        self._on_up.append(on_up)
        if self.kernel is None:
            self.start()
        else:
            if self.relay is not None:
                self.relay.restart()
            self.kernel.kill(Death("restarted", message="the context was restarted"))

    def close(self) -> None:
        """Ends everything: what waits is cancelled, what runs dies with the kernel."""
        for job in list(self.queue):
            self.cancel(job.execution.id)
        if self.relay is not None:
            self.relay.close()
        if self.kernel is not None:
            self.kernel.kill(Death("restarted", message="the context was deleted"))

    def asleep(self) -> dict[str, Any]:
        """What a host that goes to sleep knows of it, and nobody else."""
        return {
            "tag": self.tag(), "lives": self.kernel is not None, "generation": self.generation, "created_at": self.created_at, "execution_count": self.execution_count,
            "last_execution_id": self.last_execution_id, "used": self.used, "fresh": self._fresh, "death": None if self.death is None else self.death.as_dict(),
        }  # fmt: skip

    def awake(self, asleep: dict[str, Any]) -> None:
        """In the host that was woken."""
        self.generation, self.created_at, self.execution_count = asleep["generation"], asleep["created_at"], asleep["execution_count"]
        self.last_execution_id, self.used, self._fresh = asleep["last_execution_id"], asleep["used"], asleep["fresh"]
        self.death = None if asleep["death"] is None else Death(**asleep["death"])
        if asleep["lives"] and self.kernel is None:
            self._dead(Death("exited", message="the kernel ended when the session fell asleep"))

    @property
    def is_quiet(self) -> bool:
        """Whether its kernel is idle, has been used, and keeps what it says while nobody listens; or there is none."""
        return (
            (self.kernel is None or (self.used and self.spec.get("holds_output", False) and self.kernel.is_quiet))
            and self.relay is None
            and not (self._is_busy or self.queue or self.beside or self._sweeping or self._on_up)
        )

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for a kernel."""
        return bool(self.queue or self._on_up)

    def jobs(self) -> list[Job]:
        """What runs and what waits."""
        return [*([self.current] if self.current else []), *self.beside.values(), *self.queue]

    # -- executions --

    def submit(self, job: Job) -> None:
        if len(self.queue) + len(self.beside) >= MAX_QUEUED:
            raise CapacityExceeded(f"{MAX_QUEUED} executions wait on this context already")
        if job.origin is not None and job.origin.beside and self.kernel is not None and self.kernel.ready:
            self.host.jobs[job.execution.id] = (self, job)
            self.beside[job.execution.id] = job
            self._send(self.kernel, job)
            return
        self.queue.append(job)
        self.host.jobs[job.execution.id] = (self, job)
        self._next()

    def ahead(self) -> int:
        """How many are before one that comes now."""
        return len(self.queue) + (1 if self._is_busy else 0)

    def position(self, execution_id: str) -> int | None:
        """How many are before it; 0 is next. None once it is started."""
        for place, job in enumerate(self.queue):
            if job.execution.id == execution_id:
                return place + (1 if self._is_busy else 0)
        return None

    def _next(self) -> None:
        if self._is_busy or not self.queue or self._sweeping:
            return
        kernel = self.kernel
        if kernel is None or kernel.dead:
            self.start()
            return
        if not kernel.ready:
            return
        job = self.current = self.queue.popleft()
        execution = job.execution
        execution.fresh_kernel, self._fresh = self._fresh, None
        self._send(kernel, job)

    def _send(self, kernel: Kernel, job: Job) -> None:
        self.used = True
        execution = job.execution
        if job.artifacts is not None:
            job.since_ns = artifacts.begin()
        now = time.monotonic()
        self.host.spool.mark_sent(execution.id)
        env = {**self._env_changes(), **job.env}
        if job.origin is None:
            execution.sent(kernel.execute(execution.id, job.code, allow_stdin=job.allow_stdin, env=env), now)
        else:
            kernel.relay("shell", job.origin.with_env(env))
            execution.sent(job.origin.msg_id, now)
        self.last_execution_id = execution.id
        self._watch_limits(job)
        if self.relay is not None:
            self.relay.sent(job)
        job.code, job.env = "", {}
        if execution.timeout_s is not None:
            job.timers.append(self.host.loop.call_at(now + execution.timeout_s, lambda: self._stop(job, "timeout")))

    def _watch_limits(self, job: Job) -> None:
        job.mark, job.sent_ticks = self.host.pressure.mark(), boot_ticks()
        kernel = self.kernel
        if job.execution.cpu_time_s is not None and kernel is not None and kernel.pid is not None:
            job.cpu = CpuWatch(
                self.host.loop, self.host.init.cpu, kernel.pid, job.execution.cpu_time_s, lambda: self._stop(job, "cpu_time")
            )

    def _sweep(self, job: Job) -> None:
        """Where the session has been full of processes since the job was sent, ends what it left of them, before the next one is sent."""
        kernel, job.now = self.kernel, self.host.pressure.mark()
        if kernel is None or kernel.pid is None or job.mark is None or job.now.refused <= job.mark.refused:
            return
        self._sweeping += 1

        def swept(full: bool) -> None:
            self._sweeping -= 1
            if full:
                job.execution.restarted = True
                kernel.kill(FULL)
            self._next()

        self.host.init.sweep(kernel.pid, job.sent_ticks, swept)

    def _env_changes(self) -> dict[str, str]:
        """What was set in the session's environment since the kernel was started. What was unset since, only a new kernel is without."""
        before = self._env_at_start
        return {name: value for name, value in self.host.env.items() if before.get(name) != value and name not in self.env}

    def _message(self, channel: str, message: Message) -> None:
        kernel = self.kernel
        assert kernel is not None
        if kernel.is_of_warm_up(message):
            return
        execution_id = kernel.execution_of(message.parent_id)
        if self.relay is not None:
            self.relay.kernel_said(channel, message)
            execution_id = execution_id or self.relay.execution_of(message.parent_id)
            if execution_id is None and self.relay.knows(message.parent_id):
                return  # of a comm, a question, the debugger
        if execution_id is None:
            # Late output of a thread whose parent is unknown: the last execution is the best guess there is.
            if (
                channel != "iopub"
                or message.msg_type not in ("stream", "display_data", "execute_result", "update_display_data")
                or self.last_execution_id is None
            ):
                return
            execution_id = self.last_execution_id
        job = self.current
        now = time.monotonic()
        if job is None or job.execution.id != execution_id:
            job = self.beside.get(execution_id)
        if job is None:
            self.host.late(self, execution_id, channel, message, now)
            return
        if channel == "stdin":
            job.input_request = message.header
        emits = job.execution.message(channel, message, now)
        if job.execution.done:
            self._finished(job, emits)
        else:
            self._emit(job, emits)
            if channel == "shell" and job.execution.replied_at is not None:
                self._wait_for_idle(job)

    def _wait_for_idle(self, job: Job) -> None:
        if (at := job.execution.wake_at()) is not None:
            job.timers.append(self.host.loop.call_at(at, lambda: self._wake(job)))

    def _wake(self, job: Job) -> None:
        if not self._runs(job):
            return
        if emits := job.execution.wake(time.monotonic()):
            self._finished(job, emits)
        else:
            self._wait_for_idle(job)

    def _runs(self, job: Job) -> bool:
        return self.current is job or self.beside.get(job.execution.id) is job

    def _finished(self, job: Job, emits: list[Emit]) -> None:
        if job.execution.execution_count is not None:
            self.execution_count = job.execution.execution_count
        if self.current is job:
            self.current = None
        else:
            del self.beside[job.execution.id]
        self._sweep(job)
        self._emit(job, emits)
        if self.relay is not None and job.origin is not None and job.origin.stop_on_error and job.execution.failed:
            self.relay.abort(job.origin.client)
        if job.execution.exits and self.kernel is not None:
            self.kernel.leaving()
        self._next()

    def _emit(self, job: Job, emits: list[Emit]) -> None:
        execution = job.execution
        if execution.done and job.since_ns is not None:
            # Before its last event comes what it made; the next job waits for it.
            self._gathering, since_ns, job.since_ns = job, job.since_ns, None
            *emits, end = emits

            def gathered(fields: dict[str, Any]) -> None:
                self._gathering = None
                self._emit(job, [("artifacts", fields), end])
                self._next()

            for kind, fields in emits:
                self.host.output(self, execution, kind, fields)
            assert job.artifacts is not None
            artifacts.gather(self.host, job.artifacts, self.cwd, since_ns, gathered)
            return
        for kind, fields in emits:
            if kind == "end" and fields["limit"] in (None, "output") and job.mark is not None:
                job.now = job.now or self.host.pressure.mark()
                fields = {**fields, "limit": self.host.pressure.met(job.mark, job.now, failed=not fields["success"]) or fields["limit"]}
            self.host.output(self, execution, kind, fields)
        if execution.done:
            if job.cpu is not None:
                job.cpu.cancel()
            for timer in job.timers:
                timer.cancel()
            job.timers.clear()
            self.host.done(job)

    # -- stopping --

    def interrupt(self, *, escalate: bool = True) -> list[str]:
        """Interrupts what runs. Returns the execution's id, if there was one. Without `escalate` a kernel that does not stop goes on, as notebooks have it."""
        job = self.current
        if job is None:
            if not escalate and self.kernel is not None and self.kernel.ready and self.kernel.execution_state == "busy":
                self.kernel.interrupt()  # the callback of a widget, say
            return []
        self._stop(job, "interrupted", escalate=escalate)
        return [job.execution.id]

    def cancel(self, execution_id: str) -> None:
        """Takes it out of the queue, or stops it. Nothing happens where it has ended."""
        for job in self.queue:
            if job.execution.id == execution_id:
                self.queue.remove(job)
                job.execution.stop = "cancelled"
                self._emit(job, job.execution.finish(time.monotonic()))
                if self.relay is not None:
                    self.relay.cancelled(job)
                return
        if self.current is not None and self.current.execution.id == execution_id:
            self._stop(self.current, "cancelled")

    def _stop(self, job: Job, why: str, *, escalate: bool = True) -> None:
        """Interrupts; if the kernel does not stop within the grace, restarts that kernel alone."""
        if self.current is not job or not job.execution.stoppable or self.kernel is None:
            return
        if job.execution.stop is not None:
            self.kernel.interrupt()
            return
        job.execution.stop = why
        self._sweep(job)
        self.kernel.interrupt()
        now = time.monotonic()
        job.timers.append(self.host.loop.call_at(now + INTERRUPT_AGAIN_S, lambda: self._again(job)))
        if escalate:
            job.timers.append(self.host.loop.call_at(now + INTERRUPT_GRACE_S, lambda: self._escalate(job, why)))

    def _again(self, job: Job) -> None:
        if self.current is job and job.execution.stoppable and self.kernel is not None:
            self.kernel.interrupt()

    def _escalate(self, job: Job, why: str) -> None:
        if self.current is not job or not job.execution.stoppable or self.kernel is None:
            return
        job.execution.restarted = True
        reason = {
            "timeout": "it ran out of time",
            "cpu_time": "it ran out of processor time",
            "interrupted": "it was interrupted",
            "cancelled": "it was cancelled",
        }[why]
        self.kernel.kill(Death("restarted", message=f"the kernel was restarted: {reason} and did not stop within {INTERRUPT_GRACE_S:g} s"))

    # -- questions --

    def answer_input(self, job: Job, value: str) -> None:
        if self.current is not job or not job.execution.waiting_for_input or job.input_request is None or self.kernel is None:
            raise NotWaitingForInput("this execution is not waiting for input")
        self.kernel.input_reply(value, job.input_request)
        job.input_request, job.execution.waiting_for_input = None, False
        self.host.emit(job.execution.id, "input_reply", {})

    def input_answered(self) -> None:
        """A frontend has answered what the execution waits for."""
        job = self.current
        if job is not None and job.execution.waiting_for_input:
            job.input_request, job.execution.waiting_for_input = None, False
            self.host.emit(job.execution.id, "input_reply", {})

    def ask(self, msg_type: str, content: dict[str, Any], answer: Callable[[dict[str, Any] | Exception], None]) -> None:
        """Puts a question (complete, inspect, is_complete) to the kernel, started if need be. `answer` gets the reply's content or an error."""

        self.used = True

        def up(death: Death | None) -> None:
            if death is not None:
                answer(KernelStartFailed(death.message))
                return
            kernel = self.kernel
            assert kernel is not None

            def answered(reply: dict[str, Any]) -> None:
                timer.cancel()
                answer(reply)

            def give_up() -> None:
                kernel.forget(msg_id)
                answer(KernelUnresponsive(f"the kernel did not answer within {ASK_TIMEOUT_S:g} s; it may be busy with an execution"))

            timer = self.host.loop.call_later(ASK_TIMEOUT_S, give_up)
            msg_id = kernel.ask(msg_type, content, answered)

        self.start(up)
