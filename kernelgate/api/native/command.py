"""`/v1/sessions/S/commands`: run programs, follow them, write to them, signal them."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

import msgspec
from msgspec import UNSET

from kernelgate import ids
from kernelgate.api.base import BaseHandler, Services
from kernelgate.api.native import model, operation
from kernelgate.api.native.execution import StreamingHandler
from kernelgate.api.native.session import next_token, page_limit, page_token
from kernelgate.errors import CommandNotFound, InvalidRequest
from kernelgate.sessions.history import History
from kernelgate.sessions.session import Session

#: How long a command may run that says nothing about it; one in the background has no limit.
TIMEOUT_S = 60.0


def fields_of(services: Services, session: Session, body: model.CreateCommand, request_id: str) -> dict[str, Any]:
    """The fields of a host's `command`, but for `mode` and `after`. Raises InvalidRequest."""
    limits = services.settings.executions
    # What runs in the background runs for as long as it was told, or for ever: a server is no execution.
    if body.background:
        timeout_s = None if body.timeout_s is UNSET else body.timeout_s
    else:
        timeout_s = operation.time_limit(session, body.timeout_s, TIMEOUT_S)
    for part in [body.command, body.cwd or ""] if isinstance(body.command, str) else [*body.command, body.cwd or ""]:
        _checked_text(part)
    if not isinstance(body.command, str) and not body.command[0]:
        raise InvalidRequest("command: the first of the list is the program, and is empty")
    given = body.stdin is not None or body.stdin_base64 is not None
    return {
        "command_id": body.id or ids.new_execution_id(), "command": body.command, "cwd": body.cwd, "env": model.checked_env(body.env), "timeout_s": timeout_s,
        "stdin": base64.b64encode(input_bytes(body.stdin, body.stdin_base64)).decode() if given else None,
        "stdin_open": body.background and not given if body.stdin_open is None else body.stdin_open,
        "background": body.background, "merge": body.merge, "encoding": body.encoding, "artifacts": model.wanted_artifacts(body.artifacts),
        "output_bytes": operation.output_limit(session, "max_output_bytes", body.max_output_bytes, limits.max_output_bytes),
        "cpu_time_s": None if body.background else session.row.limits["cpu_time_s"], "request_id": request_id,
    }  # fmt: skip


def _checked_text(text: str) -> None:
    if "\0" in text:
        raise InvalidRequest("command: a NUL character cannot be passed to a program", code="invalid_command")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest("command: Unicode text is expected", code="invalid_command") from exc


def input_bytes(text: str | None, encoded: str | None) -> bytes:
    """Text or base64, whichever was given. Raises InvalidRequest."""
    if text is not None and encoded is not None:
        raise InvalidRequest("stdin: give text or base64, not both")
    try:
        return (text or "").encode() if encoded is None else base64.b64decode(encoded, validate=True)
    except UnicodeEncodeError as exc:
        raise InvalidRequest("stdin: Unicode text is expected") from exc
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest("stdin: this is no base64") from exc


async def result(services: Services, session: Session, op: str, **fields: Any) -> bytes:
    """A command's result as JSON."""
    return (await operation.result_of(services, session, model.Command, op, **fields))[0]


async def answer(
    handler: StreamingHandler, session: Session, op: str, fields: dict[str, Any], *, background: bool, on_disconnect: str
) -> None:
    """Starts a command and answers as the caller asked: with its events, at once, when it runs in the background, or when it has ended."""
    services, kind = handler.services, handler.wanted_stream()
    with session:
        if kind is not None:
            if await handler.stream(kind, operation.events(services, session, op, **fields), accepted=False):
                return
        elif handler.get_query_argument("wait", "true") == "false":
            handler.send_bytes(await result(services, session, op, mode="accept", **fields), 202)
            return
        else:
            made = await handler.unless_gone(result(services, session, op, mode="started" if background else "result", **fields))
            if made is not None:
                handler.send_bytes(made, 201 if background else 200)
                return
        if on_disconnect == "kill":
            await operation.unwatched(result(services, session, "command_kill", command_id=fields["command_id"], grace_s=1.0))


