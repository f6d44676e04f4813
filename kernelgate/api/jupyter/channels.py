"""`/api/kernels/ID/channels`: the WebSocket of a frontend, in both of Jupyter's framings.

The gateway only moves messages: the session's host keeps what the kernel says, numbered, and knows how far each client has come, so a frontend that was away, or whose
gateway was killed, goes on where it was. How far it has come is what it has seen: behind the messages goes a ping with the number of the last, and clients answer pings
in order. Few pings are under way at a time, since there are clients that take many for an attack. Of a client that answers none, what its socket took counts as seen. What
was sent just before the connection broke and was not confirmed may come twice; of a client that says goodbye the last few messages count as seen.

Nothing is dropped to go faster: a reader that is slow is waited for, what is meant for it stays on disk, and one that takes nothing at all is closed with 1013.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import socket
import time
from collections import deque
from typing import Any

import msgspec
from tornado import websocket

from kernelgate._aio import Tasks, looked_at, taken
from kernelgate.api.base import Services
from kernelgate.api.errors import status_of
from kernelgate.api.jupyter import handler
from kernelgate.api.jupyter.handler import Door, Kernel
from kernelgate.errors import Draining, HostUnavailable, KernelgateError, NotFound, RemoteProtocolError, SessionClosed
from kernelgate.link import framelog
from kernelgate.link.client import Duplex
from kernelgate.protocol import frontend

log = logging.getLogger(__name__)

#: A batch of so few messages that was sent so short a time before a client's goodbye, and not confirmed yet, counts as seen.
_TRUSTED_MESSAGES, _TRUSTED_S = 3, 0.1
#: The content of a status message is not longer.
_STATUS_BYTES = 64
#: Pings under way. Node's `ws` hangs up at 60.
_PINGS = 16
#: A client that leaves its first ping unanswered for so long answers none.
_FIRST_PONG_S = 5.0
_REATTACH_TRIES = 25
_MAX_NAME = 256
_LOST = "Messages that were sent while this client was away are not there any more: there were too many."


#: What an execute_reply may say; anything else is a kernel's own invention, and no label.
_STATUSES = frozenset({"ok", "error", "aborted"})


class _Reply(msgspec.Struct):
    status: str


class ChannelsHandler(Door, websocket.WebSocketHandler):
    """Authenticated as every path of this door. Refusals are JSON: 401, 403, 404, 503."""

    def initialize(self, services: Services) -> None:
        self.services = services
        self._tasks = Tasks()
        self._kernel: Kernel | None = None
        self._link: Duplex | None = None
        self._linked = asyncio.Event()
        self._opened = self._left = False
        self._name = self._language = ""
        self._v1 = False
        self._sent: int | None = None
        self._seen = 0
        self._answers_pings = False
        self._pings: deque[int] = deque()  # those under way
        # (number, messages, when) of the last batches; more than are trusted need not be told apart.
        self._unconfirmed: deque[tuple[int, int, float]] = deque(maxlen=_TRUSTED_MESSAGES + 1)
        self._first_ping_at = 0.0
        # The last batch in which the kernel was said to restart.
        self._restarting = self._said_goodbye = False
        self._restarted_at = 0

    async def prepare(self) -> None:
        self.enter()
        self.request_id = self.take_request_id()
        self.set_header("X-Request-Id", self.request_id)
        try:
            self.check_host()
            self.check_origin_allowed()
            self.token = self.authenticate()
            if self.services.draining:
                raise Draining("this server is stopping; try again in a moment")
            self._kernel = handler.find(self, self.path_kwargs["kernel_id"])
            # A client that is let in takes it for granted that the kernel answers within a second; some end where it does not.
            found = await handler.ask(self.services, self._kernel.session, "frontend_ready", context=self._kernel.context)
            self._language = str(found.get("language")) if isinstance(found, dict) else ""
            self._name = self.get_query_argument("session_id", "")[:_MAX_NAME] or f"nameless-{secrets.token_hex(8)}"
            await self._take_over()
        except KernelgateError as exc:
            self.set_status(404 if isinstance(exc, SessionClosed) else status_of(exc))
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps({"message": exc.detail, "reason": exc.code}))

    async def _take_over(self) -> None:
        """The same client on a new socket: the old one, of which it may not know that it is dead, ends first."""
        for other in list(self.services.channels):
            if isinstance(other, ChannelsHandler) and other.kernel == self.kernel and other._name == self._name:  # noqa: SLF001 - of this class
                if other._sent is not None:  # noqa: SLF001
                    self._sent = self._seen = other._position()  # noqa: SLF001
                await other.leave()
                other.close(1000, "the client has connected again")

    @property
    def kernel(self) -> Kernel:
        assert self._kernel is not None
        return self._kernel

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002 - Tornado's signature
        return True  # prepare has checked it, and answers with a reason

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        self._v1 = frontend.V1 in subprotocols
        return frontend.V1 if self._v1 else None

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)  # without it a cell takes 40 ms more
        self._hear_goodbye()
        self._opened = True
        self.kernel.session.busy += 1
        self.services.metrics.streams.inc()
        self.services.channels.add(self)
        self._tasks.start(self._serve(), "frontend:serve")

    def _hear_goodbye(self) -> None:
        """Notes that the client has closed: its close may have no code, and what breaks looks the same then."""
        connection = self.ws_connection
        assert connection is not None
        close = connection.close

        def closes(code: int | None = None, reason: str | None = None) -> None:
            # Tornado answers a close with one of its own; one that it heard nothing of it ends for both.
            self._said_goodbye |= connection.client_terminated and not connection.server_terminated
            close(code, reason)

        connection.close = closes  # type: ignore[method-assign]

    def on_close(self) -> None:
        if not self._opened:
            return  # it was refused, and its connection is closed now
        self.kernel.session.busy -= 1
        self.kernel.session.touch()
        self.services.channels.discard(self)
        self.services.metrics.streams.dec()
        self._linked.set()
        self.services.tasks.start(self._end(), "frontend:end")

    async def _end(self) -> None:
        await self.leave()
        await self._tasks.close()

    def drain(self) -> None:
        """The server is stopping: closes with 1012 (service restart), on which frontends come back."""
        self.close(1012, "the server is restarting; connect again")

    # -- how far it has come --

    def on_pong(self, data: bytes) -> None:
        if not data.isdigit() or len(data) > 18:
            return  # of the pings that only keep the connection alive
        self._answers_pings = True
        # Many clients send with Nagle's algorithm, and the next request would wait until this is acknowledged, 40 ms later.
        stream = getattr(self.ws_connection, "stream", None)
        if stream is not None and stream.socket is not None:
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._seen = max(self._seen, min(int(data), self._sent or 0))
        while self._unconfirmed and self._unconfirmed[0][0] <= self._seen:
            self._unconfirmed.popleft()
        while self._pings and self._pings[0] <= self._seen:
            self._pings.popleft()
        self._ask_how_far()
        self._tasks.start(self._report(), "frontend:report")

    def _ask_how_far(self) -> None:
        last = self._pings[-1] if self._pings else self._seen
        if self._sent is not None and self._sent > last and len(self._pings) < _PINGS:
            self._pings.append(self._sent)
            self._first_ping_at = self._first_ping_at or time.monotonic()
            with contextlib.suppress(websocket.WebSocketClosedError):
                self.ping(str(self._sent).encode())

    def _position(self) -> int:
        assert self._sent is not None
        if not self._answers_pings and time.monotonic() - self._first_ping_at > _FIRST_PONG_S:
            return self._sent
        just_now = bool(self._unconfirmed) and time.monotonic() - self._unconfirmed[0][2] < _TRUSTED_S
        few = sum(count for _, count, _ in self._unconfirmed) <= _TRUSTED_MESSAGES
        if not self._said_goodbye:
            return self._seen
        # On a restart JupyterLab connects again: who says goodbye after that has seen it, and must not be told twice.
        return self._sent if just_now and few else max(self._seen, self._restarted_at)

    async def _report(self) -> None:
        """Tells the host how far the client has come, for when this gateway cannot do so any more."""
        link = self._link
        if link is not None and self._linked.is_set():
            with contextlib.suppress(HostUnavailable):  # who reads from it goes and finds it again
                await link.send({"at": self._position()})

    async def leave(self) -> None:
        """Tells the host that the client is gone, and how far it has come. Once."""
        link, self._link = self._link, None
        if self._left or link is None:
            return
        self._left = True
        if self._sent is not None:
            with contextlib.suppress(KernelgateError):
                await link.send({"end": True, "at": self._position()})
        link.close()

    # -- from the host --

    async def _serve(self) -> None:
        """Until the client leaves, or the kernel is gone."""
        tries = 0
        while not self._left:
            try:
                await self._attach()
                tries = 0
                if await self._deliver():
                    raise NotFound("the kernel was deleted")
            except HostUnavailable:
                self._linked.clear()
                self._link = None
                tries += 1
                try:
                    self.services.keeper.check(self.kernel.session)
                except SessionClosed:
                    tries = _REATTACH_TRIES
                if tries >= _REATTACH_TRIES:
                    await self._gone()
                    return
                await asyncio.sleep(0.1)
            except (NotFound, SessionClosed):
                await self._gone()
                return
            except websocket.WebSocketClosedError:
                return
            except KernelgateError as exc:
                log.warning("a frontend was let go: %s", exc.detail, extra={"request_id": self.request_id})
                self.close(1011, exc.detail[:100])
                return

    async def _attach(self) -> None:
        limits, own = self.services.settings.executions, self.kernel.session.row.limits
        self._link = await self.kernel.session.link.duplex(
            "frontend_attach",
            context=self.kernel.context,
            client=self._name,
            after=self._sent,
            request_id=self.request_id,
            limits={
                "timeout_s": own["wall_time_s"],
                "output_bytes": min(limits.max_output_bytes, own["output_bytes"]),
                "result_bytes": min(limits.max_result_bytes, own["output_bytes"]),
            },
        )
        header, _ = await self._link.receive()
        if self._sent is None:
            self._sent = self._seen = _number(header)
        self._linked.set()

    async def _deliver(self) -> bool:
        """Writes what the host sends. True where the kernel is gone."""
        link = self._link
        while link is not None and not self._left:
            header, body = await link.receive()
            if header.get("end"):
                return bool(header.get("deleted"))
            if header.get("missed"):
                await self._put([_notice(_LOST)])
                continue
            messages = []
            try:
                messages = [record.data for record in framelog.decode(body)]
            except ValueError as exc:
                raise RemoteProtocolError("the session's host sent something that is no message") from exc
            await self._put(messages)
            self._sent = _number(header)
            if self._restarting:
                self._restarting, self._restarted_at = False, self._sent
            self._unconfirmed.append((self._sent, len(messages), time.monotonic()))
            self._ask_how_far()
            if not self._answers_pings and not self._left:
                await link.send({"at": self._position()})
        return False

    async def _put(self, messages: list[bytes]) -> None:
        """Writes them, and waits until the socket has taken them. Raises WebSocketClosedError."""
        future: asyncio.Future[None] | None = None
        for message in messages:
            try:
                channel, parts = frontend.decode(message)
                framed: str | bytes = message if self._v1 else frontend.to_legacy(channel, parts)
            except RemoteProtocolError as exc:
                log.warning("a kernel's message was dropped: %s", exc.detail, extra={"request_id": self.request_id})
                continue
            if channel == "shell":
                self._count(parts)
            elif channel == "iopub" and b'"restarting"' in parts[3][:_STATUS_BYTES] and b'"status"' in parts[0]:
                self._restarting = True
            future = self.write_message(framed, binary=isinstance(framed, bytes))
            # Of the messages of a batch the last one is waited for: where it cannot be written, none before it matters.
            future.add_done_callback(looked_at)
        if future is None:
            return
        try:
            await taken(future, self.services.settings.server.write_timeout_s)
        except TimeoutError:
            log.info("a reader that takes nothing was let go", extra={"request_id": self.request_id})
            self.close(1013, "the reader takes nothing")
            raise websocket.WebSocketClosedError from None

    def _count(self, parts: list[bytes]) -> None:
        """An execution has ended; its reply comes to one client alone."""
        with contextlib.suppress(RemoteProtocolError, msgspec.DecodeError, msgspec.ValidationError, RecursionError):
            if (
                frontend.names(parts[0])[1] == "execute_reply"
                and (status := msgspec.json.decode(parts[3], type=_Reply).status) in _STATUSES
            ):
                self.services.metrics.executions.labels(self._language, status).inc()

    async def _gone(self) -> None:
        """The kernel is no more: says so, and closes for good."""
        with contextlib.suppress(websocket.WebSocketClosedError):
            await self._put([_message("status", {"execution_state": "dead"})])
            self.close(1000, "the kernel is gone")

    # -- from the client --

    async def on_message(self, message: str | bytes) -> None:
        """The next message is read when this one was taken. What is no message is dropped with a line in the log, and the connection stays."""
        try:
            channel, parts = frontend.decode(message) if self._v1 and isinstance(message, bytes) else frontend.from_legacy(message)
            _, msg_type = frontend.check(parts)
            if channel not in frontend.CHANNELS:
                raise RemoteProtocolError(f"there is no channel {channel[:50]!r} to send on")
        except RemoteProtocolError as exc:
            log.warning("a frontend's message was dropped: %s", exc.detail, extra={"request_id": self.request_id})
            return
        self.kernel.session.touch()
        if msg_type == "shutdown_request":
            await self._shut_down(channel, parts)
            return
        body = frontend.encode(channel, parts)
        while not self._left:
            await self._linked.wait()
            link = self._link
            if link is None:
                return
            try:
                await link.send({}, body)
            except HostUnavailable:
                self._linked.clear()  # it is being found again
            else:
                return

    async def _shut_down(self, channel: str, parts: list[bytes]) -> None:
        """A client's `shutdown_request` is a delete, or a restart, and is answered as a kernel would."""
        content = json.loads(parts[3])
        restart = bool(content.get("restart")) if isinstance(content, dict) else False
        reply = _message("shutdown_reply", {"status": "ok", "restart": restart}, channel=channel, parent=parts[0])
        with contextlib.suppress(websocket.WebSocketClosedError):
            await self._put([reply])
        with contextlib.suppress(KernelgateError):
            if restart:
                await handler.ask(self.services, self.kernel.session, "context_restart", context=self.kernel.context)
            else:
                await handler.delete(self, self.kernel)


def _message(msg_type: str, content: dict[str, Any], *, channel: str = "iopub", parent: bytes = b"{}") -> bytes:
    header = {
        "msg_id": secrets.token_hex(16), "msg_type": msg_type, "username": "kernelgate", "session": "kernelgate", "version": "5.4",
        "date": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
    }  # fmt: skip
    return frontend.encode(channel, [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()])


def _notice(text: str) -> bytes:
    return _message("stream", {"name": "stderr", "text": text + "\n"})


def _number(header: dict[str, Any]) -> int:
    at = header.get("at")
    if not isinstance(at, int):
        raise RemoteProtocolError("the session's host sent no position")
    return at
