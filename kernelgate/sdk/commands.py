"""What the server tells of commands and processes, as objects; and what a failed command is as an exception."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import errors
from kernelgate.sdk.artifacts import Artifacts

if TYPE_CHECKING:
    from typing import Self

    from kernelgate.sdk.models import Json

__all__ = ["AbortError", "CommandResult", "CommandTimeout", "ExecutionError", "ProcessInfo", "Usage"]


class ExecutionError(errors.KernelgateError):
    """A command that failed, raised with `check=True`.

    Attributes:
        exit_code: as the shell counts: 128 and the signal's number where one ended it.
        limit: the session's limit that it met, None if it met none.
        stdout: what it had printed.
        stderr: and to its other stream.
        result: all of it.
    """

    code = "command_failed"
    fault: errors.Fault = "the code"

    def __init__(self, message: str, *, result: CommandResult) -> None:
        super().__init__(message, request_id=result.request_id or None)
        self.result = result
        self.limit: str | None = result.limit
        self.exit_code: int | None = result.exit_code
        self.stdout: str = result.stdout
        self.stderr: str = result.stderr


class CommandTimeout(ExecutionError, TimeoutError):
    """The command ran longer than its `timeout_s`."""

    code = "command_timeout"
    hint = "give it a larger timeout_s, or None for no limit"


class AbortError(ExecutionError):
    """The command was ended by a caller: killed, or aborted."""

    code = "command_aborted"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a command used. None is what the server cannot tell.

    Attributes:
        cpu_s: CPU time of its process and of those it waited for.
        peak_memory_bytes: None too where it used less than a process of the server has at its start.
    """

    cpu_s: float = 0.0
    peak_memory_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None

    @property
    def cpu_time(self) -> float:
        """Seconds."""
        return self.cpu_s

    @property
    def memory_mb(self) -> float | None:
        """The peak, in MiB."""
        return None if self.peak_memory_bytes is None else self.peak_memory_bytes / 1024**2

    @property
    def disk_io(self) -> int | None:
        """Bytes read and written."""
        if self.read_bytes is None or self.written_bytes is None:
            return None
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """A command: what it put out, how it ended, or how far it is.

    Attributes:
        id: `session.command.get(id)` finds it again.
        success: it ended with exit code 0; None until it has ended.
        status: `ok`, `error`, `timeout`, `killed`, `start_failed` or `lost`.
        exit_code: 128 and the signal's number where a signal ended it.
        encoding: `text`; or `base64`, where `stdout_bytes` has what the command wrote.
        truncated: bytes cut from each stream, None if none were.
        limit: the session's limit that it met, as of a `Result`.
        artifacts: files it made or changed, None if they were not asked for.
    """

    id: str
    request_id: str = ""
    command: str | list[str] = ""
    cwd: str = ""
    state: str = "done"
    status: str | None = None
    success: bool | None = None
    exit_code: int | None = None
    signal: str | None = None
    timed_out: bool = False
    reason: str | None = None
    pid: int | None = None
    duration_s: float | None = None
    usage: Usage | None = None
    truncated: dict[str, int] | None = None
    limit: str | None = None
    encoding: str = "text"
    stdout: str = ""
    stderr: str = ""
    artifacts: Artifacts | None = None
    last_seq: int = 0
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From the server's own shape."""
        usage: Json | None = raw.get("usage")
        names = ("cpu_s", "peak_memory_bytes", "read_bytes", "written_bytes")
        always = ("request_id", "command", "cwd", "state", "encoding", "stdout", "stderr", "last_seq", "timed_out")
        may_be_none = ("status", "success", "exit_code", "signal", "reason", "pid", "duration_s", "truncated", "limit")
        given: dict[str, Any] = {name: raw[name] for name in always if raw.get(name) is not None}
        given |= {name: raw.get(name) for name in may_be_none}
        return cls(
            id=raw["id"],
            usage=None if usage is None else Usage(**{name: usage[name] for name in names if name in usage}),
            artifacts=Artifacts.from_wire(raw.get("artifacts")),
            raw=raw,
            **given,
        )

    @property
    def output(self) -> str:
        """Both streams, stdout first."""
        return self.stdout + self.stderr

    @property
    def stdout_bytes(self) -> bytes:
        """What it wrote, whatever the encoding."""
        return base64.b64decode(self.stdout) if self.encoding == "base64" else self.stdout.encode()

    @property
    def stderr_bytes(self) -> bytes:
        """What it wrote to its other stream."""
        return base64.b64decode(self.stderr) if self.encoding == "base64" else self.stderr.encode()

    @property
    def execution_time(self) -> float | None:
        """Seconds."""
        return self.duration_s

    @property
    def error_message(self) -> str:
        """Why it did not succeed; empty if it did."""
        if self.success is not False:
            return ""
        if self.timed_out:
            return (
                f"the command ran longer than it may; it was ended by {self.signal}"
                if self.signal
                else "the command ran longer than it may"
            )
        if self.status == "killed":
            return "the command was killed"
        said = self.stderr.strip().rpartition("\n")[2] if self.encoding == "text" else ""
        return self.reason or f"exit code {self.exit_code}" + (f": {said}" if said else "")

    def raise_for_error(self) -> Self:
        """Itself, if the command succeeded.

        Raises:
            CommandTimeout: it ran out of time.
            AbortError: it was killed.
            ExecutionError: it failed otherwise.
        """
        if self.success is not False:
            return self
        kind = CommandTimeout if self.timed_out else AbortError if self.status == "killed" else ExecutionError
        raise kind(self.error_message, result=self)

    def __str__(self) -> str:
        return self.output


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """A process of the session.

    Attributes:
        state: as in `/proc`: R runs, S sleeps, Z has ended and is not waited for.
        cpu_percent: of one core: since its start in lists, since the last look where it is watched.
        started: Unix time.
        context_id: of a kernel.
        command_id: of a command's own process.
    """

    pid: int
    ppid: int = 0
    name: str = ""
    command: str = ""
    state: str = ""
    cpu_s: float = 0.0
    cpu_percent: float = 0.0
    memory_bytes: int = 0
    threads: int = 1
    started: float = 0.0
    context_id: str | None = None
    command_id: str | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From the server's own shape."""
        known: dict[str, Any] = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw and name != "raw"}
        return cls(**known, raw=raw)

    @property
    def memory_mb(self) -> float:
        """In MiB."""
        return self.memory_bytes / 1024**2
