"""What the WebSockets of a session share: who may open one, what the session notices of it, and writing no faster than its reader reads."""

from __future__ import annotations

import json
import logging
from typing import Any

from tornado import websocket

from kernelgate._aio import Tasks, taken
from kernelgate.api.base import Guarded, Services, error_body
from kernelgate.api.errors import status_of
from kernelgate.errors import Draining, KernelgateError
from kernelgate.sessions.session import Session

log = logging.getLogger(__name__)


class SessionSocket(Guarded, websocket.WebSocketHandler):
    """Authenticated by header or `?token=`. `what` names its tasks."""

    what = "socket"

    def initialize(self, services: Services) -> None:
        self.services = services
        self.tasks = Tasks()
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
            await self.find()
        except KernelgateError as exc:
            self.set_status(status_of(exc))
            self.send_json(error_body(exc.code, exc.detail, self.request_id, exc.details))

    async def find(self) -> None:
        """Looks whether there is what the path names. Raises KernelgateError."""

    def send_json(self, value: dict[str, Any]) -> None:
        """An answer in place of an upgrade."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))

    @property
    def session(self) -> Session:
        assert self._session is not None
        return self._session

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002 - Tornado's signature
        return True  # prepare has checked it, and answers with a reason

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)
        self._opened = True
        self.session.busy += 1
        self.services.metrics.streams.inc()
        self.services.channels.add(self)

    def on_close(self) -> None:
        if not self._opened:
            return  # it was refused, and its connection is closed now
        self.session.busy -= 1
        self.session.touch()
        self.services.channels.discard(self)
        self.services.metrics.streams.dec()
        self.services.tasks.start(self.tasks.close(), f"{self.what}:close")

    def drain(self) -> None:
        """The server is stopping: closes with 1012 (service restart), on which clients come back. What was asked runs on, and is found again by its id."""
        self.close(1012, "the server is restarting; connect again")

    async def put(self, message: bytes | str, *, binary: bool = False) -> None:
        """Waits until the socket has taken it. Raises WebSocketClosedError: also where its reader took nothing for `server.write_timeout_s`, and was let go."""
        try:
            await taken(self.write_message(message, binary=binary), self.services.settings.server.write_timeout_s)
        except TimeoutError:
            log.info("a reader that takes nothing was let go", extra={"request_id": self.request_id})
            self.close(1013, "the reader takes nothing")
            raise websocket.WebSocketClosedError from None
