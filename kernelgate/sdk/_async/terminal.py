"""Terminals of a session: `session.pty`."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._async._runtime import call
from kernelgate.sdk.terminals import TerminalInfo, said

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Callable, Mapping
    from types import TracebackType
    from typing import Self

    from kernelgate.sdk._async.transport import AsyncTransport


class AsyncScreen:
    """One who is attached to a terminal: as a context manager, until the end of the block.

    What the terminal shows comes from `output`, what is typed goes to `write`. Several may be attached, and each sees all of it. A connection that is lost is made again by itself;
    what was shown meanwhile, up to 256 KiB, follows.

    Attributes:
        exit_code: of the shell, None until `output` has ended.
    """

    def __init__(self, transport: AsyncTransport, terminal: AsyncTerminal, path: str) -> None:
        self._transport = transport
        self._terminal = terminal
        self._path = path
        self._position = 0
        self._socket: Any = None
        self._is_closed = False
        self.exit_code: int | None = None

    async def __aenter__(self) -> Self:
        self._socket = await self._transport.open_socket(self._path, {"after": self._position})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Leaves the terminal, which goes on."""
        self._is_closed = True
        if self._socket is not None:
            await self._socket.close()

    async def output(self) -> AsyncGenerator[bytes, None]:
        """What the terminal shows, as it comes: first what was last on it, up to 64 KiB; until its shell has ended, or this screen is closed.

        Raises:
            KernelgateError: something that was sent to it was refused, or the server was away for too long.
        """
        from kernelgate.sdk import _sockets  # noqa: PLC0415  (for few)

        if self._socket is None:
            message = "a screen is used in a `with` block"
            raise errors.InvalidUse(message)
        while not self._is_closed:
            try:
                message = await self._socket.recv()
            except _sockets.CLOSED:
                if not self._is_closed:
                    self._socket = await self._transport.open_socket(self._path, {"after": self._position})
                continue
            if isinstance(message, bytes):
                self._position += len(message)
                yield message
                continue
            told = said(message)
            if "position" in told:
                self._position = told["position"]
            elif "exit_code" in told:
                self.exit_code = told["exit_code"]
                return
            elif "error" in told:
                raise errors.from_wire(told["error"])

    async def _sent(self, message: str | bytes) -> bool:
        """Whether the socket took it. One that is lost is made again by who reads; until then there is the long way."""
        from kernelgate.sdk import _sockets  # noqa: PLC0415

        try:
            await self._socket.send(message)
        except _sockets.CLOSED:
            return False
        return True

    async def write(self, data: str | bytes) -> None:
        """Types into it."""
        if not await self._sent(data.encode() if isinstance(data, str) else data):
            await self._terminal.write(data)

    async def resize(self, rows: int, cols: int) -> None:
        """Gives the terminal this size, for all who are attached."""
        if not await self._sent(json.dumps({"resize": [rows, cols]})):
            await self._terminal.resize(rows, cols)

    async def signal(self, signal: str | int) -> None:
        """SIGINT, SIGQUIT and SIGTSTP go to what runs in the foreground, as their keys would; others to the shell."""
        if not await self._sent(json.dumps({"signal": signal})):
            await self._terminal.signal(signal)


class AsyncTerminal:
    """A shell on a terminal of its own. It outlives this client.

    Attributes:
        info: how it was when the server was last asked.
    """

    def __init__(self, transport: AsyncTransport, session_path: str, info: TerminalInfo) -> None:
        self._transport = transport
        self._path = f"{session_path}/terminals/{_wire.quoted(info.id)}"
        self.info: TerminalInfo = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.info.state}>"

    @property
    def id(self) -> str:
        """What `session.pty.get` takes."""
        return self.info.id

    @property
    def pid(self) -> int | None:
        """Of its shell, in the session."""
        return self.info.pid

    def attach(self) -> AsyncScreen:
        """Its screen and keyboard, for a `with` block."""
        return AsyncScreen(self._transport, self, self._path)

    async def wait(self, on_output: Callable[[bytes], Any] | None = None) -> int | None:
        """Waits until its shell has ended, and gives the exit code; the callback hears what it shows meanwhile."""
        async with self.attach() as screen:
            async for data in screen.output():
                if on_output is not None:
                    await call(on_output, data)
        return screen.exit_code

    async def refresh(self) -> TerminalInfo:
        """Asks the server again."""
        self.info = TerminalInfo.from_wire(await self._transport.request("GET", self._path, is_safe=True))
        return self.info

    async def write(self, data: str | bytes) -> None:
        """Types into it, without being attached."""
        body = {"value": data} if isinstance(data, str) else {"base64": base64.b64encode(data).decode()}
        await self._transport.request("POST", f"{self._path}/input", body=body, is_safe=False)

    send_input = write

    async def resize(self, rows: int, cols: int) -> TerminalInfo:
        """Gives it this size, for all who are attached."""
        raw = await self._transport.request("POST", f"{self._path}/resize", body={"rows": rows, "cols": cols}, is_safe=True)
        self.info = TerminalInfo.from_wire(raw)
        return self.info

    async def signal(self, signal: str | int) -> None:
        """SIGINT, SIGQUIT and SIGTSTP go to what runs in the foreground, as their keys would; others to the shell."""
        await self._transport.request("POST", f"{self._path}/signal", body={"signal": signal}, is_safe=False)

    async def kill(self) -> None:
        """Hangs up: ends its shell with what runs in it; by SIGKILL what is still there after two seconds."""
        await self._transport.delete(self._path)


class AsyncTerminals:
    """Terminals of a session: `session.pty`."""

    def __init__(self, transport: AsyncTransport, session_path: str) -> None:
        self._transport = transport
        self._session_path = session_path

    async def create(
        self, *, rows: int = 24, cols: int = 80, cwd: str | None = None, env: Mapping[str, str] | None = None, shell: str | None = None
    ) -> AsyncTerminal:
        """A new one, with a shell that runs.

        Args:
            rows: its height, in lines.
            cols: its width, in characters.
            cwd: where the shell begins; relative to `/workspace`, the default.
            env: variables over the session's.
            shell: a program; bash by default.
        """
        optional = {"cwd": cwd, "env": dict(env) if env else None, "shell": shell}
        body = {"rows": rows, "cols": cols, **{name: value for name, value in optional.items() if value is not None}}
        raw = await self._transport.request("POST", f"{self._session_path}/terminals", body=body, is_safe=False)
        return AsyncTerminal(self._transport, self._session_path, TerminalInfo.from_wire(raw))

    async def get(self, terminal_id: str) -> AsyncTerminal:
        """A terminal by its id, running or ended a moment ago.

        Raises:
            NotFound: there is none of this id in the session.
        """
        path = f"{self._session_path}/terminals/{_wire.quoted(terminal_id)}"
        info = TerminalInfo.from_wire(await self._transport.request("GET", path, is_safe=True))
        return AsyncTerminal(self._transport, self._session_path, info)

    async def list(self) -> builtins.list[AsyncTerminal]:
        """All there are, and those that ended within the last minute."""
        raw = await self._transport.request("GET", f"{self._session_path}/terminals", is_safe=True)
        return [AsyncTerminal(self._transport, self._session_path, TerminalInfo.from_wire(one)) for one in raw.get("terminals") or ()]
