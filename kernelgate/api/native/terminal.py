"""`/v1/sessions/S/terminals`: make, list, end; and one WebSocket for each terminal, which any number of callers may open."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import msgspec
from tornado import websocket

from kernelgate._aio import Tasks
from kernelgate.api.base import BaseHandler, Guarded, Services, error_body
from kernelgate.api.errors import status_of
from kernelgate.api.native import command, model, operation
from kernelgate.errors import Draining, InvalidRequest, KernelgateError
from kernelgate.sessions.session import Session


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


class TerminalHandler(Guarded, websocket.WebSocketHandler):
    """`/v1/sessions/S/terminals/T`: a WebSocket, or without an upgrade what there is to know of it. The token comes by header, or `?token=`.

    Binary messages are bytes, both ways. Text messages are JSON: `{"resize": [rows, cols]}` and `{"signal": "SIGINT"}` from the caller; `{"exit_code": n}` at the end, and
    `{"error": ...}` for what was refused, to the caller.
    """

    def initialize(self, services: Services) -> None:
        self.services = services
        self._tasks = Tasks()
        self._session: Session | None = None
        self._id = ""
        self._opened = False

    async def prepare(self) -> None:
        self.request_id = self.take_request_id()
        self.set_header("X-Request-Id", self.request_id)
        try:
            self.check_host()
            self.check_origin_allowed()
            token = self.authenticate(query=True)
            if self.services.draining:
                raise Draining("this server is stopping; try again in a moment")
            self._session = self.services.keeper.get(token.id, self.path_kwargs["session_id"])
            self._id = self.path_kwargs["terminal_id"]
            found = await operation.ask(self.services, self._session, "terminal", terminal_id=self._id)
            self._found = msgspec.to_builtins(operation.checked(found, model.Terminal))
        except KernelgateError as exc:
            self.set_status(status_of(exc))
            self._json(error_body(exc.code, exc.detail, self.request_id, exc.details))

    def _json(self, value: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """A WebSocket; without an upgrade, the terminal as JSON."""
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await super().get(*args, **kwargs)
        else:
            self._json(self._found)

    async def delete(self, *_: str, **__: str) -> None:
        """Ends it: hangs up, and SIGKILL after two seconds. 204."""
        assert self._session is not None
        await operation.ask(self.services, self._session, "terminal_kill", terminal_id=self._id)
        self.set_status(204)
        self.finish()

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002 - Tornado's signature
        return True  # prepare has checked it, and answers with a reason

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)
        assert self._session is not None
        self._opened = True
        self._session.busy += 1
        self.services.metrics.streams.inc()
        self.services.channels.add(self)
        self._tasks.start(self._show(self._session), "terminal:show")

    def on_close(self) -> None:
        if not self._opened:
            return
        assert self._session is not None
        self._session.busy -= 1
        self._session.touch()
        self.services.channels.discard(self)
        self.services.metrics.streams.dec()
        self.services.tasks.start(self._tasks.close(), "terminal:close")

    def drain(self) -> None:
        """The server is stopping; the terminal is not."""
        self.close(1012, "the server is restarting; connect again")

    async def _show(self, session: Session) -> None:
        """What it shows, to the socket, no faster than that takes it."""
        with contextlib.suppress(websocket.WebSocketClosedError):
            try:
                async with contextlib.aclosing(session.link.stream("terminal_attach", terminal_id=self._id)) as frames:
                    async for header, body in frames:
                        if header.get("end"):
                            ended = operation.checked(header.get("ok"), model.Terminal)
                            await self.write_message(json.dumps({"exit_code": ended.exit_code}))
                            self.close(1000, "the terminal has ended")
                        elif not await self._written(self.write_message(body, binary=True)):
                            self.close(1013, "the reader takes nothing")
                            return
            except KernelgateError as exc:
                await self._fail(exc)
                self.close(1011, "the session's host went away; connect again")

    async def _written(self, future: asyncio.Future[None]) -> bool:
        done, _ = await asyncio.wait({future}, timeout=self.services.settings.server.write_timeout_s)
        if not done:
            future.add_done_callback(lambda given_up: given_up.cancelled() or given_up.exception())
            return False
        future.result()
        return True

    async def _fail(self, error: KernelgateError) -> None:
        with contextlib.suppress(websocket.WebSocketClosedError):
            await self.write_message(json.dumps(error_body(error.code, error.detail, self.request_id, error.details)))

    async def on_message(self, message: str | bytes) -> None:
        """The next message is read when this one was taken: keys stay in order, and who only types is held back by the socket."""
        assert self._session is not None
        try:
            if isinstance(message, bytes):
                await self._session.link.request("terminal_input", message, terminal_id=self._id)
                return
            try:
                wanted = msgspec.json.decode(message, type=model.TerminalMessage)
            except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as exc:
                raise InvalidRequest(
                    f'text messages are {{"resize": [rows, cols]}} or {{"signal": NAME}}; bytes go as binary ones ({exc})'
                ) from exc
            if wanted.resize is not None:
                await operation.ask(
                    self.services, self._session, "terminal_resize", terminal_id=self._id, rows=wanted.resize[0], cols=wanted.resize[1]
                )
            if wanted.signal is not None:
                await self._session.link.request("terminal_signal", terminal_id=self._id, signal=wanted.signal)
        except KernelgateError as exc:
            await self._fail(exc)
