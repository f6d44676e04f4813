"""Commands: programs that callers run in a session, their input, their output as events, and their end.

A command is known by its id, like an execution, and its events are in the same journal: it outlives whoever started it, the gateway, and the host. Init keeps a command's
descriptors and its exit status until the host has written down that it ended, so that a new host misses neither.

A command ends with its own process. What it left running (`server &`) lives on; what that still writes into the command's output is kept as late events.
"""

from __future__ import annotations

import base64
import functools
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelgate.errors import CapacityExceeded, CommandNotFound, ExecutionConflict, InputClosed, InvalidRequest
from kernelgate.host import artifacts
from kernelgate.host.clock import CpuWatch, boot_ticks
from kernelgate.protocol import jsontext
from kernelgate.protocol.command import CommandFold, Output
from kernelgate.protocol.event import COMMAND

if TYPE_CHECKING:
    from kernelgate.host.loop import Timer
    from kernelgate.host.server import Request
    from kernelgate.host.session import SessionHost

log = logging.getLogger(__name__)

#: Commands with a process, or with an output that something they left running still holds.
MAX_COMMANDS = 128
#: Input that a command has not read yet; more is refused.
MAX_INPUT_BYTES = 64 * 1024 * 1024
#: Over its time, a command gets SIGTERM, and after so long SIGKILL.
TERM_GRACE_S = 2.0
#: Read at the end of a process: more than a pipe can hold, so all that it had written.
_LAST_READ_BYTES = 1024 * 1024 + 1
_READ_BYTES = 64 * 1024
_STREAMS = ("stdout", "stderr")


