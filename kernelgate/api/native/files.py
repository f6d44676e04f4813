"""`/v1/sessions/S/files`: all of it is carried out inside the session, as its own user. Here requests are checked, bytes are passed on, and answers are checked again."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from email.utils import formatdate
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from tornado import iostream

from kernelgate.api.base import Services, retrying_host
from kernelgate.api.native import file_model as model
from kernelgate.api.native import operation
from kernelgate.api.native.execution import StreamingHandler
from kernelgate.api.native.session import natural
from kernelgate.errors import BodyTooLarge, HostUnavailable, InvalidRequest, KernelgateError, RangeNotSatisfiable, RemoteProtocolError
from kernelgate.link.client import Upload
from kernelgate.link.frame import Frame
from kernelgate.sessions.session import Session

T = TypeVar("T")

#: Of an answer that is JSON: the text of files (16 MiB, escaped) or 10 000 long names.
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 1000
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
_ETAG = re.compile(r'"[0-9a-f-]{1,64}"')
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


async def ask(services: Services, session: Session, do: str, kind: type[T], *, again: bool, **fields: Any) -> T:
    """A request to a session's files, and its answer. `again`: it may be asked twice."""

    async def once() -> T:
        answer = bytearray()
        async with contextlib.aclosing(session.link.stream("files", do=do, **fields)) as frames:
            async for header, body in frames:
                answer += body
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise RemoteProtocolError("the session's host answered more than was asked")
                if header.get("end"):
                    return _decoded(bytes(answer), kind)
        raise HostUnavailable("the session's host hung up")

    return await (retrying_host(once, services, session) if again else once())


def _decoded(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as exc:
        raise RemoteProtocolError("the session's host answered something that is no answer") from exc


async def watch(session: Session, path: str, *, recursive: bool) -> AsyncGenerator[list[bytes], None]:
    """The lines of a watch, checked, as they come."""
    after = 0
    async with contextlib.aclosing(session.link.stream("files", do="watch", path=path, recursive=recursive)) as frames:
        async for header, body in frames:
            if header.get("end"):
                return
            lines = body.splitlines(keepends=True)
            after = operation.check_lines(lines, after)
            for line in lines:
                _decoded(line, model.FileEvent)
            yield lines


class FilesBase(StreamingHandler):
    """What the handlers of files have in common."""

    def query(self, name: str, default: str | None = None) -> str:
        """A query parameter as it is: a path may have spaces at its ends. Raises InvalidRequest."""
        values = self.request.query_arguments.get(name)
        if values is None:
            if default is None:
                raise InvalidRequest(f"?{name}= is missing")
            return default
        try:
            return values[-1].decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"{name}: UTF-8 is expected", code="invalid_utf8") from exc

    def path(self, default: str | None = None) -> str:
        """`?path=`, of any bytes, or the same as base64 in `?path_b64=`. Raises InvalidRequest."""
        values = self.request.query_arguments.get("path")
        given = None if values is None else values[-1].decode("utf-8", "surrogateescape")
        if given is None and default is None and "path_b64" not in self.request.query_arguments:
            raise InvalidRequest("?path= is missing")
        encoded = self.query("path_b64", "")
        return model.exact_path(given, encoded, "path") if encoded else given if given is not None else str(default)

    def flag(self, name: str, default: bool) -> bool:
        value = self.query(name, "true" if default else "false").lower()
        if value not in (*_TRUE, *_FALSE):
            raise InvalidRequest(f"{name}: true or false is expected, got {value[:100]!r}")
        return value in _TRUE

    def number(self, name: str, default: int, highest: int) -> int:
        text = self.query(name, str(default))
        if not 1 <= (number := natural(text)) <= highest:
            raise InvalidRequest(f"{name}: a number from 1 to {highest} is expected, got {text[:100]!r}")
        return number

    async def answer(self, session_id: str, do: str, kind: type[T], *, again: bool, status: int = 200, **fields: Any) -> None:
        """Asks and sends what comes. A caller who leaves takes the request along."""
        with self.session(session_id) as session:
            task = self.services.tasks.start(ask(self.services, session, do, kind, again=again, **fields), f"files:{do}", awaited=True)
            self.when_gone(_canceller(task))
            try:
                answer: T = await task
            except asyncio.CancelledError:
                if task.cancelled():
                    return  # the caller has left
                raise
        self.send_bytes(msgspec.json.encode(answer), status)

    async def pass_on(self, frames: AsyncIterator[Frame]) -> bool:
        """Writes the data of an answer whose head is written, as fast as the caller takes it. Whether it got to the end."""
        try:
            while (frame := await self.next_frame(frames)) is not None:
                header, body = frame
                if body:
                    self.write(body)
                    await self.flushed()
                if header.get("end"):
                    return True
        except (iostream.StreamClosedError, TimeoutError, KernelgateError):
            pass
        # It has begun, so that it can only break off: the caller sees that it is not whole.
        self.detach().close()
        return False

    async def next_frame(self, frames: AsyncIterator[Frame]) -> Frame | None:
        """The next frame; None when the caller has left, or after the last one."""
        if self.client_gone:
            return None
        task: asyncio.Task[Frame | None] = self.services.tasks.start(_next(frames), "files:next", awaited=True)
        cancel = _canceller(task)
        self.when_gone(cancel)
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled():
                return None  # the caller has left
            raise
        finally:
            self._gone.remove(cancel)


