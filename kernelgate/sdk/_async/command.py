"""Commands, processes, shells and the environment of a session: `session.command`, `.processes`, `.shell`, `.env`."""

from __future__ import annotations

import base64
import posixpath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._async._runtime import call
from kernelgate.sdk.artifacts import wanted
from kernelgate.sdk.commands import CommandResult, ProcessInfo

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from kernelgate.sdk._async.code import AsyncCode
    from kernelgate.sdk._async.context import AsyncContexts
    from kernelgate.sdk._async.transport import AsyncTransport
    from kernelgate.sdk.artifacts import Wanted
    from kernelgate.sdk.models import Json, Result

Encoding: TypeAlias = Literal["text", "base64", "binary"]
OnData: TypeAlias = "Callable[[str], Any]"

_INTERPRETERS = {"py": "python3", "js": "node", "mjs": "node", "sh": "bash", "bash": "bash", "r": "Rscript", "pl": "perl"}


def _body(
    command: str | Sequence[str],
    timeout_s: float | None,
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    stdin_open: bool | None = None,
    background: bool = False,
    merge: bool = False,
    encoding: Encoding = "text",
    max_output_bytes: int | None = None,
    artifacts: Wanted | None = None,
    command_id: str | None = None,
    on_disconnect: str = "continue",
) -> Json:
    """The body that starts a command."""
    given: Mapping[Any, Any] = env or {}
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            message = f"env: {name!r} is set to {value!r}; names and values are text"
            raise errors.InvalidUse(message)
    optional = {
        "cwd": cwd,
        "env": dict(env) if env else None,
        "stdin": stdin if isinstance(stdin, str) else None,
        "stdin_base64": base64.b64encode(stdin).decode() if isinstance(stdin, bytes) else None,
        "stdin_open": stdin_open,
        "background": background or None,
        "merge": merge or None,
        "encoding": None if encoding == "text" else "base64",
        "max_output_bytes": max_output_bytes,
        "artifacts": wanted(artifacts),
        "on_disconnect": None if on_disconnect == "continue" else on_disconnect,
    }
    body: Json = {name: value for name, value in optional.items() if value is not None}
    body["command"] = command if isinstance(command, str) else list(command)
    body["id"] = _wire.new_id("p-") if command_id is None else command_id
    body["timeout_s"] = timeout_s
    return body


class AsyncProcess:
    """A command that runs, or ran: its input, its output, its end."""

    def __init__(self, transport: AsyncTransport, path: str, result: CommandResult) -> None:
        self._transport = transport
        self._path = path
        self._session_path = path.rpartition("/commands/")[0]
        self.result: CommandResult = result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.result.state}>"

    @property
    def id(self) -> str:
        """What `session.command.get` and `attach` take."""
        return self.result.id

    @property
    def pid(self) -> int | None:
        """In the session."""
        return self.result.pid

    async def refresh(self) -> CommandResult:
        """The result so far."""
        self.result = CommandResult.from_wire(await self._transport.request("GET", self._path, is_safe=True))
        return self.result

    async def is_alive(self) -> bool:
        """Whether it runs."""
        return (await self.refresh()).state != "done"

    async def info(self) -> ProcessInfo:
        """How its process does.

        Raises:
            NotFound: it has ended.
        """
        raw = await self._transport.request("GET", f"{self._session_path}/processes", is_safe=True)
        for one in raw.get("processes") or ():
            if one.get("command_id") == self.id:
                return ProcessInfo.from_wire(one)
        message = f"command {self.id} has no process any more"
        raise errors.NotFound(message, code="process_not_found")

    get_info = info

    async def output(self) -> AsyncGenerator[tuple[str, str], None]:
        """(`stdout` or `stderr`, text) as it comes, from the beginning to the end of the command."""
        commands, _, name = self._path.rpartition("/")
        async for raw in self._transport.follow(commands, execution_id=name):
            if raw["type"] in ("stdout", "stderr"):
                yield raw["type"], _text(raw)

    async def write(self, data: str | bytes, *, eof: bool = False) -> None:
        """Writes to its input.

        Raises:
            Conflict: it takes none any more.
        """
        body: Json = {"value": data} if isinstance(data, str) else {"base64": base64.b64encode(data).decode()}
        await self._transport.request("POST", f"{self._path}/stdin", body={**body, "eof": eof}, is_safe=False)

    async def close_stdin(self) -> None:
        """Its input ends here."""
        await self.write("", eof=True)

    async def signal(self, signal: str | int) -> None:
        """To it and what it started."""
        await self._transport.request("POST", f"{self._path}/signal", body={"signal": signal}, is_safe=False)

    async def kill(self, grace_s: float = 2.0) -> CommandResult:
        """SIGTERM, and SIGKILL after the grace; to it and what it started. The result."""
        raw = await self._transport.request("POST", f"{self._path}/kill", body={"grace_s": grace_s}, is_safe=True)
        self.result = CommandResult.from_wire(raw)
        return self.result

    async def wait(self, *, on_stdout: OnData | None = None, on_stderr: OnData | None = None, check: bool = False) -> CommandResult:
        """Waits for its end, however long it takes; callbacks hear what it puts out, from the beginning."""
        async for stream, text in self.output():
            heard = on_stdout if stream == "stdout" else on_stderr
            if heard is not None:
                await call(heard, text)
        result = await self.refresh()
        return result.raise_for_error() if check else result


