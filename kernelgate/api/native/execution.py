"""`/v1/sessions/S/executions`: start, follow, find again, cancel, answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import msgspec
from tornado import iostream

from kernelgate._aio import taken
from kernelgate.api.base import BaseHandler, error_body
from kernelgate.api.native import model, operation
from kernelgate.api.native.session import natural, next_token, page_limit, page_token
from kernelgate.errors import ExecutionNotFound, InvalidRequest, KernelgateError
from kernelgate.protocol.event import seq_of
from kernelgate.sessions.history import History
from kernelgate.sessions.session import Session

log = logging.getLogger(__name__)

_NDJSON, _SSE = "application/x-ndjson", "text/event-stream"
_TYPE = re.compile(rb'"type":"([a-z_]+)"')


class StreamingHandler(BaseHandler):
    """Handlers that answer with events as well as with JSON."""

    def wanted_stream(self) -> str | None:
        """The streaming format that `Accept` asks for, or None: JSON."""
        accept = self.request.headers.get("Accept", "")
        for kind in (_NDJSON, _SSE):
            if kind in accept:
                return kind
        return _NDJSON if "application/jsonl" in accept else None

    def after(self) -> int:
        """`Last-Event-ID` or `?after=`. Raises InvalidRequest."""
        text = self.request.headers.get("Last-Event-ID") or self.get_query_argument("after", "0")
        if (number := natural(text)) < 0:
            raise InvalidRequest(f"after: the number of an event is expected, got {text[:100]!r}")
        return number

    async def flushed(self) -> None:
        """Waits until the socket has taken what was written. Raises StreamClosedError, TimeoutError."""
        await taken(self.flush(), self.services.settings.server.write_timeout_s)

    async def stream(self, kind: str, events: AsyncGenerator[list[bytes], None], *, accepted: bool = True) -> bool:
        """Writes events until their end. Whether it got there; false when the client left.

        A reader that takes nothing for `server.write_timeout_s` is closed. What the host may still refuse (`accepted` false) is not begun before its first event, so that
        a refusal has its status; what goes wrong after that is the stream's last record.
        """
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("X-Accel-Buffering", "no")
        # Else an event waits in the socket until the one before it was acknowledged, which may take 40 ms.
        self.request.connection.stream.set_nodelay(True)  # type: ignore[union-attr]
        encode, keepalive = (_sse, b": keepalive\n\n") if kind == _SSE else (b"".join, b'{"type":"keepalive"}\n')
        streams = self.services.metrics.streams
        streams.inc()
        try:
            if accepted:
                await self.flushed()
            async with contextlib.aclosing(self._steps(events)) as steps:
                async for lines in steps:
                    self.write(keepalive if lines is None else encode(lines))
                    await self.flushed()
        except (iostream.StreamClosedError, TimeoutError) as exc:
            if isinstance(exc, TimeoutError):
                log.info("a reader that takes nothing was let go", extra={"request_id": self.request_id})
            self.detach().close()  # what is left of the answer would go on waiting for a reader that takes nothing
            return False
        except KernelgateError as exc:
            if not self._headers_written:
                raise
            error = self.told(exc)
            failure = {"type": "failure", **error_body(error.code, error.detail, self.request_id, error.details)}
            text = json.dumps(failure).encode()
            with contextlib.suppress(iostream.StreamClosedError):
                self.write(b"event: failure\ndata: " + text + b"\n\n" if kind == _SSE else text + b"\n")
                self.finish()
            return True
        finally:
            streams.dec()
        if self.client_gone:
            return False
        self.finish()
        return True

    async def _steps(self, events: AsyncGenerator[list[bytes], None]) -> AsyncGenerator[list[bytes] | None, None]:
        """What comes, and None whenever nothing came for `server.keepalive_s`. Ends when the client leaves."""
        ahead: asyncio.Task[list[bytes] | None] | None = None

        def leave() -> None:
            if ahead is not None:
                ahead.cancel()

        self.when_gone(leave)
        async with contextlib.aclosing(events) as source:
            try:
                while not self.client_gone:
                    ahead = ahead or self.services.tasks.start(_next(source), "stream:next", awaited=True)
                    done, _ = await asyncio.wait({ahead}, timeout=self.services.settings.server.keepalive_s)
                    if not done:
                        yield None
                        continue
                    lines = None if ahead.cancelled() else ahead.result()
                    ahead = None
                    if lines is None:
                        return
                    yield lines
            finally:
                # A generator cannot be closed while it runs.
                if ahead is not None:
                    ahead.cancel()
                    await asyncio.wait({ahead})

    async def unless_gone(self, work: Any) -> bytes | None:
        """The work's result, or None when the client left first; what it had asked of the host goes on there."""
        task = self.services.tasks.start(work, "execution:wait", awaited=True)
        self.when_gone(_canceller(task))
        try:
            answer: bytes = await task
        except asyncio.CancelledError:
            if self.client_gone:
                return None
            raise
        return answer


def _canceller(task: asyncio.Task[Any]) -> Callable[[], None]:
    def cancel() -> None:
        task.cancel()

    return cancel


async def _next(source: AsyncIterator[list[bytes]]) -> list[bytes] | None:
    return await anext(source, None)