async def _next(frames: AsyncIterator[Frame]) -> Frame | None:
    return await anext(frames, None)


def _canceller(task: asyncio.Task[Any]) -> Callable[[], None]:
    def cancel() -> None:
        task.cancel()

    return cancel


class FilesHandler(FilesBase):
    """`/v1/sessions/S/files`"""

    async def get(self, session_id: str) -> None:
        """What is in a directory, and with `?depth=` below it."""
        await self.answer(
            session_id, "list", model.FileList, again=True, path=self.path("."), depth=self.number("depth", 1, MAX_DEPTH),
            limit=self.number("limit", model.MAX_ENTRIES, model.MAX_ENTRIES), after=self.query("page_token", ""),
        )  # fmt: skip

    async def delete(self, session_id: str) -> None:
        """Deletes a file, or a directory: an empty one, or any with `?recursive=true`."""
        await self.answer(
            session_id, "delete", model.Deleted, again=False, path=self.path(), recursive=self.flag("recursive", False), missing_ok=self.flag("missing_ok", False),
        )  # fmt: skip


class FileStatHandler(FilesBase):
    """`/v1/sessions/S/files/stat`"""

    async def get(self, session_id: str) -> None:
        """What a path names; with `?follow=false` a link itself."""
        await self.answer(session_id, "stat", model.File, again=True, path=self.path(), follow=self.flag("follow", True))


class FileTextHandler(FilesBase):
    """`/v1/sessions/S/files/text`"""

    async def get(self, session_id: str) -> None:
        """A file as text, in JSON."""
        errors = self.query("errors", "strict")
        if errors not in ("strict", "replace", "ignore", "backslashreplace"):
            raise InvalidRequest(f"errors: strict, replace, ignore or backslashreplace is expected, got {errors[:100]!r}")
        await self.answer(
            session_id, "text", model.TextFile, again=True, path=self.path(), encoding=self.query("encoding", "utf-8")[:64], errors=errors, max_bytes=MAX_TEXT_BYTES
        )  # fmt: skip


class FileReadHandler(FilesBase):
    """`/v1/sessions/S/files/read`"""

    async def post(self, session_id: str) -> None:
        """Several files at once."""
        body = self.body(model.ReadFiles)
        await self.answer(
            session_id, "read_many", model.ReadFilesAnswer, again=True, paths=body.paths, encoding=body.encoding, max_bytes=MAX_TEXT_BYTES
        )


class FileMkdirHandler(FilesBase):
    """`/v1/sessions/S/files/mkdir`"""

    async def post(self, session_id: str) -> None:
        """Makes a directory."""
        await self.answer(session_id, "mkdir", model.File, again=False, status=201, **model.with_paths(self.body(model.MakeDirectory)))


class FileMoveHandler(FilesBase):
    """`/v1/sessions/S/files/move`"""

    async def post(self, session_id: str) -> None:
        """Gives a file or a directory another name."""
        await self.answer(session_id, "move", model.File, again=False, **model.with_paths(self.body(model.Relocation)))


class FileCopyHandler(FilesBase):
    """`/v1/sessions/S/files/copy`"""

    async def post(self, session_id: str) -> None:
        """Copies a file, or a directory with all that is in it."""
        await self.answer(session_id, "copy", model.File, again=False, status=201, **model.with_paths(self.body(model.Relocation)))


