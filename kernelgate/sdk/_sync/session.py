# Generated from kernelgate/sdk/_async/session.py by tests/tools/unasync.py: change that one.
"""A session: a private machine in miniature, with live kernels in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._sync.code import Code
from kernelgate.sdk._sync.context import Contexts
from kernelgate.sdk._sync.execution import Executions
from kernelgate.sdk._sync.runner import Runner
from kernelgate.sdk._unset import UNSET, Unset
from kernelgate.sdk.models import SessionInfo

if TYPE_CHECKING:
    from collections.abc import Generator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from kernelgate.sdk._sync.command import (
        Commands,
        Environment,
        Interactive,
        Process,
        Processes,
        Shell,
        Shells,
    )
    from kernelgate.sdk._sync.filesystem import FileSystem
    from kernelgate.sdk._sync.notebook import Notebooks
    from kernelgate.sdk._sync.terminal import Terminals
    from kernelgate.sdk._sync.transport import Transport
    from kernelgate.sdk._options import ExecOptions, RunOptions, StartOptions
    from kernelgate.sdk.commands import CommandResult, ProcessInfo
    from kernelgate.sdk.events import Event
    from kernelgate.sdk.metrics import Metrics


class Session:
    """One session. As a context manager it is deleted at the end of the block.

    Attributes:
        info: how it was when the server was last asked.
        code: runs code.
        contexts: its kernels.
        executions: what ran or runs in it, by id.
    """

    def __init__(self, transport: Transport, info: SessionInfo) -> None:
        self._transport = transport
        self._path = f"/v1/sessions/{_wire.quoted(info.id)}"
        self.info: SessionInfo = info
        self._cwd: str | None = None
        self._runner = Runner(transport, info.id)
        self.code: Code = Code(self._runner)
        self.contexts: Contexts = Contexts(transport, info.id)
        self.executions: Executions = Executions(transport, self._runner)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.info.state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.delete()

    @property
    def id(self) -> str:
        """What `client.sessions.get` takes."""
        return self.info.id

    @property
    def session_id(self) -> str:
        """The same as `id`."""
        return self.info.id

    @property
    def labels(self) -> Mapping[str, str]:
        """As the server last told them."""
        return self.info.labels

    @property
    def notebooks(self) -> Notebooks:
        """Runs notebooks in the session, and makes one of what ran in it."""
        from kernelgate.sdk._sync.notebook import Notebooks  # noqa: PLC0415  (for few)

        return Notebooks(self._transport, self._path, self._runner)

    @property
    def command(self) -> Commands:
        """Runs programs."""
        from kernelgate.sdk._sync.command import Commands  # noqa: PLC0415  (for few)

        return Commands(self._transport, self._path, self._cwd)

    def exec(
        self,
        command: str | Sequence[str],
        args: Sequence[str] | None = None,
        timeout_s: float | None = 60.0,
        **options: Unpack[ExecOptions],
    ) -> CommandResult:
        """As `command.execute`: runs a command and returns when it has ended."""
        return self.command.execute(command, args, timeout_s, **options)

    def run(
        self,
        command: str,
        args: Sequence[str] = (),
        timeout_s: float | None = 60.0,
        **options: Unpack[RunOptions],
    ) -> CommandResult:
        """As `command.run`: runs a script file, by the interpreter that its suffix names."""
        return self.command.run(command, args, timeout_s, **options)

    def start_background(
        self,
        command: str | Sequence[str],
        args: Sequence[str] | None = None,
        timeout_s: float | None = None,
        **options: Unpack[StartOptions],
    ) -> Process:
        """As `command.start`: starts a command, with its input open, and returns once it runs. `exec_stream` is the same."""
        return self.command.start(command, args, timeout_s, **options)

    exec_stream = start_background

    def cd(self, path: str = "/workspace") -> str:
        """Where commands of this object run from now on; relative to where they ran. The whole path.

        Raises:
            FileNotFound: it is no directory that can be entered.
        """
        result = self.command.execute(["bash", "-c", 'cd -- "$1" && pwd', "bash", path])
        if not result.success:
            raise errors.FileNotFound(result.error_message.rpartition("cd: ")[2], code="not_a_directory")
        self._cwd = result.stdout.removesuffix("\n")
        return self._cwd

    def get_env(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """As `env.get`: the session's variables."""
        return self.env.get(names)

    def ps(self, filter: str | Callable[[ProcessInfo], bool] | None = None) -> list[ProcessInfo]:  # noqa: A002  (the name other SDKs have)
        """As `processes.list`: what runs in the session."""
        return self.processes.list(filter)

    def kill(self, pid: int, signal: str | int = "SIGTERM", *, timeout_s: float | None = None) -> bool:
        """As `processes.kill`: signals a process; whether SIGKILL had to follow."""
        return self.processes.kill(pid, signal, timeout_s=timeout_s)

    def killall(self, pattern: str, signal: str | int = "SIGTERM", *, timeout_s: float | None = None) -> list[int]:
        """As `processes.kill_all`: signals those whose command line the pattern finds something in."""
        return self.processes.kill_all(pattern, signal, timeout_s=timeout_s)

    def monitor(self, pid: int, interval_s: float = 1.0) -> Generator[ProcessInfo, None, None]:
        """As `processes.monitor`: how a process does, each interval."""
        return self.processes.monitor(pid, interval_s)

    def start_session(self, *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> Shell:
        """As `shell.create`: a shell that keeps its directory, variables and functions."""
        return self.shell.create(cwd=self._cwd if cwd is None else cwd, env=env)

    @property
    def processes(self) -> Processes:
        """What runs in the session, whoever started it."""
        from kernelgate.sdk._sync.command import Processes  # noqa: PLC0415

        return Processes(self._transport, self._path)

    @property
    def shell(self) -> Shells:
        """Shells that keep directory, variables and functions."""
        from kernelgate.sdk._sync.command import Shells  # noqa: PLC0415

        return Shells(self._transport, self._path)

    @property
    def pty(self) -> Terminals:
        """Terminals."""
        from kernelgate.sdk._sync.terminal import Terminals  # noqa: PLC0415

        return Terminals(self._transport, self._path)

    @property
    def env(self) -> Environment:
        """The variables that kernels and commands begin with."""
        from kernelgate.sdk._sync.command import Environment  # noqa: PLC0415

        return Environment(self._transport, self._path)

    def start_interactive_session(self, language: str = "python") -> Interactive:
        """A prompt of a language, with a kernel of its own."""
        from kernelgate.sdk._sync.command import Interactive  # noqa: PLC0415

        context = self.contexts.create(language)
        return Interactive(self.contexts, self.code, context.id)

    @property
    def file_system(self) -> FileSystem:
        """The session's files."""
        from kernelgate.sdk._sync.filesystem import FileSystem  # noqa: PLC0415

        return FileSystem(self._transport, self._path)

    fs = file_system
    files = file_system
    filesystem = file_system

    def refresh(self) -> SessionInfo:
        """Asks the server again."""
        raw = self._transport.request("GET", self._path, is_safe=True)
        self.info = SessionInfo.from_wire(raw)
        return self.info

    def update(
        self,
        *,
        labels: Mapping[str, str] | Unset = UNSET,
        idle_timeout_s: float | Unset | None = UNSET,
        lifetime_s: float | Unset | None = UNSET,
    ) -> SessionInfo:
        """Changes what is given, leaves the rest.

        Args:
            labels: in place of all it has.
            idle_timeout_s: it ends after doing nothing for so long; None for never.
            lifetime_s: it ends at this age; None for never.
        """
        given: dict[str, Any] = {
            "labels": labels if isinstance(labels, Unset) else dict(labels),
            "idle_timeout_s": idle_timeout_s,
            "lifetime_s": lifetime_s,
        }
        body = {name: value for name, value in given.items() if not isinstance(value, Unset)}
        raw = self._transport.request("PATCH", self._path, body=body, is_safe=True)
        self.info = SessionInfo.from_wire(raw)
        return self.info

    def metrics(self) -> Metrics:
        """What it uses now, and used over the last ten minutes. Asking does not keep it alive."""
        from kernelgate.sdk.metrics import Metrics  # noqa: PLC0415  (for few)

        return Metrics.from_wire(self._transport.request("GET", f"{self._path}/metrics", is_safe=True))

    def keep_alive(self) -> SessionInfo:
        """Starts its idle time anew."""
        raw = self._transport.request("POST", f"{self._path}/keepalive", is_safe=True)
        self.info = SessionInfo.from_wire(raw)
        return self.info

    def interrupt(self) -> list[str]:
        """Interrupts whatever runs in it; the ids of the executions concerned."""
        raw = self._transport.request("POST", f"{self._path}/interrupt", is_safe=False)
        return list(raw.get("interrupted") or ())

    def delete(self) -> None:
        """Ends it, with all that runs in it. Deleting twice is no error."""
        with suppress(errors.NotFound, errors.SessionClosed):
            self._transport.delete(self._path)

    def events(self, *, after: int = 0) -> Generator[Event, None, None]:
        """All that happens in the session, from behind `after`, until the caller leaves."""
        from kernelgate.sdk import events  # noqa: PLC0415  (only for streams)

        for raw in self._transport.follow(f"{self._path}/events", after=after):
            yield events.from_wire(raw)
