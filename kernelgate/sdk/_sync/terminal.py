# Generated from kernelgate/sdk/_async/terminal.py by tests/tools/unasync.py: change that one.
"""Terminals of a session: `session.pty`."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._sync._runtime import call
from kernelgate.sdk.terminals import TerminalInfo, said

if TYPE_CHECKING:
    import builtins
    from collections.abc import Generator, Callable, Mapping
    from types import TracebackType
    from typing import Self

    from kernelgate.sdk._sync.transport import Transport


class Screen:
    """One who is attached to a terminal: as a context manager, until the end of the block.

    What the terminal shows comes from `output`, what is typed goes to `write`. Several may be attached, and each sees all of it. A connection that is lost is made again by itself;
    what was shown meanwhile, up to 256 KiB, follows.

    Attributes:
        exit_code: of the shell, None until `output` has ended.
    """

    def __init__(self, transport: Transport, terminal: Terminal, path: str) -> None:
        self._transport = transport
        self._terminal = terminal
        self._path = path
        self._position = 0
        self._socket: Any = None
        self._is_closed = False
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        self._socket = self._transport.open_socket(self._path, {"after": self._position})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the terminal, which goes on."""
        self._is_closed = True
        if self._socket is not None:
            self._socket.close()

    def output(self) -> Generator[bytes, None, None]:
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
                message = self._socket.recv()
            except _sockets.CLOSED:
                if not self._is_closed:
                    self._socket = self._transport.open_socket(self._path, {"after": self._position})
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

    def _sent(self, message: str | bytes) -> bool:
        """Whether the socket took it. One that is lost is made again by who reads; until then there is the long way."""
        from kernelgate.sdk import _sockets  # noqa: PLC0415

        try:
            self._socket.send(message)
        except _sockets.CLOSED:
            return False
        return True

    def write(self, data: str | bytes) -> None:
        """Types into it."""
        if not self._sent(data.encode() if isinstance(data, str) else data):
            self._terminal.write(data)

    def resize(self, rows: int, cols: int) -> None:
        """Gives the terminal this size, for all who are attached."""
        if not self._sent(json.dumps({"resize": [rows, cols]})):
            self._terminal.resize(rows, cols)

    def signal(self, signal: str | int) -> None:
        """SIGINT, SIGQUIT and SIGTSTP go to what runs in the foreground, as their keys would; others to the shell."""
        if not self._sent(json.dumps({"signal": signal})):
            self._terminal.signal(signal)


class Terminal:
    """A shell on a terminal of its own. It outlives this client.

    Attributes:
        info: how it was when the server was last asked.
    """

    def __init__(self, transport: Transport, session_path: str, info: TerminalInfo) -> None:
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

    def attach(self) -> Screen:
        """Its screen and keyboard, for a `with` block."""
        return Screen(self._transport, self, self._path)

    def wait(self, on_output: Callable[[bytes], Any] | None = None) -> int | None:
        """Waits until its shell has ended, and gives the exit code; the callback hears what it shows meanwhile."""
        with self.attach() as screen:
            for data in screen.output():
                if on_output is not None:
                    call(on_output, data)
        return screen.exit_code

    def refresh(self) -> TerminalInfo:
        """Asks the server again."""
        self.info = TerminalInfo.from_wire(self._transport.request("GET", self._path, is_safe=True))
        return self.info

    def write(self, data: str | bytes) -> None:
        """Types into it, without being attached."""
        body = {"value": data} if isinstance(data, str) else {"base64": base64.b64encode(data).decode()}
        self._transport.request("POST", f"{self._path}/input", body=body, is_safe=False)

    send_input = write

    def resize(self, rows: int, cols: int) -> TerminalInfo:
        """Gives it this size, for all who are attached."""
        raw = self._transport.request("POST", f"{self._path}/resize", body={"rows": rows, "cols": cols}, is_safe=True)
        self.info = TerminalInfo.from_wire(raw)
        return self.info

    def signal(self, signal: str | int) -> None:
        """SIGINT, SIGQUIT and SIGTSTP go to what runs in the foreground, as their keys would; others to the shell."""
        self._transport.request("POST", f"{self._path}/signal", body={"signal": signal}, is_safe=False)

    def kill(self) -> None:
        """Hangs up: ends its shell with what runs in it; by SIGKILL what is still there after two seconds."""
        self._transport.delete(self._path)


class Terminals:
    """Terminals of a session: `session.pty`."""

    def __init__(self, transport: Transport, session_path: str) -> None:
        self._transport = transport
        self._session_path = session_path

    def create(
        self, *, rows: int = 24, cols: int = 80, cwd: str | None = None, env: Mapping[str, str] | None = None, shell: str | None = None
    ) -> Terminal:
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
        raw = self._transport.request("POST", f"{self._session_path}/terminals", body=body, is_safe=False)
        return Terminal(self._transport, self._session_path, TerminalInfo.from_wire(raw))

    def get(self, terminal_id: str) -> Terminal:
        """A terminal by its id, running or ended a moment ago.

        Raises:
            NotFound: there is none of this id in the session.
        """
        path = f"{self._session_path}/terminals/{_wire.quoted(terminal_id)}"
        info = TerminalInfo.from_wire(self._transport.request("GET", path, is_safe=True))
        return Terminal(self._transport, self._session_path, info)

    def list(self) -> builtins.list[Terminal]:
        """All there are, and those that ended within the last minute."""
        raw = self._transport.request("GET", f"{self._session_path}/terminals", is_safe=True)
        return [Terminal(self._transport, self._session_path, TerminalInfo.from_wire(one)) for one in raw.get("terminals") or ()]
