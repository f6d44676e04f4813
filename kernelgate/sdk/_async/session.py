"""A session: a private machine in miniature, with live kernels in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._async.code import AsyncCode
from kernelgate.sdk._async.context import AsyncContexts
from kernelgate.sdk._async.execution import AsyncExecutions
from kernelgate.sdk._async.runner import AsyncRunner
from kernelgate.sdk._unset import UNSET, Unset
from kernelgate.sdk.models import SessionInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from kernelgate.sdk._async.command import (
        AsyncCommands,
        AsyncEnvironment,
        AsyncInteractive,
        AsyncProcess,
        AsyncProcesses,
        AsyncShell,
        AsyncShells,
    )
    from kernelgate.sdk._async.filesystem import AsyncFileSystem
    from kernelgate.sdk._async.notebook import AsyncNotebooks
    from kernelgate.sdk._async.terminal import AsyncTerminals
    from kernelgate.sdk._async.transport import AsyncTransport
    from kernelgate.sdk._options import ExecOptions, RunOptions, StartOptions
    from kernelgate.sdk.commands import CommandResult, ProcessInfo
    from kernelgate.sdk.events import Event
    from kernelgate.sdk.metrics import Metrics


class AsyncSession:
    """One session. As a context manager it is deleted at the end of the block.

    Attributes:
        info: how it was when the server was last asked.
        code: runs code.
        contexts: its kernels.
        executions: what ran or runs in it, by id.
    """

    def __init__(self, transport: AsyncTransport, info: SessionInfo) -> None:
        self._transport = transport
        self._path = f"/v1/sessions/{_wire.quoted(info.id)}"
        self.info: SessionInfo = info
        self._cwd: str | None = None
        self._runner = AsyncRunner(transport, info.id)
        self.code: AsyncCode = AsyncCode(self._runner)
        self.contexts: AsyncContexts = AsyncContexts(transport, info.id)
        self.executions: AsyncExecutions = AsyncExecutions(transport, self._runner)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.info.state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.delete()

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
    def notebooks(self) -> AsyncNotebooks:
        """Runs notebooks in the session, and makes one of what ran in it."""
        from kernelgate.sdk._async.notebook import AsyncNotebooks  # noqa: PLC0415  (for few)

        return AsyncNotebooks(self._transport, self._path, self._runner)

    @property
    def command(self) -> AsyncCommands:
        """Runs programs."""
        from kernelgate.sdk._async.command import AsyncCommands  # noqa: PLC0415  (for few)

        return AsyncCommands(self._transport, self._path, self._cwd)

    async def exec(
        self,
        command: str | Sequence[str],
        args: Sequence[str] | None = None,
        timeout_s: float | None = 60.0,
        **options: Unpack[ExecOptions],
    ) -> CommandResult:
        """As `command.execute`: runs a command and returns when it has ended."""
        return await self.command.execute(command, args, timeout_s, **options)

    async def run(
        self,
        command: str,
        args: Sequence[str] = (),
        timeout_s: float | None = 60.0,
        **options: Unpack[RunOptions],
    ) -> CommandResult:
        """As `command.run`: runs a script file, by the interpreter that its suffix names."""
        return await self.command.run(command, args, timeout_s, **options)

    async def start_background(
        self,
        command: str | Sequence[str],
        args: Sequence[str] | None = None,
        timeout_s: float | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncProcess:
        """As `command.start`: starts a command, with its input open, and returns once it runs. `exec_stream` is the same."""
        return await self.command.start(command, args, timeout_s, **options)

    exec_stream = start_background

    async def cd(self, path: str = "/workspace") -> str:
        """Where commands of this object run from now on; relative to where they ran. The whole path.

        Raises:
            FileNotFound: it is no directory that can be entered.
        """
        result = await self.command.execute(["bash", "-c", 'cd -- "$1" && pwd', "bash", path])
        if not result.success:
            raise errors.FileNotFound(result.error_message.rpartition("cd: ")[2], code="not_a_directory")
        self._cwd = result.stdout.removesuffix("\n")
        return self._cwd

    async def get_env(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """As `env.get`: the session's variables."""
        return await self.env.get(names)

    async def ps(self, filter: str | Callable[[ProcessInfo], bool] | None = None) -> list[ProcessInfo]:  # noqa: A002  (the name other SDKs have)
        """As `processes.list`: what runs in the session."""
        return await self.processes.list(filter)

    async def kill(self, pid: int, signal: str | int = "SIGTERM", *, timeout_s: float | None = None) -> bool:
        """As `processes.kill`: signals a process; whether SIGKILL had to follow."""
        return await self.processes.kill(pid, signal, timeout_s=timeout_s)

    async def killall(self, pattern: str, signal: str | int = "SIGTERM", *, timeout_s: float | None = None) -> list[int]:
        """As `processes.kill_all`: signals those whose command line the pattern finds something in."""
        return await self.processes.kill_all(pattern, signal, timeout_s=timeout_s)

    def monitor(self, pid: int, interval_s: float = 1.0) -> AsyncGenerator[ProcessInfo, None]:
        """As `processes.monitor`: how a process does, each interval."""
        return self.processes.monitor(pid, interval_s)

    async def start_session(self, *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> AsyncShell:
        """As `shell.create`: a shell that keeps its directory, variables and functions."""
        return await self.shell.create(cwd=self._cwd if cwd is None else cwd, env=env)

    @property
    def processes(self) -> AsyncProcesses:
        """What runs in the session, whoever started it."""
        from kernelgate.sdk._async.command import AsyncProcesses  # noqa: PLC0415

        return AsyncProcesses(self._transport, self._path)

    @property
    def shell(self) -> AsyncShells:
        """Shells that keep directory, variables and functions."""
        from kernelgate.sdk._async.command import AsyncShells  # noqa: PLC0415

        return AsyncShells(self._transport, self._path)

    @property
    def pty(self) -> AsyncTerminals:
        """Terminals."""
        from kernelgate.sdk._async.terminal import AsyncTerminals  # noqa: PLC0415

        return AsyncTerminals(self._transport, self._path)

    @property
    def env(self) -> AsyncEnvironment:
        """The variables that kernels and commands begin with."""
        from kernelgate.sdk._async.command import AsyncEnvironment  # noqa: PLC0415

        return AsyncEnvironment(self._transport, self._path)

    async def start_interactive_session(self, language: str = "python") -> AsyncInteractive:
        """A prompt of a language, with a kernel of its own."""
        from kernelgate.sdk._async.command import AsyncInteractive  # noqa: PLC0415

        context = await self.contexts.create(language)
        return AsyncInteractive(self.contexts, self.code, context.id)

    @property
    def file_system(self) -> AsyncFileSystem:
        """The session's files."""
        from kernelgate.sdk._async.filesystem import AsyncFileSystem  # noqa: PLC0415

        return AsyncFileSystem(self._transport, self._path)

    fs = file_system
    files = file_system
    filesystem = file_system

    async def refresh(self) -> SessionInfo:
        """Asks the server again."""
        raw = await self._transport.request("GET", self._path, is_safe=True)
        self.info = SessionInfo.from_wire(raw)
        return self.info

    async def update(
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
        raw = await self._transport.request("PATCH", self._path, body=body, is_safe=True)
        self.info = SessionInfo.from_wire(raw)
        return self.info

    async def metrics(self) -> Metrics:
        """What it uses now, and used over the last ten minutes. Asking does not keep it alive."""
        from kernelgate.sdk.metrics import Metrics  # noqa: PLC0415  (for few)

        return Metrics.from_wire(await self._transport.request("GET", f"{self._path}/metrics", is_safe=True))

    async def keep_alive(self) -> SessionInfo:
        """Starts its idle time anew."""
        raw = await self._transport.request("POST", f"{self._path}/keepalive", is_safe=True)
        self.info = SessionInfo.from_wire(raw)
        return self.info

    async def interrupt(self) -> list[str]:
        """Interrupts whatever runs in it; the ids of the executions concerned."""
        raw = await self._transport.request("POST", f"{self._path}/interrupt", is_safe=False)
        return list(raw.get("interrupted") or ())

    async def delete(self) -> None:
        """Ends it, with all that runs in it. Deleting twice is no error."""
        with suppress(errors.NotFound, errors.SessionClosed):
            await self._transport.delete(self._path)

    async def events(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """All that happens in the session, from behind `after`, until the caller leaves."""
        from kernelgate.sdk import events  # noqa: PLC0415  (only for streams)

        async for raw in self._transport.follow(f"{self._path}/events", after=after):
            yield events.from_wire(raw)