class CommandsHandler(StreamingHandler):
    """`/v1/sessions/S/commands`"""

    async def post(self, session_id: str) -> None:
        """Runs a command. JSON when it has ended (in the background: 201 when it runs; `?wait=false`: 202 at once), or a stream by `Accept`."""
        body = self.body(model.CreateCommand)
        session = self.session(session_id)
        fields = fields_of(self.services, session, body, self.request_id)
        self.set_header("Location", f"/v1/sessions/{session_id}/commands/{fields['command_id']}")
        await answer(self, session, "command", fields, background=body.background, on_disconnect=body.on_disconnect)

    async def get(self, session_id: str) -> None:
        """The commands, newest first, without their outputs; with `?running=true` those that run."""
        limit, token = page_limit(self), page_token(self, tuple[str])
        before, running = token[0] if token else None, self.get_query_argument("running", "false") == "true"
        keeper = self.services.keeper
        row = keeper.row(self.token.id, session_id)
        if row.state == "running":
            found = await operation.ask(self.services, self.session(session_id), "commands", limit=limit, before=before, running=running)
        elif running:
            found = {"commands": [], "more": False}
        else:
            found = await asyncio.to_thread(History(keeper.node.directory(row.id)).commands, limit, before)
        page = [msgspec.to_builtins(operation.checked(one, model.CommandSummary)) for one in found["commands"]]
        self.send({"commands": page, "next_page_token": next_token([page[-1]["id"]]) if found["more"] else None})


class CommandHandler(StreamingHandler):
    """`/v1/sessions/S/commands/P`"""

    async def get(self, session_id: str, command_id: str) -> None:
        """The result so far, with `?wait=true` when it has ended, or by `Accept` its events after `?after=` or `Last-Event-ID`."""
        keeper = self.services.keeper
        row = keeper.row(self.token.id, session_id)
        kind, after = self.wanted_stream(), self.after()
        if row.state != "running":
            history = History(keeper.node.directory(row.id))
            if not await asyncio.to_thread(history.has_command, command_id):
                raise CommandNotFound(f"there is no command {command_id!r} in this session")
            if kind is None:
                self.send(await asyncio.to_thread(history.command, command_id))
            else:
                await self.stream(kind, history.events(command_id, after))
            return
        with self.session(session_id) as session:
            if kind is not None:
                await self.stream(
                    kind, operation.events(self.services, session, "command_attach", after=after, command_id=command_id), accepted=False
                )
                return
            mode = "result" if self.get_query_argument("wait", "false") == "true" else "accept"
            made = await self.unless_gone(result(self.services, session, "command_attach", command_id=command_id, mode=mode))
            if made is not None:
                self.send_bytes(made)


class CommandStdinHandler(BaseHandler):
    """`/v1/sessions/S/commands/P/stdin`"""

    async def post(self, session_id: str, command_id: str) -> None:
        """Writes to its input, and with `eof` closes it. 204; 409 where it takes none."""
        body = self.body(model.CommandInput)
        data = base64.b64encode(input_bytes(body.value, body.base64)).decode()
        with self.session(session_id) as session:
            # Not twice: what was written once may have been read.
            await session.link.request("command_stdin", command_id=command_id, data=data, eof=body.eof)
        self.set_status(204)
        self.finish()


class CommandSignalHandler(BaseHandler):
    """`/v1/sessions/S/commands/P/signal`"""

    async def post(self, session_id: str, command_id: str) -> None:
        """Sends a signal to its process group. The result so far."""
        body = self.body(model.SendSignal)
        with self.session(session_id) as session:
            self.send_bytes(await result(self.services, session, "command_signal", command_id=command_id, signal=body.signal))


class CommandKillHandler(StreamingHandler):
    """`/v1/sessions/S/commands/P/kill`"""

    async def post(self, session_id: str, command_id: str) -> None:
        """Ends it: SIGTERM to its group, SIGKILL after the grace. The result, when it has ended."""
        body = self.body(model.Kill)
        with self.session(session_id) as session:
            made = await self.unless_gone(result(self.services, session, "command_kill", command_id=command_id, grace_s=body.grace_s))
            if made is not None:
                self.send_bytes(made)