def _sse(lines: list[bytes]) -> bytes:
    parts = []
    for line in lines:
        found = _TYPE.search(line)
        parts.append(b"id: %d\nevent: %s\ndata: %s\n\n" % (seq_of(line), found[1] if found else b"message", line[:-1]))
    return b"".join(parts)


class ExecutionsHandler(StreamingHandler):
    """`/v1/sessions/S/executions`"""

    async def post(self, session_id: str) -> None:
        """Runs code. JSON when it has ended, at once with `?wait=false` (202), or a stream by `Accept`."""
        body = self.body(model.Execute)
        session = self.session(session_id)
        fields = operation.execution(self.services, session, body, self.request_id)
        execution_id = fields["execution_id"]
        self.set_header("Location", f"/v1/sessions/{session_id}/executions/{execution_id}")
        kind = self.wanted_stream()
        with session:
            if kind is not None:
                if await self.stream(kind, operation.events(self.services, session, "execute", counted=True, **fields), accepted=False):
                    return
            elif self.get_query_argument("wait", "true") == "false":
                self.send_bytes(await operation.result(self.services, session, "execute", mode="accept", after=0, **fields), 202)
                return
            else:
                answer = await self.unless_gone(operation.result(self.services, session, "execute", mode="result", after=0, **fields))
                if answer is not None:
                    self.send_bytes(answer)
                    return
            if body.on_disconnect == "interrupt":
                await operation.unwatched(operation.result(self.services, session, "cancel", execution_id=execution_id))

    async def get(self, session_id: str) -> None:
        """The executions, newest first, without their outputs."""
        limit, token = page_limit(self), page_token(self, tuple[str])
        before = token[0] if token else None
        keeper = self.services.keeper
        row = keeper.row(self.token.id, session_id)
        if row.state == "running":
            answer = await operation.ask(self.services, self.session(session_id), "executions", limit=limit, before=before)
        else:
            answer = await asyncio.to_thread(History(keeper.node.directory(row.id)).executions, limit, before)
        page = [msgspec.to_builtins(operation.checked(summary, model.Summary)) for summary in answer["executions"]]
        self.send({"executions": page, "next_page_token": next_token([page[-1]["id"]]) if answer["more"] else None})


class ExecutionHandler(StreamingHandler):
    """`/v1/sessions/S/executions/E`"""

    async def get(self, session_id: str, execution_id: str) -> None:
        """The result so far, with `?wait=true` when it has ended, or by `Accept` its events after `?after=` or `Last-Event-ID`."""
        keeper = self.services.keeper
        row = keeper.row(self.token.id, session_id)
        kind, after = self.wanted_stream(), self.after()
        if row.state != "running":
            await self._from_history(History(keeper.node.directory(row.id)), execution_id, kind, after)
            return
        session = self.session(session_id)
        if kind is not None:
            with session:
                # An unknown execution must be a 404, which a stream that has begun cannot say.
                await operation.result(self.services, session, "attach", execution_id=execution_id, mode="accept")
                await self.stream(kind, operation.events(self.services, session, "attach", after=after, execution_id=execution_id))
            return
        with session:
            mode = "result" if self.get_query_argument("wait", "false") == "true" else "accept"
            self.send_bytes(await operation.result(self.services, session, "attach", execution_id=execution_id, mode=mode))

    async def _from_history(self, history: History, execution_id: str, kind: str | None, after: int) -> None:
        if not await asyncio.to_thread(history.has, execution_id):
            raise ExecutionNotFound(f"there is no execution {execution_id!r} in this session")
        if kind is None:
            self.send(await asyncio.to_thread(history.result, execution_id))
        else:
            await self.stream(kind, history.events(execution_id, after))


class CancelHandler(BaseHandler):
    """`/v1/sessions/S/executions/E/cancel`"""

    async def post(self, session_id: str, execution_id: str) -> None:
        """Takes it out of the queue, or interrupts it. The result so far; stopping may take a moment."""
        self.body(model.Empty)
        with self.session(session_id) as session:
            self.send_bytes(await operation.result(self.services, session, "cancel", execution_id=execution_id))


class StdinHandler(BaseHandler):
    """`/v1/sessions/S/executions/E/stdin`"""

    async def post(self, session_id: str, execution_id: str) -> None:
        """Answers an `input_request`. 204; 409 where none is open."""
        body = self.body(model.Stdin)
        with self.session(session_id) as session:
            await operation.ask(self.services, session, "stdin", execution_id=execution_id, value=body.value)
        self.set_status(204)
        self.finish()


class EventsHandler(StreamingHandler):
    """`/v1/sessions/S/events`"""

    async def get(self, session_id: str) -> None:
        """Every event of the session after `?after=` or `Last-Event-ID`, until the caller leaves or the session ends."""
        kind, after = self.wanted_stream() or _NDJSON, self.after()
        keeper = self.services.keeper
        row = keeper.row(self.token.id, session_id)
        if row.state != "running":
            await self.stream(kind, History(keeper.node.directory(row.id)).events(None, after))
            return
        session: Session = self.session(session_id)
        with session:
            await self.stream(kind, operation.events(self.services, session, "events", after=after))
