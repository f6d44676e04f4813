"""Requests about the processes of a session: each is carried out by a short-lived process of the session's user (procstat.py), which alone can see and signal them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelgate.errors import CapacityExceeded, InvalidRequest, KernelgateError, ProcessNotFound
from kernelgate.host import procstat  # noqa: F401 - here, so that init has it
from kernelgate.host.process import signal_number
from kernelgate.protocol import event as events

if TYPE_CHECKING:
    from kernelgate.host.server import Request
    from kernelgate.host.session import SessionHost

#: Requests under way, monitors among them.
MAX_LOOKS = 32
#: Beyond the grace that a caller gives: listing the processes takes milliseconds.
_LOOK_TIMEOUT_S = 20.0
#: A line of answer: a few thousand processes with long command lines.
_MAX_LINE_BYTES = 64 * 1024 * 1024


class Look:
    """One such process. `on_line` gets each line of its answer, `on_end` is called once it is gone."""

    def __init__(
        self, host: SessionHost, request: dict[str, Any], on_line: Callable[[dict[str, Any]], None], on_end: Callable[[], None]
    ) -> None:
        self._host, self._on_line, self._on_end = host, on_line, on_end
        self._fds: list[int] = []
        self._data = bytearray()
        self._pid: int | None = None
        self._stopped = False
        host.init.spawn(
            {
                "fork": "kernelgate.host.procstat:run", "argv": ["procstat"], "env": host.config["base_env"], "cwd": "/", "connection_file": json.dumps(request),
                "stdio": "merged", "tag": {"kind": "look"},
            },
            self._spawned,
            lambda *_: None,
        )  # fmt: skip

    def _spawned(self, pid: int, fds: list[int]) -> None:
        if pid <= 0:
            self._on_end()
            return
        self._pid, self._fds = pid, fds
        os.set_blocking(fds[1], False)
        self._host.loop.add_reader(fds[1], self._read)
        if self._stopped:
            self.stop()

    def stop(self) -> None:
        self._stopped = True
        if self._pid is not None and self._fds:
            self._host.init.signal(self._pid, signal.SIGKILL)

    def _read(self) -> None:
        try:
            data = os.read(self._fds[1], 256 * 1024)
        except BlockingIOError:
            return
        self._data += data
        *lines, rest = self._data.split(b"\n")
        self._data = bytearray(rest)
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # not of ours: the session's code may write there if it must
            if isinstance(said, dict):
                self._on_line(said)
        if not data or len(self._data) > _MAX_LINE_BYTES:
            self._host.loop.remove_reader(self._fds[1])
            for fd in self._fds:
                os.close(fd)
            self.stop()
            self._fds = []
            self._on_end()


class Processes:
    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self._looks = 0

    def _look(self, request: dict[str, Any], on_line: Callable[[dict[str, Any]], None], on_end: Callable[[], None]) -> Look:
        if self._looks >= MAX_LOOKS:
            raise CapacityExceeded(f"{MAX_LOOKS} requests about processes are under way in this session; end a monitor, or wait")
        self._looks += 1

        def ended() -> None:
            self._looks -= 1
            on_end()

        kernels = {
            str(context.kernel.pid): (context.id, context.spec.get("interpreter") == "child")
            for context in self._host.contexts.values()
            if context.kernel is not None and context.kernel.pid
        }
        commands = [command.pid for command in self._host.commands.live.values() if command.pid is not None and not command.ended]
        return Look(self._host, {"kernels": kernels, "commands": commands, **request}, on_line, ended)

    def _ask(
        self, request: Request, ask: dict[str, Any], answer: Callable[[dict[str, Any]], None], *, timeout_s: float = _LOOK_TIMEOUT_S
    ) -> None:
        """One question, one answer; what fails is the request's."""

        def line(said: dict[str, Any]) -> None:
            timer.cancel()
            try:
                if "error" in said:
                    raise InvalidRequest(str(said["error"]), code="invalid_pattern")
                answer(said)
            except KernelgateError as exc:
                request.fail(exc)

        def ended() -> None:
            timer.cancel()
            request.fail(
                CapacityExceeded(
                    "the session cannot start a process to look at its processes, or has ended it; it may have as many as it may"
                )
            )

        look = self._look(ask, line, ended)
        timer = self._host.loop.call_later(timeout_s, look.stop)

    def _owner(self, process: dict[str, Any]) -> dict[str, Any]:
        """A process with what kernelgate knows it as."""
        shown = dict(process)
        kernel = shown.pop("kernel", None)
        shown["context_id"] = kernel
        shown["command_id"] = next((command.id for command in self._host.commands.live.values() if command.pid == process.get("pid")), None)
        if kernel is not None:
            shown["command"] = f"kernel {kernel}"
        return shown

    def op_processes(self, request: Request) -> None:
        ask = {"do": "list", "pattern": request.fields["pattern"]}
        self._ask(request, ask, lambda said: request.reply({"processes": [self._owner(one) for one in said["processes"]]}))

    def op_processes_kill(self, request: Request) -> None:
        fields = request.fields

        def answer(said: dict[str, Any]) -> None:
            if fields["pid"] is not None and not said["signalled"]:
                raise ProcessNotFound(f"there is no process {fields['pid']} in this session")
            request.reply({"signalled": said["signalled"], "forced": said["forced"]})

        ask = {
            "do": "kill",
            "pid": fields["pid"],
            "pattern": fields["pattern"],
            "signal": signal_number(fields["signal"]),
            "grace_s": fields["grace_s"],
        }
        self._ask(request, ask, answer, timeout_s=_LOOK_TIMEOUT_S + (fields["grace_s"] or 0))

    def op_process_stats(self, request: Request) -> None:
        """Answers with a line for each interval, until the caller leaves or the process ends."""
        connection, pid = request.connection, request.fields["pid"]
        number = 0

        def line(said: dict[str, Any]) -> None:
            nonlocal number
            if connection.closed:
                look.stop()
                return
            if said.get("ended"):
                if number == 0:
                    request.fail(ProcessNotFound(f"there is no process {pid} in this session"))
                return
            number += 1
            if connection.writable:  # a slow reader misses some
                connection.write({"stats": True}, events.encode(number, None, "stats", time.time(), self._owner(said)))

        def ended() -> None:
            if not connection.closed:
                request.reply({})

        look = self._look({"do": "monitor", "pid": pid, "interval_s": request.fields["interval_s"]}, line, ended)
