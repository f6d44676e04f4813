"""A blocking WebSocket client of a session's channel."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.server import Server


class Channel:
    """One socket. Answers that were not asked for yet are kept."""

    def __init__(
        self, server: Server, session: str, *, token: str | None = None, in_query: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._got: list[dict[str, Any]] = []
        self._over = False
        url = f"{server.url.replace('http', 'ws', 1)}/v1/sessions/{session}/channel"
        token = server.token if token is None else token
        request = HTTPRequest(
            f"{url}?token={token}" if in_query else url,
            headers={**({} if in_query else {"Authorization": f"Bearer {token}"}), **(headers or {})},
            request_timeout=30,
        )
        try:
            self._socket: WebSocketClientConnection = self._loop.run_until_complete(self._connect(request))
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    async def _connect(request: HTTPRequest) -> WebSocketClientConnection:
        return await websocket_connect(request, max_message_size=1 << 30)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        async def closed() -> None:
            self._socket.close()
            while not self._over and await self._socket.read_message() is not None:
                pass
            pending = asyncio.all_tasks() - {asyncio.current_task()}
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

        if not self._loop.is_closed():
            self._loop.run_until_complete(closed())
            self._loop.close()

    def send_text(self, text: str | bytes) -> None:
        async def send() -> None:
            await self._socket.write_message(text)

        self._loop.run_until_complete(send())

    def send(self, id: str, op: str, **fields: Any) -> None:
        self.send_text(json.dumps({"id": id, "op": op, **fields}))

    def receive(self) -> dict[str, Any]:
        """The next message, whatever it answers."""
        if self._got:
            return self._got.pop(0)
        return self._read()

    def _read(self) -> dict[str, Any]:
        async def read() -> Any:
            async with asyncio.timeout(30):
                return await self._socket.read_message()

        text = self._loop.run_until_complete(read())
        self._over = text is None
        assert text is not None, f"the socket was closed: {self._socket.close_code} {self._socket.close_reason}"
        message: dict[str, Any] = json.loads(text)
        return message

    def answer(self, id: str | None) -> dict[str, Any]:
        """The next message for this id; others are kept."""
        for place, message in enumerate(self._got):
            if message["id"] == id:
                return self._got.pop(place)
        while (message := self._read())["id"] != id:
            self._got.append(message)
        return message

    def call(self, id: str, op: str, **fields: Any) -> Any:
        """A request and its reply."""
        self.send(id, op, **fields)
        message = self.answer(id)
        assert "reply" in message, message
        return message["reply"]

    def fails(self, id: str, op: str, **fields: Any) -> dict[str, Any]:
        """A request that must fail: its error."""
        self.send(id, op, **fields)
        message = self.answer(id)
        assert "error" in message, message
        error: dict[str, Any] = message["error"]
        return error

    def event(self, id: str, kind: str) -> dict[str, Any]:
        """The next event of this type that came for this id; what came before it (the reply, too) is dropped."""
        while True:
            message = self.answer(id)
            assert "error" not in message, message
            if message.get("event", {}).get("type") == kind:
                event: dict[str, Any] = message["event"]
                return event

    def close_code(self) -> int | None:
        """Reads to the end and says how the server closed."""

        async def read() -> None:
            async with asyncio.timeout(30):
                while await self._socket.read_message() is not None:
                    pass

        self._loop.run_until_complete(read())
        self._over = True
        return self._socket.close_code
