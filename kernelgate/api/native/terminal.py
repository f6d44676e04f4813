"""`/v1/sessions/S/terminals`: make, list, end; and one WebSocket for each terminal, which any number of callers may open."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
from tornado import websocket

from kernelgate.api.base import BaseHandler, error_body
from kernelgate.api.native import command, model, operation
from kernelgate.api.native.socket import SessionSocket
from kernelgate.errors import InvalidRequest, KernelgateError


class TerminalsHandler(BaseHandler):
    """`/v1/sessions/S/terminals`"""

    async def post(self, session_id: str) -> None:
        """Makes a terminal with a shell in it. 201."""
        body = self.body(model.CreateTerminal)
        with self.session(session_id) as session:
            fields: dict[str, Any] = {
                "rows": body.rows,
                "cols": body.cols,
                "cwd": body.cwd,
                "env": model.checked_env(body.env),
                "shell": body.shell,
            }
            header, _ = await session.link.request("terminal_create", **fields)
        self.send(msgspec.to_builtins(operation.checked(header["ok"], model.Terminal)), 201)

    async def get(self, session_id: str) -> None:
        with self.session(session_id) as session:
            found = await operation.ask(self.services, session, "terminals")
        self.send(msgspec.to_builtins(operation.checked(found, model.Terminals)))


class TerminalInputHandler(BaseHandler):
    """`/v1/sessions/S/terminals/T/input`"""

    async def post(self, session_id: str, terminal_id: str) -> None:
        """Types into it. 204."""
        body = self.body(model.TerminalInput)
        with self.session(session_id) as session:
            await session.link.request("terminal_input", command.input_bytes(body.value, body.base64), terminal_id=terminal_id)
        self.set_status(204)
        self.finish()


class TerminalResizeHandler(BaseHandler):
    """`/v1/sessions/S/terminals/T/resize`"""

    async def post(self, session_id: str, terminal_id: str) -> None:
        body = self.body(model.Resize)
        with self.session(session_id) as session:
            found = await operation.ask(self.services, session, "terminal_resize", terminal_id=terminal_id, rows=body.rows, cols=body.cols)
        self.send(msgspec.to_builtins(operation.checked(found, model.Terminal)))


class TerminalSignalHandler(BaseHandler):
    """`/v1/sessions/S/terminals/T/signal`"""

    async def post(self, session_id: str, terminal_id: str) -> None:
        """SIGINT, SIGQUIT and SIGTSTP to what runs in the foreground, as their keys would; others to the shell. 204."""
        body = self.body(model.SendSignal)
        with self.session(session_id) as session:
            await session.link.request("terminal_signal", terminal_id=terminal_id, signal=body.signal)
        self.set_status(204)
        self.finish()


class TerminalHandler(SessionSocket):
    """`/v1/sessions/S/terminals/T`: a WebSocket, or without an upgrade what there is to know of it. The token comes by header, or `?token=`.

    Binary messages are bytes, both ways. Text messages are JSON: `{"resize": [rows, cols]}` and `{"signal": "SIGINT"}` from the caller; `{"exit_code": n}` at the end, and
    `{"error": ...}` for what was refused, to the caller. With `?after=POSITION` (0 at first) also `{"position": n}`, where the bytes that follow begin: at the start, and where some
    were missed.
    """

    what = "terminal"

    async def find(self) -> None:
        self._id = self.path_kwargs["terminal_id"]
        after = self.get_query_argument("after", None)
        if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 18):
            raise InvalidRequest(f"after: a position in what the terminal shows is expected, got {after[:100]!r}")
        self._after = None if after is None else int(after)
        found = await operation.ask(self.services, self.session, "terminal", terminal_id=self._id)
        self._found = msgspec.to_builtins(operation.checked(found, model.Terminal))

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """A WebSocket; without an upgrade, the terminal as JSON."""
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await super().get(*args, **kwargs)
        else:
            self.send_json(self._found)

    async def delete(self, *_: str, **__: str) -> None:
        """Ends it: hangs up, and SIGKILL after two seconds. 204."""
        await operation.ask(self.services, self.session, "terminal_kill", terminal_id=self._id)
        self.set_status(204)
        self.finish()

    def open(self, *_: str, **__: str) -> None:
        super().open()
        self.tasks.start(self._show(), "terminal:show")

    async def _show(self) -> None:
        """What it shows, to the socket, no faster than that takes it."""
        with contextlib.suppress(websocket.WebSocketClosedError):
            try:
                shown = self.session.link.stream("terminal_attach", terminal_id=self._id, after=self._after)
                async with contextlib.aclosing(shown) as frames:
                    async for header, body in frames:
                        if header.get("end"):
                            ended = operation.checked(header.get("ok"), model.Terminal)
                            await self.put(json.dumps({"exit_code": ended.exit_code}))
                            self.close(1000, "the terminal has ended")
                            return
                        if self._after is not None and "position" in header:
                            await self.put(json.dumps({"position": operation.checked(header["position"], int)}))
                        await self.put(body, binary=True)
            except KernelgateError as exc:
                await self._fail(exc)
                self.close(1011, self.told(exc).detail[:100])

    async def _fail(self, error: KernelgateError) -> None:
        error = self.told(error)
        with contextlib.suppress(websocket.WebSocketClosedError):
            await self.put(json.dumps(error_body(error.code, error.detail, self.request_id, error.details)))

    async def on_message(self, message: str | bytes) -> None:
        """The next message is read when this one was taken: keys stay in order, and who only types is held back by the socket."""
        try:
            if isinstance(message, bytes):
                await self.session.link.request("terminal_input", message, terminal_id=self._id)
                return
            try:
                wanted = msgspec.json.decode(message, type=model.TerminalMessage)
            except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as exc:
                raise InvalidRequest(
                    f'text messages are {{"resize": [rows, cols]}} or {{"signal": NAME}}; bytes go as binary ones ({exc})'
                ) from exc
            if wanted.resize is not None:
                rows, cols = wanted.resize
                await operation.ask(self.services, self.session, "terminal_resize", terminal_id=self._id, rows=rows, cols=cols)
            if wanted.signal is not None:
                await self.session.link.request("terminal_signal", terminal_id=self._id, signal=wanted.signal)
        except KernelgateError as exc:
            await self._fail(exc)