def _text(raw: Json) -> str:
    return base64.b64decode(raw["base64"]).decode("utf-8", "replace") if "base64" in raw else str(raw["text"])


class AsyncCommands:
    """Runs programs in a session: `session.command`."""

    def __init__(self, transport: AsyncTransport, session_path: str, cwd: str | None = None) -> None:
        self._transport = transport
        self._path = f"{session_path}/commands"
        self._cwd = cwd

    def _where(self, cwd: str | None) -> str | None:
        """A directory as the caller gives it, from where `session.cd` has gone to."""
        return posixpath.join(self._cwd, cwd) if self._cwd is not None and cwd is not None else cwd or self._cwd

    async def execute(
        self,
        command: str | Sequence[str],
        args: Sequence[str] | None = None,
        timeout_s: float | None = 60.0,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        encoding: Encoding = "text",
        merge: bool = False,
        max_output_bytes: int | None = None,
        artifacts: Wanted | None = None,
        command_id: str | None = None,
        check: bool = False,
        on_stdout: OnData | None = None,
        on_stderr: OnData | None = None,
        on_disconnect: Literal["continue", "kill"] = "continue",
        timeout_ms: float | None = None,
        envs: Mapping[str, str] | None = None,
        input: str | bytes | None = None,  # noqa: A002  (the name other SDKs have)
        max_output_size: int | None = None,
    ) -> CommandResult:
        """Runs a command and returns when it has ended. `exec` and `execute_command` are the same.

        Args:
            command: text for bash; or a program and its arguments, without a shell.
            args: arguments; the command is then a program, and no shell sees it.
            timeout_s: after so long it is ended, SIGTERM first; None for no limit.
            cwd: where; relative to `/workspace`, the default.
            env: variables for this command alone, over the session's.
            stdin: what it reads; nothing by default.
            encoding: `base64` (or `binary`) for output that is no text: `result.stdout_bytes` has it.
            merge: stderr goes where stdout goes, in order.
            max_output_bytes: beyond it the middle is cut, and `result.truncated` says how much.
            artifacts: paths and globs of files, relative to where it runs: those that it makes or changes come with the result. Or `{"patterns": [...], "max_bytes": n}`: so much of
                their contents at the most (1 MiB by default).
            command_id: to find it by; repeating one attaches to it in place of running twice.
            check: a command that fails raises.
            on_stdout: called with each piece while it runs.
            on_stderr: the same.
            on_disconnect: `kill` ends it if this client goes away.
            timeout_ms: in place of `timeout_s`.
            envs: the same as `env`.
            input: the same as `stdin`.
            max_output_size: the same as `max_output_bytes`.

        Raises:
            ExecutionError: with `check`: it failed; CommandTimeout (a TimeoutError) and AbortError are such.
        """
        body = _body(
            command if args is None else [str(command), *args],
            timeout_s if timeout_ms is None else timeout_ms / 1000,
            cwd=self._where(cwd),
            env={**(env or {}), **(envs or {})},
            stdin=input if stdin is None else stdin,
            encoding=encoding,
            merge=merge,
            max_output_bytes=max_output_size if max_output_bytes is None else max_output_bytes,
            artifacts=artifacts,
            command_id=command_id,
            on_disconnect=on_disconnect,
        )
        return await self._run(self._path, body, check=check, on_stdout=on_stdout, on_stderr=on_stderr)

    exec = execute
    execute_command = execute

    async def run(
        self,
        command: str,
        args: Sequence[str] = (),
        timeout_s: float | None = 60.0,
        *,
        interpreter: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        check: bool = False,
        **more: Any,
    ) -> CommandResult:
        """Runs a script file, by the interpreter that its suffix names; anything else as `execute` does.

        Args:
            command: the file, or a command.
            args: arguments.
            interpreter: in place of the one for the suffix.
            timeout_s: and the others: as for `execute`.
        """
        suffix = command.rpartition(".")[2].lower() if "." in command and " " not in command else ""
        program = interpreter or _INTERPRETERS.get(suffix)
        if program is not None:
            return await self.execute(program, [command, *args], timeout_s, cwd=cwd, env=env, stdin=stdin, check=check, **more)
        return await self.execute(command, args or None, timeout_s, cwd=cwd, env=env, stdin=stdin, check=check, **more)

    async def _run(
        self, path: str, body: Json, *, check: bool, on_stdout: OnData | None = None, on_stderr: OnData | None = None
    ) -> CommandResult:
        name = _wire.quoted(body["id"])
        if on_stdout is None and on_stderr is None and path == self._path:
            result = CommandResult.from_wire(await self._transport.wait_for_result(path, body))
        else:
            raw = await self._transport.request("POST", path, body=body, query={"wait": False}, is_safe=True)
            process = AsyncProcess(self._transport, f"{self._path}/{name}", CommandResult.from_wire(raw))
            result = await process.wait(on_stdout=on_stdout, on_stderr=on_stderr)
        return result.raise_for_error() if check else result

    async def start(
        self,
        command: str | Sequence[str],
        args: Sequence[str] | None = None,
        timeout_s: float | None = None,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        stdin_open: bool | None = None,
        encoding: Encoding = "text",
        merge: bool = False,
        max_output_bytes: int | None = None,
        artifacts: Wanted | None = None,
        command_id: str | None = None,
    ) -> AsyncProcess:
        """Starts a command in the background, with its input open, and returns once it runs. It outlives this client."""
        body = _body(
            command if args is None else [str(command), *args],
            timeout_s,
            cwd=self._where(cwd),
            env=env,
            stdin=stdin,
            stdin_open=stdin_open,
            background=True,
            encoding=encoding,
            merge=merge,
            max_output_bytes=max_output_bytes,
            artifacts=artifacts,
            command_id=command_id,
        )
        raw = await self._transport.request("POST", self._path, body=body, is_safe=True)
        return AsyncProcess(self._transport, f"{self._path}/{_wire.quoted(body['id'])}", CommandResult.from_wire(raw))

    start_background = start
    exec_stream = start

    async def get(self, command_id: str) -> AsyncProcess:
        """A command by its id, running or ended.

        Raises:
            NotFound: there is none of this id in the session.
        """
        path = f"{self._path}/{_wire.quoted(command_id)}"
        return AsyncProcess(self._transport, path, CommandResult.from_wire(await self._transport.request("GET", path, is_safe=True)))

    async def list(self, *, running: bool | None = None, limit: int = 100) -> builtins.list[CommandResult]:
        """Commands, newest first, without what they put out."""
        raw = await self._transport.request("GET", self._path, query={"running": running, "limit": limit}, is_safe=True)
        return [CommandResult.from_wire(one) for one in raw.get("commands") or ()]


