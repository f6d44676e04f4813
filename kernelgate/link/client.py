"""The gateway's end of the link: asyncio connections to one session's host, kept for reuse."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from kernelgate._aio import Tasks
from kernelgate.errors import HOST_ERRORS, HostUnavailable, KernelgateError, RemoteProtocolError
from kernelgate.link import frame

#: Idle connections kept per session; more are made as needed and closed after use.
KEPT_CONNECTIONS = 4
#: A host may go to sleep, and closes them then: one that was not used for so long is not used again, so that no request meets that moment.
KEPT_S = 5.0
#: The answer to an upload is small.
_MAX_ANSWER_FRAMES = 64
_SLUG = re.compile(r"[a-z0-9_]{1,64}")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used_at = time.monotonic()

    async def send(self, header: dict[str, Any], body: bytes) -> None:
        self.writer.write(frame.encode(header, body))
        await self.writer.drain()

    async def receive(self) -> frame.Frame:
        head_size, body_size = frame.lengths(await self.reader.readexactly(frame.PREFIX_BYTES))
        data = await self.reader.readexactly(head_size + body_size)
        return frame.header(data[:head_size]), data[head_size:]

    def close(self) -> None:
        self.writer.close()


class Upload:
    """A request whose body comes piece by piece. `send` waits while the host takes no more; `finish` gives the answer; `close` in any case.

    A host may answer before the body is over, with what is wrong: `send` raises that then.
    """

    def __init__(self, connection: _Connection, tasks: Tasks, name: str) -> None:
        self._connection = connection
        self._answer = tasks.start(connection.receive(), f"link:{name}", awaited=True)

    async def send(self, piece: bytes) -> None:
        if self._answer.done():
            await self.finish()
            raise HostUnavailable("the session's host answered before it was asked")
        try:
            await self._connection.send({"more": True}, piece)
        except OSError as exc:
            raise HostUnavailable("the session's host hung up") from exc

    async def finish(self) -> list[frame.Frame]:
        """The frames of the answer."""
        frames = []
        try:
            if not self._answer.done():
                await self._connection.send({"end": True}, b"")
            answer = await self._answer
            while True:
                _raise_error(answer[0])
                frames.append(answer)
                if answer[0].get("end") or len(frames) > _MAX_ANSWER_FRAMES:
                    return frames
                answer = await self._connection.receive()
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise HostUnavailable("the session's host hung up") from exc

    def close(self) -> None:
        """Lets go. What was not finished does not happen."""
        if not self._answer.cancel() and not self._answer.cancelled():
            self._answer.exception()  # it was not asked for, and is not logged
        self._connection.close()


class Duplex:
    """A request whose body and answer both go on until one side ends them. `close` in any case; it does not wait.

    Raises of every method: HostUnavailable, and the errors that the host answers with.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Waits while the host takes no more."""
        try:
            await self._connection.send(header, body)
        except OSError as exc:
            raise HostUnavailable("the session's host hung up") from exc

    async def receive(self) -> frame.Frame:
        try:
            header, body = await self._connection.receive()
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise HostUnavailable("the session's host hung up") from exc
        _raise_error(header)
        return header, body

    def close(self) -> None:
        self._connection.close()


class Link:
    """Requests to one host. Safe for concurrent use; each request has a connection of its own.

    Raises of every method: HostUnavailable when the host cannot be reached or hangs up, RemoteProtocolError when it talks nonsense, and the errors of
    `errors.HOST_ERRORS` that the host answers with.
    """

    def __init__(self, path: Path, *, kept_s: float = KEPT_S) -> None:
        self._path, self._kept_s = path, kept_s
        self._kept: list[_Connection] = []
        self._tasks = Tasks()
        self._closed = False

    async def _connect(self) -> _Connection:
        try:
            # By way of the directory's descriptor: a socket's path may have 107 bytes, a data directory's more.
            directory = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
            try:
                return _Connection(*await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{self._path.name}", limit=1024 * 1024))
            finally:
                os.close(directory)
        except OSError as exc:
            raise HostUnavailable("the session's host does not answer") from exc

    async def request(self, op: str, body: bytes = b"", **fields: Any) -> frame.Frame:
        """One request, and the last frame of its answer. If cancelled, the connection is dropped and the host goes on with what was asked."""
        connection = await self._send({"op": op, **fields}, body)
        whole = False
        try:
            while True:
                header, answer = await self._receive(connection)
                whole = bool(header.get("end"))
                _raise_error(header)
                if whole:
                    return header, answer
        finally:
            self._let_go(connection, whole=whole)

    async def stream(self, op: str, body: bytes = b"", **fields: Any) -> AsyncGenerator[frame.Frame, None]:
        """One request, and the frames of its answer, the last one included. Not reading holds the host back."""
        connection = await self._send({"op": op, **fields}, body)
        whole = False
        try:
            while not whole:
                header, answer = await self._receive(connection)
                whole = bool(header.get("end"))
                _raise_error(header)
                yield header, answer
        finally:
            self._let_go(connection, whole=whole)

    @staticmethod
    async def _receive(connection: _Connection) -> frame.Frame:
        try:
            return await connection.receive()
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise HostUnavailable("the session's host hung up") from exc

    def _let_go(self, connection: _Connection, *, whole: bool) -> None:
        if whole and not self._closed and len(self._kept) < KEPT_CONNECTIONS:
            connection.used_at = time.monotonic()
            self._kept.append(connection)
        else:
            connection.close()

    async def upload(self, op: str, **fields: Any) -> Upload:
        """A request whose body follows piece by piece."""
        return Upload(await self._send({"op": op, "upload": True, **fields}, b""), self._tasks, op)

    async def duplex(self, op: str, **fields: Any) -> Duplex:
        """A request whose body and answer come frame by frame, both ways at once."""
        return Duplex(await self._send({"op": op, "upload": True, **fields}, b""))

    async def _send(self, header: dict[str, Any], body: bytes) -> _Connection:
        connection = self._take_kept() or await self._connect()
        try:
            await connection.send(header, body)
        except OSError as exc:
            connection.close()
            raise HostUnavailable("the session's host hung up") from exc
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_kept(self) -> _Connection | None:
        """A kept connection may have been closed by a host that died since; nothing was sent on it then, and the next one is looked at."""
        while self._kept:
            connection = self._kept.pop()
            if time.monotonic() < connection.used_at + self._kept_s and not (connection.reader.at_eof() or connection.writer.is_closing()):
                return connection
            connection.close()
        return None

    def close(self) -> None:
        self._closed = True
        while self._kept:
            self._kept.pop().close()


def _raise_error(header: dict[str, Any]) -> None:
    """What the host answered with, if it is an error."""
    error = header.get("error")
    if isinstance(error, dict):
        raise _error(error)


def _error(error: dict[str, Any]) -> KernelgateError:
    """What the host answered with, as an exception of the closed set; anything else is the host's failure."""
    detail, details, code = str(error.get("message")), error.get("details"), error.get("code")
    known = HOST_ERRORS.get(str(error.get("kind")))
    if known is None:
        return RemoteProtocolError(f"the session's host failed: {detail}")
    made = known(detail)
    if isinstance(details, dict):
        made.details = details
    if isinstance(code, str) and _SLUG.fullmatch(code):
        made.code = code  # an InvalidRequest may say more precisely what is invalid
    return made
