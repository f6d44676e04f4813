"""A notebook frontend of our own, as plain as can be: one WebSocket in either framing, and everything it received, in order."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.server import Server

V1 = "v1.kernel.websocket.jupyter.org"
Message = dict[str, Any]


class Frontend:
    """Blocking. `received` holds every message; `wait` reads on until one of them is what is looked for."""

    def __init__(
        self,
        server: Server,
        kernel: str,
        *,
        session: str | None = "",
        v1: bool = True,
        token: str | None = None,
        prefix: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.session = uuid.uuid4().hex if session == "" else session or ""
        self.v1 = v1
        self.received: list[Message] = []
        self._looked_at = 0
        self.over = False
        url = f"{server.url.replace('http', 'ws', 1)}{prefix}/api/kernels/{kernel}/channels"
        if session is not None:
            url += f"?session_id={self.session}"
        if not prefix:
            headers = {"Authorization": f"token {token or server.token}", **(headers or {})}
        request = HTTPRequest(url, headers=headers, request_timeout=60)
        self.socket: WebSocketClientConnection = self.loop.run_until_complete(self._connect(request, [V1] if v1 else None))

    @staticmethod
    async def _connect(request: HTTPRequest, protocols: list[str] | None) -> WebSocketClientConnection:
        return await websocket_connect(request, subprotocols=protocols, max_message_size=1 << 30)

    def __enter__(self) -> Frontend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The closing handshake, as a page that is left."""

        async def closed() -> None:
            self.socket.close()
            while not self.over and await self._read() is not None:
                pass
            await self._cancel_rest()

        if not self.loop.is_closed():
            self.loop.run_until_complete(closed())
            self.loop.close()

    def abort(self) -> None:
        """The connection breaks: no closing handshake, no FIN (a reset)."""

        async def aborted() -> None:
            protocol, self.socket.protocol = self.socket.protocol, None
            assert protocol is not None
            protocol.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            protocol.stream.close()
            await self._cancel_rest()

        self.loop.run_until_complete(aborted())
        self.loop.close()

    @staticmethod
    async def _cancel_rest() -> None:
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    # -- sending --

    def message(self, msg_type: str, content: dict[str, Any], channel: str = "shell", **header: Any) -> Message:
        made = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": self.session or "none",
            "username": "test",
            "version": "5.4",
            "date": "2026-01-01T00:00:00Z",
        }
        return {"channel": channel, "header": {**made, **header}, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        channel: str = "shell",
        *,
        parent: Message | None = None,
        buffers: list[bytes] | None = None,
        **header: Any,
    ) -> str:
        """Returns the message's id."""
        made = self.message(msg_type, content, channel, **header)
        if parent is not None:
            made["parent_header"] = parent["header"]
        self.send_raw(pack_v1(made, buffers or []) if self.v1 else pack_legacy(made, buffers or []))
        msg_id: str = made["header"]["msg_id"]
        return msg_id

    def send_raw(self, data: str | bytes) -> None:
        async def send() -> None:
            await self.socket.write_message(data, binary=isinstance(data, bytes))

        self.loop.run_until_complete(send())

    def execute(self, code: str, **content: Any) -> str:
        fields = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        header = {"subshell_id": content.pop("subshell_id")} if "subshell_id" in content else {}
        return self.send("execute_request", {**fields, **content}, **header)

    # -- receiving --

    async def _read(self) -> Message | None:
        data = await self.socket.read_message()
        if data is None:
            self.over = True
            return None
        message = unpack_v1(data) if self.v1 else unpack_legacy(data)
        message["at"] = time.monotonic()
        self.received.append(message)
        return message

    def wait(self, matches: Callable[[Message], Any], within_s: float = 60) -> Message:
        """The first message not looked at yet that matches; those before it count as looked at."""

        async def wait() -> Message:
            async with asyncio.timeout(within_s):
                while True:
                    while self._looked_at < len(self.received):
                        self._looked_at += 1
                        if matches(self.received[self._looked_at - 1]):
                            return self.received[self._looked_at - 1]
                    if await self._read() is None:
                        raise AssertionError(f"closed: {self.socket.close_code} {self.socket.close_reason}")

        try:
            return self.loop.run_until_complete(wait())
        except TimeoutError:
            raise AssertionError(f"it did not come; there were: {[kind(message) for message in self.received][-40:]}") from None

    def reply(self, msg_id: str) -> Message:
        return self.wait(lambda message: message["channel"] in ("shell", "control") and message["parent_header"].get("msg_id") == msg_id)

    def finish(self, msg_id: str) -> list[Message]:
        """Everything of a request, when both its reply and its idle are there, in whichever order."""
        missing = {"reply", "idle"}

        def done(message: Message) -> bool:
            if message["parent_header"].get("msg_id") == msg_id:
                if message["channel"] == "shell":
                    missing.discard("reply")
                elif state(message) == "idle":
                    missing.discard("idle")
            return not missing

        if not any(done(message) for message in self.received[: self._looked_at]):
            self.wait(done)
        return self.of(msg_id)

    def of(self, msg_id: str) -> list[Message]:
        return [message for message in self.received if message["parent_header"].get("msg_id") == msg_id]

    def run(self, code: str, **content: Any) -> list[Message]:
        return self.finish(self.execute(code, **content))

    def close_code(self) -> int | None:
        """Reads to the end."""

        async def end() -> None:
            async with asyncio.timeout(60):
                while await self._read() is not None:
                    pass

        if not self.over:
            self.loop.run_until_complete(end())
        return self.socket.close_code


def kind(message: Message) -> str:
    return f"{message['channel']}:{message['header']['msg_type']}"


def state(message: Message) -> str | None:
    return message["content"].get("execution_state") if message["header"]["msg_type"] == "status" else None


def text(messages: list[Message]) -> str:
    """What was printed."""
    return "".join(message["content"]["text"] for message in messages if message["header"]["msg_type"] == "stream")


def pack_v1(message: Message, buffers: list[bytes]) -> bytes:
    parts = [
        message["channel"].encode(),
        *(json.dumps(message[name]).encode() for name in ("header", "parent_header", "metadata", "content")),
        *buffers,
    ]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def unpack_v1(data: str | bytes) -> Message:
    assert isinstance(data, bytes)
    (count,) = struct.unpack_from("<Q", data)
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    channel, *parts = (data[start:end] for start, end in pairwise(offsets))
    names = ("header", "parent_header", "metadata", "content")
    return {"channel": channel.decode(), **{name: json.loads(part) for name, part in zip(names, parts, strict=False)}, "buffers": parts[4:]}


def pack_legacy(message: Message, buffers: list[bytes]) -> str | bytes:
    body = json.dumps(message)
    if not buffers:
        return body
    parts = [body.encode(), *buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f">{len(offsets) + 1}I", len(parts), *offsets) + b"".join(parts)


def unpack_legacy(data: str | bytes) -> Message:
    buffers: list[bytes] = []
    if isinstance(data, bytes):
        (count,) = struct.unpack_from(">I", data)
        offsets = (*struct.unpack_from(f">{count}I", data, 4), len(data))
        body, *buffers = (data[start:end] for start, end in pairwise(offsets))
        data = body.decode()
    message: Message = json.loads(data)
    assert message["msg_id"] == message["header"]["msg_id"]
    assert message["msg_type"] == message["header"]["msg_type"]
    return {**message, "buffers": buffers}