class AsyncProcesses:
    """What runs in a session, whoever started it: `session.processes`."""

    def __init__(self, transport: AsyncTransport, session_path: str) -> None:
        self._transport = transport
        self._path = f"{session_path}/processes"

    async def list(self, filter: str | Callable[[ProcessInfo], bool] | None = None) -> builtins.list[ProcessInfo]:  # noqa: A002 - the seeds' word
        """The processes; with a regular expression those whose command line it finds something in, with a function those it says yes to. `ps` is the same."""
        query = {"filter": filter if isinstance(filter, str) else None}
        raw = await self._transport.request("GET", self._path, query=query, is_safe=True)
        found = [ProcessInfo.from_wire(one) for one in raw.get("processes") or ()]
        return [one for one in found if filter(one)] if callable(filter) else found

    ps = list  # noqa: A003 - the method above

    async def kill(self, pid: int, signal: str | int = "SIGTERM", *, timeout_s: float | None = None) -> bool:
        """Signals a process; with a timeout, SIGKILL follows if it is still there then. Whether it had to.

        Raises:
            NotFound: there is no such process in the session.
        """
        raw = await self._kill({"pid": pid}, signal, timeout_s)
        return pid in (raw.get("forced") or ())

    async def kill_all(self, pattern: str, signal: str | int = "SIGTERM", *, timeout_s: float | None = None) -> builtins.list[int]:
        """Signals every process, but for kernels, whose command line the regular expression finds something in. Which. `killall` is the same."""
        return list((await self._kill({"pattern": pattern}, signal, timeout_s)).get("signalled") or ())

    killall = kill_all

    async def _kill(self, which: Json, signal: str | int, timeout_s: float | None) -> Json:
        body = {**which, "signal": signal, "grace_s": timeout_s}
        return await self._transport.request("POST", f"{self._path}/kill", body=body, is_safe=False)

    async def monitor(self, pid: int, interval_s: float = 1.0) -> AsyncGenerator[ProcessInfo, None]:
        """How a process does, each interval, until it ends or the caller leaves."""
        async for raw in self._transport.watch(f"{self._path}/{pid}/stats", {"interval_s": interval_s}):
            yield ProcessInfo.from_wire(raw)