class FileEditHandler(FilesBase):
    """`/v1/sessions/S/files/edit`"""

    async def post(self, session_id: str) -> None:
        """Replaces texts in a file."""
        fields = model.with_paths(self.body(model.EditFile))
        await self.answer(session_id, "edit", model.Edited, again=False, **{**fields, "edits": msgspec.to_builtins(fields["edits"])})


class FileSearchHandler(FilesBase):
    """`/v1/sessions/S/files/search`"""

    async def post(self, session_id: str) -> None:
        """Finds files by name and content."""
        await self.answer(session_id, "search", model.Matches, again=True, **model.with_paths(self.body(model.SearchFiles)))


class FileWatchHandler(FilesBase):
    """`/v1/sessions/S/files/watch`"""

    async def get(self, session_id: str) -> None:
        """What happens in a directory, until the caller leaves."""
        kind, path, recursive = self.wanted_stream() or "application/x-ndjson", self.path("."), self.flag("recursive", False)
        with self.session(session_id) as session:
            await self.stream(kind, watch(session, path, recursive=recursive), accepted=False)


class Facts(msgspec.Struct, kw_only=True):
    """What a session says of a file before its data."""

    size: int
    start: int
    length: int
    partial: bool
    etag: str
    modified: float


class UploadHandler(FilesBase):
    """Handlers whose PUT has a body of any size: it goes on to the session as it comes, never more of it held here than the session takes."""

    _upload: Upload | None = None
    _busy: Session | None = None
    _problem: KernelgateError | None = None
    _stalled: asyncio.TimerHandle | None = None
    _received = 0
    _heard_at = 0.0

    def begin(self) -> tuple[str, dict[str, Any]]:
        """What to ask of the session, and with which fields. Raises InvalidRequest."""
        raise NotImplementedError

    def body_limit(self) -> int:
        if self.request.method != "PUT":
            return super().body_limit()
        limit = self.services.settings.sessions.max_upload_bytes
        return 1 << 62 if limit is None else limit

    async def prepare(self) -> None:
        await super().prepare()
        if self.request.method != "PUT" or self._left_out:
            return
        try:
            do, fields = self.begin()
            session = self.session(self.path_kwargs["session_id"])
            self._upload = await session.link.upload("files", do=do, **fields)
        except KernelgateError as exc:
            self._problem = exc
            return
        self._busy = session
        session.__enter__()
        self._heard_at = time.monotonic()
        self._look_again()

    def _look_again(self) -> None:
        self._stalled = asyncio.get_running_loop().call_later(self.services.settings.server.write_timeout_s, self._look)

    def _look(self) -> None:
        """A sender that sends nothing more is not waited for."""
        if time.monotonic() - self._heard_at < self.services.settings.server.write_timeout_s:
            self._look_again()
        else:
            self.detach().close()
            self.on_connection_close()

    async def data_received(self, chunk: bytes) -> None:
        if self._upload is None and self._problem is None:
            super().data_received(chunk)  # it was refused
            return
        self._received += len(chunk)
        if self._problem is None and self._received > self.body_limit():
            self._problem = BodyTooLarge(self._too_large())
        if self._problem is not None or self._upload is None:
            return  # the rest is read and thrown away, so that its sender gets to read the answer
        try:
            await self._upload.send(chunk)
        except KernelgateError as exc:
            self._problem = exc
        self._heard_at = time.monotonic()

    async def put(self, session_id: str) -> None:  # noqa: ARG002 - begin() has taken it
        """The body has come to its end."""
        if self._stalled is not None:
            self._stalled.cancel()
        if self._problem is not None:
            raise self._problem
        if self._left_out:
            raise BodyTooLarge(self._too_large())
        assert self._upload is not None
        task = self.services.tasks.start(self._upload.finish(), "files:upload", awaited=True)
        self.when_gone(_canceller(task))
        try:
            frames: list[Frame] = await task
        except asyncio.CancelledError:
            if task.cancelled():
                return  # the caller has left
            raise
        self.uploaded(b"".join(body for _, body in frames))

    def uploaded(self, answer: bytes) -> None:
        """Sends the session's answer."""
        raise NotImplementedError

    def _let_go(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        if self._upload is not None:
            self._upload.close()
            self._upload = None
        if self._busy is not None:
            self._busy.__exit__()
            self._busy = None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._let_go()

    def on_finish(self) -> None:
        self._let_go()
        super().on_finish()


class FileContentHandler(UploadHandler):
    """`/v1/sessions/S/files/content`"""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, RangeNotSatisfiable):
            self.set_header("Content-Range", f"bytes */{error.details.get('size', '*')}")
        super().write_error(status_code, **kwargs)

    async def head(self, session_id: str) -> None:
        """The headers of the GET."""
        await self.get(session_id)

    async def get(self, session_id: str) -> None:
        """The bytes of a file; with `Range: bytes=` some of them (206)."""
        fields: dict[str, Any] = {"path": self.path(), **self._range()}
        with self.session(session_id) as session:
            async with contextlib.aclosing(session.link.stream("files", do="read", **fields)) as frames:
                self.set_header("Accept-Ranges", "bytes")
                first = await self.next_frame(frames)
                if first is None:
                    return
                facts = operation.checked(first[0].get("ok"), Facts)
                if (
                    not _ETAG.fullmatch(facts.etag)
                    or not 0 <= facts.start <= facts.start + facts.length <= facts.size
                    or not 0 <= facts.modified < 1 << 40
                ):
                    raise RemoteProtocolError("the session's host answered something that is no answer")
                self.set_header("Content-Type", "application/octet-stream")
                self.set_header("Content-Length", str(facts.length))
                self.set_header("ETag", facts.etag)
                self.set_header("Last-Modified", formatdate(facts.modified, usegmt=True))
                if facts.partial:
                    self.set_status(206)
                    self.set_header("Content-Range", f"bytes {facts.start}-{facts.start + facts.length - 1}/{facts.size}")
                if self.request.method == "HEAD" or await self.pass_on(_exactly(frames, facts.length)):
                    self.finish()

    def _range(self) -> dict[str, Any]:
        """One range is answered as such; several, and what is none, with the whole file, as HTTP allows."""
        found = _RANGE.fullmatch(self.request.headers.get("Range", "").replace(" ", ""))
        start = stop = suffix = None
        if found and found[3] is not None:
            suffix = int(found[3])
        elif found and not (found[2] and int(found[2]) < int(found[1])):
            start, stop = int(found[1]), int(found[2]) + 1 if found[2] else None
        return {"start": start, "stop": stop, "suffix": suffix, "if_range": self.request.headers.get("If-Range")}

    def begin(self) -> tuple[str, dict[str, Any]]:
        mode = self.query("mode", "overwrite")
        if mode not in ("overwrite", "append", "create"):
            raise InvalidRequest(f"mode: overwrite, append or create is expected, got {mode[:100]!r}")
        permissions = self.query("permissions", "")
        if permissions and not re.fullmatch(r"0?[0-7]{3}", permissions):
            raise InvalidRequest(f"permissions: three octal digits are expected, got {permissions[:100]!r}")
        return "write", {
            "path": self.path(), "mode": mode, "parents": self.flag("parents", True), "permissions": int(permissions, 8) if permissions else None,
        }  # fmt: skip

    def uploaded(self, answer: bytes) -> None:
        written = _decoded(answer, model.WrittenFile)
        self.send_bytes(msgspec.json.encode(written), 201 if written.created else 200)