class Command:
    """One command with a process. `tag` is what a new host needs of it; init keeps it."""

    def __init__(self, commands: Commands, tag: dict[str, Any], *, seen: int = 0) -> None:
        self._commands, self._host, self.tag = commands, commands.host, tag
        self.id: str = tag["id"]
        self.pid: int | None = None
        self.ended = False
        #: It has ended but for what it made, which is looked for.
        self._gathering = False
        self._output = Output(tag["output_bytes"], tag["encoding"], seen=seen)
        self._fds: dict[str, int] = {}
        self._stdin: int | None = None
        self._input = bytearray()
        self._input_ends = False
        self._exit: tuple[int, bool, dict[str, Any] | None] | None = None
        self._swept = False
        self._stop: str | None = None
        self._limit: str | None = None
        self._mark, self._start_ticks = self._host.pressure.mark(), boot_ticks()
        self._cpu: CpuWatch | None = None
        self._signals_before_start: list[int] = []
        self._timers: list[Timer] = []
        self._on_start: list[Callable[[], None]] = []
        self._listening = True

    # -- start --

    def start(self, argv: list[str], env: dict[str, str], cwd: str) -> None:
        request = {
            "fork": None, "argv": argv, "env": env, "cwd": cwd, "connection_file": "", "stdio": "merged" if self.tag["merge"] else "pipes",
            "tag": {"command": self.tag}, "keep": True,
        }  # fmt: skip
        self._host.init.spawn(request, self._spawned, self.exited)

    def _spawned(self, pid: int, fds: list[int]) -> None:
        if pid <= 0:
            self._end("start_failed", reason=f"the process could not be started: {os.strerror(-pid)}")
            self._commands.forget(self)
            return
        self._host.emit(self.id, "command_started", {"pid": pid})
        self.adopt(pid, fds)
        for number in self._signals_before_start:
            self.signal(number)
        self.started()

    def adopt(self, pid: int, fds: list[int]) -> None:
        """Takes the process and its descriptors, newly started or of a host that died; those that were closed are -1."""
        self.pid = pid
        for fd in fds:
            if fd >= 0:
                os.set_blocking(fd, False)
        if fds[0] >= 0:
            self._stdin = fds[0]
        self._fds = {stream: fd for stream, fd in zip(_STREAMS, fds[1:], strict=False) if fd >= 0}
        self.listen(self._listening)
        if (deadline := self.tag["deadline"]) is not None:
            self._timers.append(self._host.loop.call_later(max(0.0, deadline - time.monotonic()), lambda: self._over("wall_time")))
        if (cpu_time_s := self.tag.get("cpu_time_s")) is not None:
            self._cpu = CpuWatch(self._host.loop, self._host.init.cpu, pid, cpu_time_s, lambda: self._over("cpu_time"), used_before_s=0.0)
        self._write()

    def _over(self, limit: str) -> None:
        """It has run, or computed, for as long as it may."""
        self._limit = self._limit or limit
        self.stop("timeout", TERM_GRACE_S)

    def when_started(self, callback: Callable[[], None]) -> None:
        """Calls back when the process runs, or could not be started."""
        if self.pid is None and not self.ended:
            self._on_start.append(callback)
        else:
            callback()

    def started(self) -> None:
        waiting, self._on_start = self._on_start, []
        for callback in waiting:
            callback()

    # -- output --

    def listen(self, wanted: bool) -> None:
        """Reads its output, or leaves it in the pipes for now."""
        self._listening = wanted
        for stream, fd in self._fds.items():
            if wanted:
                self._host.loop.add_reader(fd, functools.partial(self._readable, stream))
            else:
                self._host.loop.remove_reader(fd)

    def _readable(self, stream: str) -> None:
        self._read(stream)

    def _read(self, stream: str) -> int:
        """Reads once. How much there was."""
        fd = self._fds[stream]
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        if data:
            self._emit(self._output.feed(stream, data))
            return len(data)
        self._emit(self._output.close(stream))
        self._host.loop.remove_reader(fd)
        os.close(fd)
        del self._fds[stream]
        if not self._fds:
            self._settle()
        return 0

    def _emit(self, emits: list[tuple[str, dict[str, Any]]]) -> None:
        for kind, fields in emits:
            self._host.emit(self.id, kind, fields)

    # -- input --

    def write(self, data: bytes, *, eof: bool) -> None:
        if self._input_ends or self._exit is not None or (self.pid is not None and self._stdin is None):
            raise InputClosed("this command takes no more input")
        if len(self._input) + len(data) > MAX_INPUT_BYTES:
            raise CapacityExceeded(f"the command has not read {len(self._input)} bytes of its input; {MAX_INPUT_BYTES} may wait")
        self._input += data
        self._input_ends = eof
        self._write()

    def _write(self) -> None:
        if self._stdin is None:
            return
        try:
            while self._input:
                del self._input[: os.write(self._stdin, self._input[: 1024 * 1024])]
        except BlockingIOError:
            self._host.loop.add_writer(self._stdin, self._write)
            return
        except OSError:  # nobody reads it any more
            self._input_ends = True
        self._host.loop.remove_writer(self._stdin)
        if self._input_ends:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            assert self.pid is not None
            self._host.loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = None
            self._input.clear()
            self._host.init.close(self.pid, 0)

    # -- end --

    def signal(self, number: int) -> None:
        """To the command's process group."""
        if self.pid is None:
            self._signals_before_start.append(number)
        else:
            self._host.init.signal(self.pid, number)

    def stop(self, why: str, grace_s: float) -> None:
        """SIGTERM to its group, and SIGKILL after the grace. `why` is what its status will be."""
        if self._exit is None and self._stop is None:
            self._stop = why
        if grace_s > 0:
            self.signal(signal.SIGTERM)
            # Stopped processes get SIGTERM only when they go on.
            self.signal(signal.SIGCONT)
            self._timers.append(self._host.loop.call_later(grace_s, self._kill))
        else:
            self._kill()

    def _kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._exit is not None:
            self._finish()

    def exited(self, status: int, oom: bool) -> None:
        """Its process is gone. One that is being stopped has ended when its whole group is gone."""
        self._exit, self._swept = (status, oom, self._host.init.usage), self._host.init.swept
        self._input_ends = True
        self._close_stdin()
        for stream in list(self._fds):
            left = _LAST_READ_BYTES
            while left > 0 and stream in self._fds and (size := self._read(stream)):
                left -= size
        if self._stop is None:
            self._finish()
        elif not self._fds:
            self.signal(signal.SIGKILL)
        self._settle()

    def _settle(self) -> None:
        """Everything is read: nothing more can come."""
        if self._exit is not None and not self._fds:
            self._finish()
            self._release()

    def _finish(self) -> None:
        if self.ended or self._gathering or self._exit is None:
            return
        status, oom, usage = self._exit
        name = signal_name(-status) if status < 0 else None
        why = self._stop or ("ok" if status == 0 else "error")
        reason = None
        if oom:
            reason, self._limit = "out_of_memory", self._limit or "memory"
        elif self._swept:
            reason, self._limit = "ended because its processes filled the session", self._limit or "processes"
        elif name == "SIGXFSZ":
            reason, self._limit = f"ended by {name}", self._limit or "file_size"
        elif name is not None and self._stop is None:
            reason = f"ended by {name}"
        self._end(why, exit_code=status if status >= 0 else 128 - status, signal_=name, reason=reason, usage=usage)

    def _end(
        self,
        status: str,
        *,
        exit_code: int | None = None,
        signal_: str | None = None,
        reason: str | None = None,
        usage: dict[str, Any] | None = None,
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._cpu is not None:
            self._cpu.cancel()
        self._emit(self._output.end())
        now = self._host.pressure.mark()
        limit = self._limit or self._host.pressure.met(self._mark, now, failed=status not in ("ok", "lost"))
        if self.pid is not None and now.refused > self._mark.refused:
            self._host.init.sweep(self.pid, self._start_ticks, lambda _: None)
        fields = {
            "status": status, "success": status == "ok", "exit_code": exit_code, "signal": signal_, "timed_out": status == "timeout", "reason": reason,
            "duration_s": round(time.monotonic() - self.tag["created"], 6), "usage": usage, "truncated": self._output.truncated,
            "limit": limit or ("output" if self._output.truncated else None),
        }  # fmt: skip
        if self.tag["artifacts"] is None or self.pid is None:
            self._ended(fields)
            return
        self._gathering = True

        def gathered(found: dict[str, Any]) -> None:
            self._host.emit(self.id, "artifacts", found)
            self._ended(fields)

        artifacts.gather(self._host, self.tag["artifacts"], self.tag["cwd"], self.tag["since_ns"], gathered)

    def _ended(self, fields: dict[str, Any]) -> None:
        self.ended = True
        self._host.emit(self.id, "end", fields)
        self._host.last_activity = time.time()
        self.started()

    def lost(self) -> None:
        """A host died before its process was started."""
        self._end("lost", reason="the session host was restarted before the process was started")

    def _release(self) -> None:
        """Lets init forget it, when its end is written down."""
        span = self._host.journal.spans.get(self.id)
        if self.id not in self._host.journal.dropped and (span is None or not span.ended):
            self._host.loop.call_later(0.01 if self._listening else 0.5, self._release)
            return
        assert self.pid is not None
        self._host.init.forget(self.pid)
        self._commands.forget(self)


class Commands:
    """The commands of a session: the requests of the gateway that are about them."""

    def __init__(self, host: SessionHost) -> None:
        self.host = host
        #: Those with a process, or whose output is still held by something they left running.
        self.live: dict[str, Command] = {}

    def running(self) -> int:
        """Those that somebody waits for."""
        return sum(not command.ended and not command.tag["background"] for command in self.live.values())

    def listen(self, wanted: bool) -> None:
        for command in self.live.values():
            command.listen(wanted)

    def forget(self, command: Command) -> None:
        self.live.pop(command.id, None)

    def recover(self, children: list[dict[str, Any]]) -> None:
        """Takes over the commands of a host that died. What it had read and not written down is lost, and the place is marked."""
        journal = self.host.journal
        for child in children:
            tag = child["tag"]["command"]
            span = journal.spans.get(tag["id"])
            if span is None:
                continue
            fold = CommandFold()
            for event in journal.execution(tag["id"]):
                fold.feed(event)
            command = self.live[tag["id"]] = Command(self, tag, seen=fold.size)
            if fold.summary()["pid"] is None:
                self.host.emit(tag["id"], "command_started", {"pid": child["pid"]})
            if span.ended:
                command.ended = True
                command._output.end()  # noqa: SLF001 - what comes now is late
            else:
                reason = "the session host was restarted while this ran; output of that moment may be missing"
                self.host.emit(tag["id"], "gap", {"reason": reason})
            command.adopt(child["pid"], child["fds"])
            if (told := child["ended"]) is not None:
                self.host.init.usage, self.host.init.swept = told["usage"], told["swept"]
                command.exited(told["status"], told["oom"])
            else:
                self.host.init.watch(child["pid"], command.exited)
        for name in journal.names(COMMAND):
            if not journal.spans[name].ended and name not in self.live:
                fold = CommandFold()
                for event in journal.execution(name):
                    fold.feed(event)
                Command(
                    self,
                    {"id": name, "output_bytes": 0, "encoding": "text", "created": time.monotonic(), "artifacts": None},
                    seen=fold.size,
                ).lost()

    # -- requests --

    def op_command(self, request: Request) -> None:
        self.begin(request, None)

    def begin(self, request: Request, argv: list[str] | None) -> None:
        """Starts a command, or re-attaches to the one with this id. Then answers as `mode` says: accept, started, result or stream."""
        fields, host = request.fields, self.host
        name = fields["command_id"]
        if name in host.journal.dropped:
            raise ExecutionConflict(f"command {name!r} has run, and its record was let go of to make room; choose another id")
        if name in host.jobs or name in host.journal.spans:
            self._same(name, fields)
        else:
            self.start(fields, argv)
        self._attach(request, name)

    def start(self, fields: dict[str, Any], argv: list[str] | None) -> None:
        """Writes the command down and has it started; by `argv` where that is not the command itself."""
        host, name = self.host, fields["command_id"]
        if len(self.live) >= MAX_COMMANDS:
            raise CapacityExceeded(f"{MAX_COMMANDS} commands run in this session; end some first")
        if host.journal.full:
            raise CapacityExceeded("the session's journal is full: what runs keeps older records from being let go of; end some of it")
        now = time.time()
        cwd = host.resolve_cwd(fields["cwd"])
        tag = {
            "id": name, "output_bytes": fields["output_bytes"], "encoding": fields["encoding"], "merge": fields["merge"], "background": fields["background"],
            "created": time.monotonic(), "deadline": None if fields["timeout_s"] is None else time.monotonic() + fields["timeout_s"], "shell_id": fields.get("shell_id"),
            "cpu_time_s": fields["cpu_time_s"],
            "artifacts": fields["artifacts"], "cwd": cwd, "since_ns": None if fields["artifacts"] is None else artifacts.begin(),
        }  # fmt: skip
        host.last_activity = now
        said = {key: fields[key] for key in ("request_id", "command", "background", "merge", "encoding")}
        host.emit_or_refuse(
            name,
            COMMAND,
            {
                **said,
                "session_id": host.config["session_id"],
                "cwd": cwd,
                "shell_id": fields.get("shell_id"),
                "timeout_s": fields["timeout_s"],
            },
        )
        command = self.live[name] = Command(self, tag)
        wanted = fields["command"]
        if argv is None:
            argv = ["/bin/bash", "-c", wanted] if isinstance(wanted, str) else wanted
        data = b"" if fields["stdin"] is None else base64.b64decode(fields["stdin"])
        command.write(data, eof=not fields["stdin_open"])
        command.start(argv, {**host.config["base_env"], **host.env, **fields["env"]}, cwd)

    def _same(self, name: str, fields: dict[str, Any]) -> None:
        self.host.flush()
        if not self.host.journal.has(name, COMMAND) or self._fold(name).summary()["command"] != fields["command"]:
            raise ExecutionConflict(f"{name!r} exists already, and is another command or an execution; choose another id")

    def _attach(self, request: Request, name: str) -> None:
        mode, command = request.fields["mode"], self.live.get(name)
        span = self.host.journal.spans.get(name)
        if mode == "stream":
            self.host.server.stream(request, name, request.fields.get("after") or 0)
        elif mode == "result" and not (span and span.ended):
            self.host.server.when_ended(name, request, lambda: self.reply(request, name))
        elif mode == "started" and command is not None:
            command.when_started(lambda: self.reply(request, name))
        else:
            self.reply(request, name)

    def _fold(self, name: str) -> CommandFold:
        fold = CommandFold()
        for event in self.host.journal.execution(name):
            fold.feed(event)
        return fold

    def reply(self, request: Request, name: str) -> None:
        """Answers with the result so far."""
        self.host.flush()
        request.reply({}, jsontext.dump(self._fold(name).result()))

    def _known(self, request: Request) -> str:
        name = str(request.fields["command_id"])
        if not self.host.journal.has(name, COMMAND):
            raise CommandNotFound(f"there is no command {name!r} in this session")
        return name

    def op_command_attach(self, request: Request) -> None:
        self._attach(request, self._known(request))

    def op_commands(self, request: Request) -> None:
        """Summaries, newest first, from before `before` (a command's id)."""
        names = self.host.journal.names(COMMAND)
        names.reverse()
        before = request.fields.get("before")
        if before is not None:
            names = names[names.index(before) + 1 :] if before in names else []
        if request.fields["running"]:
            names = [name for name in names if not self.host.journal.spans[name].ended]
        page = names[: request.fields["limit"]]
        request.reply({"commands": [self._fold(name).summary() for name in page], "more": len(names) > len(page)})

    def op_command_stdin(self, request: Request) -> None:
        name = self._known(request)
        command = self.live.get(name)
        if command is None:
            raise InputClosed("this command has ended, and takes no input")
        command.write(base64.b64decode(request.fields["data"]), eof=request.fields["eof"])
        request.reply({})

    def op_command_signal(self, request: Request) -> None:
        name = self._known(request)
        if name in self.live:
            self.live[name].signal(signal_number(request.fields["signal"]))
        self.reply(request, name)

    def op_command_kill(self, request: Request) -> None:
        """Ends it and what it left running; answers when it has ended."""
        name = self._known(request)
        command = self.live.get(name)
        if command is None:
            self.reply(request, name)
            return
        command.stop("killed", request.fields["grace_s"])
        self.host.flush()
        if command.ended:
            self.reply(request, name)
        else:
            self.host.server.when_ended(name, request, lambda: self.reply(request, name))


def signal_number(name: str | int) -> int:
    """`SIGTERM`, `TERM` or 15. Raises InvalidRequest."""
    try:
        if isinstance(name, int) or name.isdigit():
            return int(signal.Signals(int(name)))
        upper = name.upper()
        return int(signal.Signals[upper if upper.startswith("SIG") else f"SIG{upper}"])
    except (ValueError, KeyError) as exc:
        raise InvalidRequest(f"signal: {name!r} is no signal; SIGTERM, SIGINT, SIGKILL and the like are", code="invalid_signal") from exc


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