class AsyncEnvironment:
    """The variables of a session, which kernels and commands begin with: `session.env`."""

    def __init__(self, transport: AsyncTransport, session_path: str) -> None:
        self._transport = transport
        self._path = f"{session_path}/env"

    async def get(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """All of them, or those of these names. Not what every session has, like PATH."""
        query = {"name": None if names is None else tuple(names)}
        return dict((await self._transport.request("GET", self._path, query=query, is_safe=True))["env"])

    async def set(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Sets these, leaves the others. Kernels that run have them with their next execution."""
        body = {"env": dict(variables)}
        return dict((await self._transport.request("PUT", self._path, body=body, is_safe=True))["env"])

    async def unset(self, *names: str) -> dict[str, str]:
        """Unsets these, or all. A kernel that runs has them until it is restarted."""
        return dict((await self._transport.request("DELETE", self._path, query={"name": names}, is_safe=True))["env"])


class AsyncShell:
    """A shell that keeps its directory, variables and functions from command to command."""

    def __init__(self, transport: AsyncTransport, session_path: str, info: Json) -> None:
        self._transport = transport
        self._path = f"{session_path}/shells/{_wire.quoted(info['id'])}"
        self._commands = AsyncCommands(transport, session_path)
        self.id: str = info["id"]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def run(
        self,
        command: str,
        timeout_s: float | None = 60.0,
        *,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        artifacts: Wanted | None = None,
        check: bool = False,
        on_stdout: OnData | None = None,
        on_stderr: OnData | None = None,
    ) -> CommandResult:
        """Runs a command and returns when it has ended. `exec` is the same.

        Raises:
            Conflict: another one still runs.
            ExecutionError: with `check`: it failed.
        """
        body = _body(command, timeout_s, env=env, stdin=stdin, artifacts=artifacts)
        run = self._commands._run  # noqa: SLF001
        return await run(f"{self._path}/run", body, check=check, on_stdout=on_stdout, on_stderr=on_stderr)

    exec = run

    async def close(self) -> None:
        """Ends it."""
        await self._transport.delete(self._path)


class AsyncShells:
    """Shells of a session: `session.shell`."""

    def __init__(self, transport: AsyncTransport, session_path: str) -> None:
        self._transport = transport
        self._session_path = session_path

    async def create(self, *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> AsyncShell:
        """A new one."""
        optional = {"cwd": cwd, "env": dict(env) if env else None}
        body = {name: value for name, value in optional.items() if value is not None}
        raw = await self._transport.request("POST", f"{self._session_path}/shells", body=body, is_safe=False)
        return AsyncShell(self._transport, self._session_path, raw)

    async def list(self) -> builtins.list[AsyncShell]:
        """All there are."""
        raw = await self._transport.request("GET", f"{self._session_path}/shells", is_safe=True)
        return [AsyncShell(self._transport, self._session_path, one) for one in raw.get("shells") or ()]


class AsyncInteractive:
    """A prompt of a language: what is sent is run, and what was said before still holds."""

    def __init__(self, contexts: AsyncContexts, code: AsyncCode, context_id: str) -> None:
        self._contexts, self._code = contexts, code
        self.id: str = context_id

    async def send(self, code: str, timeout_s: float | None = 60.0) -> Result:
        """Runs a line or more; `result.output` is what a prompt would have shown."""
        return await self._code.run(code, timeout_s=timeout_s, context=self.id)

    async def close(self) -> None:
        """Ends its kernel."""
        await self._contexts.delete(self.id)