async def _exactly(frames: AsyncIterator[Frame], length: int) -> AsyncIterator[Frame]:
    """The data that was announced, no more of it and no less."""
    left = length
    async for header, body in frames:
        left -= len(body)
        if left < 0 or (header.get("end") and left):
            raise RemoteProtocolError("the session's host sent another number of bytes than it said")
        yield header, body


class FileArchiveHandler(UploadHandler):
    """`/v1/sessions/S/files/archive`"""

    async def get(self, session_id: str) -> None:
        """A tree as tar.gz."""
        fields: dict[str, Any] = {
            "path": self.path("."),
            "exclude": [one.decode("utf-8", "replace") for one in self.request.query_arguments.get("exclude", [])],
        }
        with self.session(session_id) as session:
            async with contextlib.aclosing(session.link.stream("files", do="pack", **fields)) as frames:
                first = await self.next_frame(frames)
                if first is None:
                    return
                name = str((first[0].get("ok") or {}).get("name") or "files")[:255]
                self.set_header("Content-Type", "application/gzip")
                self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}.tar.gz")
                if await self.pass_on(frames):
                    self.finish()

    def begin(self) -> tuple[str, dict[str, Any]]:
        return "unpack", {"path": self.path(".")}

    def uploaded(self, answer: bytes) -> None:
        self.send_bytes(msgspec.json.encode(_decoded(answer, model.Unpacked)), 201)
