"""`/v1/sessions/S/channel`: one WebSocket for everything of a session, both ways.

Every request runs beside the others and is answered under its own id. Writing waits for the socket, so a slow reader holds back its own streams and nothing else; one that
takes nothing for `server.write_timeout_s` is closed with 1013.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from tornado import websocket

from kernelgate import ids
from kernelgate.api.base import Services, error_body
from kernelgate.api.native import command, file_model, files, model, operation
from kernelgate.api.native.context import QUESTIONS, question
from kernelgate.api.native.socket import SessionSocket
from kernelgate.errors import Conflict, InvalidRequest, KernelgateError

#: Requests of one socket under way at once.
_MAX_REQUESTS = 256


class ChannelHandler(SessionSocket):
    """Authenticated by header or `?token=`."""

    what = "channel"

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self._requests: dict[str, asyncio.Task[Any]] = {}

    async def on_message(self, message: str | bytes) -> None:
        """The next message is read when this one has been taken: a caller who only sends is held back by its own socket."""
        try:
            request = msgspec.json.decode(message)  # stricter than json.loads: no NaN, no half surrogates
            if not isinstance(request, dict) or not isinstance(request.get("id"), str) or not ids.is_caller_id(request["id"]):
                raise InvalidRequest("a message is a JSON object with an `id` of 1 to 128 characters of A-Za-z0-9_.:-")
        except (ValueError, RecursionError, InvalidRequest) as exc:
            error = exc if isinstance(exc, InvalidRequest) else InvalidRequest(f"the message is not JSON: {exc}", code="invalid_json")
            await self._fail(None, error)
            return
        key = request.pop("id")
        if key in self._requests or len(self._requests) >= _MAX_REQUESTS:
            reason = (
                "an earlier request with this id is not answered yet"
                if key in self._requests
                else f"{_MAX_REQUESTS} requests are under way on this socket"
            )
            await self._fail(key, Conflict(reason))
            return
        task = self._requests[key] = self.tasks.start(self._serve(key, request), f"channel:{key}")
        task.add_done_callback(lambda _: self._free(key, task))

    def _free(self, key: str, task: asyncio.Task[Any] | None) -> None:
        """Its caller may use the id again: from the last message on, not from when that has been taken."""
        if self._requests.get(key) is task:
            del self._requests[key]

    async def _fail(self, key: str | None, error: KernelgateError) -> None:
        error = self.told(error)
        with contextlib.suppress(websocket.WebSocketClosedError):
            await self._send({"id": key, **error_body(error.code, error.detail, self.request_id, error.details)})

    async def _send(self, message: dict[str, Any]) -> None:
        await self.put(json.dumps(message, separators=(",", ":")).encode())

    async def _serve(self, key: str, request: dict[str, Any]) -> None:
        """One request from its start to its last event."""
        self.session.touch()
        try:
            operation_ = getattr(self, f"op_{request.pop('op', None)}", None)
            if operation_ is None:
                raise InvalidRequest(
                    "op: execute, attach, subscribe, detach, cancel, stdin, interrupt, restart, complete, inspect, is_complete, command, command_attach, command_stdin, command_signal, command_kill, watch or ping is expected",
                    code="unknown_op",
                )
            await operation_(key, request)
        except websocket.WebSocketClosedError:
            return
        except KernelgateError as exc:
            self._free(key, asyncio.current_task())
            await self._fail(key, exc)

    async def _reply(self, key: str, value: Any, *, last: bool = True) -> None:
        if last:
            self._free(key, asyncio.current_task())
        await self._send({"id": key, "reply": value})

    async def _reply_bytes(self, key: str, value: bytes) -> None:
        await self.put(b'{"id":' + json.dumps(key).encode() + b',"reply":' + value + b"}")

    async def _events(self, key: str, events: AsyncGenerator[list[bytes], None], *, until_end: bool = True) -> None:
        start = b'{"id":' + json.dumps(key).encode() + b',"event":'
        async with contextlib.aclosing(events) as source:
            async for lines in source:
                for line in lines:
                    if until_end and b'","type":"end",' in line[:250]:
                        self._free(key, asyncio.current_task())
                    await self.put(start + line[:-1] + b"}")

    # -- operations --

    async def op_ping(self, key: str, _: dict[str, Any]) -> None:
        await self._reply(key, {})

    async def op_execute(self, key: str, request: dict[str, Any]) -> None:
        if "execution_id" in request:
            request["id"] = request.pop("execution_id")
        body = _convert(request, model.Execute)
        fields = operation.execution(self.services, self.session, body, self.request_id)
        try:
            accepted = await operation.result(self.services, self.session, "execute", mode="accept", after=0, **fields)
            await self._reply_bytes(key, accepted)
            await self._events(
                key, operation.events(self.services, self.session, "attach", counted=True, execution_id=fields["execution_id"])
            )
        except (websocket.WebSocketClosedError, asyncio.CancelledError):
            if body.on_disconnect == "interrupt":
                self.services.tasks.start(
                    operation.unwatched(operation.result(self.services, self.session, "cancel", execution_id=fields["execution_id"])),
                    "channel:cancel",
                )
            raise

    async def op_attach(self, key: str, request: dict[str, Any]) -> None:
        execution_id, after = _text(request, "execution_id"), _after(request)
        await self._reply_bytes(
            key, await operation.result(self.services, self.session, "attach", execution_id=execution_id, mode="accept")
        )
        await self._events(key, operation.events(self.services, self.session, "attach", after=after, execution_id=execution_id))

    async def op_command(self, key: str, request: dict[str, Any]) -> None:
        if "command_id" in request:
            request["id"] = request.pop("command_id")
        body = _convert(request, model.CreateCommand)
        fields = command.fields_of(self.services, self.session, body, self.request_id)
        name = fields["command_id"]
        try:
            await self._reply_bytes(key, await command.result(self.services, self.session, "command", mode="accept", **fields))
            await self._events(key, operation.events(self.services, self.session, "command_attach", command_id=name))
        except (websocket.WebSocketClosedError, asyncio.CancelledError):
            if body.on_disconnect == "kill":
                self.services.tasks.start(
                    operation.unwatched(command.result(self.services, self.session, "command_kill", command_id=name, grace_s=1.0)),
                    "channel:kill",
                )
            raise

    async def op_command_attach(self, key: str, request: dict[str, Any]) -> None:
        name, after = _text(request, "command_id"), _after(request)
        await self._reply_bytes(key, await command.result(self.services, self.session, "command_attach", command_id=name, mode="accept"))
        await self._events(key, operation.events(self.services, self.session, "command_attach", after=after, command_id=name))

    async def op_command_stdin(self, key: str, request: dict[str, Any]) -> None:
        name, body = _text(request, "command_id"), _convert(_without(request, "command_id"), model.CommandInput)
        data = base64.b64encode(command.input_bytes(body.value, body.base64)).decode()
        await self.session.link.request("command_stdin", command_id=name, data=data, eof=body.eof)  # not twice: it may have been read
        await self._reply(key, {})

    async def op_command_signal(self, key: str, request: dict[str, Any]) -> None:
        name, body = _text(request, "command_id"), _convert(_without(request, "command_id"), model.SendSignal)
        answer = await command.result(self.services, self.session, "command_signal", command_id=name, signal=body.signal)
        self._free(key, asyncio.current_task())
        await self._reply_bytes(key, answer)

    async def op_command_kill(self, key: str, request: dict[str, Any]) -> None:
        name, body = _text(request, "command_id"), _convert(_without(request, "command_id"), model.Kill)
        answer = await command.result(self.services, self.session, "command_kill", command_id=name, grace_s=body.grace_s)
        self._free(key, asyncio.current_task())
        await self._reply_bytes(key, answer)

    async def op_subscribe(self, key: str, request: dict[str, Any]) -> None:
        after = _after(request)
        await self._reply(key, {}, last=False)
        await self._events(key, operation.events(self.services, self.session, "events", after=after), until_end=False)

    async def op_watch(self, key: str, request: dict[str, Any]) -> None:
        """What happens in a directory. The first event is `watching`, and the reply comes before it, once the session has agreed."""
        encoded, recursive = request.get("path_b64"), request.get("recursive", False)
        path = _text(request, "path") if encoded is None else file_model.exact_path(request.get("path"), _text(request, "path_b64"), "path")
        if not isinstance(recursive, bool):
            raise InvalidRequest("recursive: true or false is expected")
        replied = False
        async with contextlib.aclosing(files.watch(self.session, path, recursive=recursive)) as events:
            async for lines in events:
                if not replied:
                    replied = True
                    await self._reply(key, {}, last=False)
                for line in lines:
                    await self.put(b'{"id":' + json.dumps(key).encode() + b',"event":' + line[:-1] + b"}")

    async def op_detach(self, key: str, request: dict[str, Any]) -> None:
        task = self._requests.get(_text(request, "of"))
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        await self._reply(key, {})

    async def op_cancel(self, key: str, request: dict[str, Any]) -> None:
        body = await operation.result(self.services, self.session, "cancel", execution_id=_text(request, "execution_id"))
        self._free(key, asyncio.current_task())
        await self._reply_bytes(key, body)

    async def op_stdin(self, key: str, request: dict[str, Any]) -> None:
        execution_id = _text(request, "execution_id")
        await operation.ask(self.services, self.session, "stdin", execution_id=execution_id, value=_text(request, "value"))
        await self._reply(key, {})

    async def op_interrupt(self, key: str, request: dict[str, Any]) -> None:
        context = _text(request, "context") if request.get("context") is not None else None
        await self._reply(key, await operation.ask(self.services, self.session, "interrupt", context=context))

    async def op_restart(self, key: str, request: dict[str, Any]) -> None:
        answer = await operation.ask(
            self.services, self.session, "context_restart", **operation.target(self.services, self.session, None, _text(request, "context"))
        )
        await self._reply(key, msgspec.to_builtins(operation.checked(answer, model.Context)))

    async def _question(self, kind: str, key: str, request: dict[str, Any]) -> None:
        context = _text(request, "context")
        del request["context"]
        await self._reply(key, await question(self.services, self.session, kind, context, _convert(request, QUESTIONS[kind][0])))

    async def op_complete(self, key: str, request: dict[str, Any]) -> None:
        await self._question("complete", key, request)

    async def op_inspect(self, key: str, request: dict[str, Any]) -> None:
        await self._question("inspect", key, request)

    async def op_is_complete(self, key: str, request: dict[str, Any]) -> None:
        await self._question("is_complete", key, request)


def _convert(request: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(request, kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(str(exc)) from exc


def _without(request: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key != name}


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: text is expected")
    return value


def _after(request: dict[str, Any]) -> int:
    value = request.get("after", 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequest("after: the number of an event is expected")
    return value
