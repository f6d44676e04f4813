"""What HTTP and the WebSocket have in common: from a model to the request a host understands, and answers checked on the way back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from kernelgate import ids, languages
from kernelgate.api.base import Services, retrying_host
from kernelgate.api.native import model
from kernelgate.errors import HostUnavailable, InvalidRequest, KernelgateError, RemoteProtocolError
from kernelgate.protocol.event import seq_of
from kernelgate.sessions.session import Session

T = TypeVar("T")

DEFAULT_LANGUAGE = "python"
_REATTACH_TRIES = 5


def checked(value: Any, kind: type[T]) -> T:
    """What a host said, as a model. Raises RemoteProtocolError: a host is not trusted further than its session."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise RemoteProtocolError("the session's host answered something that is no answer") from exc


def language(services: Services, name: str) -> languages.Language:
    """Raises UnsupportedLanguage, LanguageNotInstalled."""
    return languages.resolve(name, services.keeper.node.python["prefix"])


def target(services: Services, session: Session, name: str | None, context: str | None) -> dict[str, Any]:
    """Which context a request means: one by its id, or the default one of a language."""
    if name is not None and context is not None:
        raise InvalidRequest("give a language or a context, not both: a context has its language", code="language_and_context")
    if context is None:
        return {"context": None, "spec": services.keeper.spec(session, language(services, DEFAULT_LANGUAGE if name is None else name))}
    if not context:
        raise InvalidRequest("context: must not be empty")
    # A default context is named like its language, and made on first use.
    try:
        spec = services.keeper.spec(session, language(services, context))
    except InvalidRequest:
        return {"context": context}
    return {"context": spec["language"] if spec["language"] == context else context, "spec": spec}


def time_limit(session: Session, asked: float | UnsetType | None, default: float | None) -> float | None:
    """How long an execution or command of the session may run. Raises InvalidRequest: longer than the session allows."""
    most: float | None = session.row.limits["wall_time_s"]
    if asked is UNSET:
        return default if most is None or default is None else min(default, most)
    if most is not None and (asked is None or asked > most):
        raise InvalidRequest(
            f"timeout_s: this session allows {most:g} s at the most (its limits.wall_time_s, or executions.max_timeout_s)",
            code="timeout_too_long",
            field="timeout_s",
            ceiling=most,
        )
    return asked


def output_limit(session: Session, name: str, asked: int | None, default: int) -> int:
    """How much an execution or command of the session may put out. Raises InvalidRequest: more than the session allows."""
    most = session.row.limits["output_bytes"]
    if asked is None:
        return int(min(default, most))
    if asked > most:
        raise InvalidRequest(
            f"{name}: this session allows {most} at the most (its limits.output_bytes, or executions.ceiling_output_bytes)",
            code="limit_too_high",
            field=name,
            ceiling=most,
        )
    return asked


def execution(services: Services, session: Session, body: model.Execute, request_id: str) -> dict[str, Any]:
    """The fields of a host's `execute`, but for `mode` and `after`."""
    chosen = target(services, session, body.language, body.context)
    if "spec" in chosen:
        services.keeper.note_use(chosen["spec"]["language"])
    limits = services.settings.executions
    return {
        **chosen,
        "execution_id": body.id or ids.new_execution_id(), "code": body.code, "timeout_s": time_limit(session, body.timeout_s, limits.timeout_s), "env": model.checked_env(body.env), "allow_stdin": body.allow_stdin, "ansi": body.ansi,
        "limits": {
            "output_bytes": output_limit(session, "max_output_bytes", body.max_output_bytes, limits.max_output_bytes),
            "result_bytes": output_limit(session, "max_result_bytes", body.max_result_bytes, limits.max_result_bytes),
            "cpu_time_s": session.row.limits["cpu_time_s"],
        },
        "artifacts": model.wanted_artifacts(body.artifacts), "request_id": request_id,
    }  # fmt: skip


async def ask(services: Services, session: Session, op: str, **fields: Any) -> Any:
    """A request to a session's host; its answer's value."""

    async def once() -> Any:
        header, _ = await session.link.request(op, **fields)
        return header["ok"]

    return await retrying_host(once, services, session)


async def result_of(services: Services, session: Session, kind: type[T], op: str, **fields: Any) -> tuple[bytes, T]:
    """A request to a session's host that is answered with JSON of a kind: that JSON, and what it says."""

    async def once() -> bytes:
        _, body = await session.link.request(op, **fields)
        return body

    body = await retrying_host(once, services, session)
    try:
        return body, msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as exc:
        raise RemoteProtocolError("the session's host answered something that is no result") from exc


async def result(services: Services, session: Session, op: str, **fields: Any) -> bytes:
    """An execution's result as JSON. Counts it where it is done."""
    body, made = await result_of(services, session, model.Result, op, **fields)
    if op == "execute" and made.state == "done":
        _count(services, made.language, made.status, made.execution_time)
    return body


async def unwatched(work: Awaitable[Any]) -> None:
    """What is still to be done for a caller who has left, and to whom nothing can be said: that the session has gone meanwhile is no failure."""
    with contextlib.suppress(KernelgateError):
        await work


class _Counted(msgspec.Struct):
    """What is counted of a stream's events: the language is in the first, how it ended in the last."""

    language: str = ""
    status: str | None = None
    execution_time: float | None = None


def _count(services: Services, language: str, status: str | None, seconds: float | None) -> None:
    services.metrics.executions.labels(language, status).inc()
    services.metrics.execution_seconds.labels(language).observe(seconds or 0)


async def events(
    services: Services, session: Session, op: str, *, after: int = 0, counted: bool = False, **fields: Any
) -> AsyncGenerator[list[bytes], None]:
    """The lines of a stream, checked, as they come. A host that dies in between is found again, and the stream goes on where it was.

    `counted`: it is the whole of one execution, for the metrics.
    """
    tries, language = 0, ""
    while True:
        try:
            async for header, body in session.link.stream(op, after=after, mode="stream", **fields):
                if header.get("end"):
                    return
                tries = 0
                lines = body.splitlines(keepends=True)
                after = check_lines(lines, after)
                if counted:
                    language = language or msgspec.json.decode(lines[0], type=_Counted).language
                    if b'"type":"end"' in lines[-1][:250]:
                        end = msgspec.json.decode(lines[-1], type=_Counted)
                        _count(services, language, end.status, end.execution_time)
                yield lines
            raise HostUnavailable("the session's host hung up")
        except HostUnavailable:
            tries += 1
            if tries > _REATTACH_TRIES:
                raise
            services.keeper.check(session)
            await asyncio.sleep(0.1 * tries)


def check_lines(lines: list[bytes], after: int) -> int:
    """That each is JSON on a line of its own with a rising number. Returns the last number. Raises RemoteProtocolError."""
    try:
        for line in lines:
            seq = seq_of(line)
            if seq <= after or not line.endswith(b"}\n"):
                raise ValueError("numbers must rise")
            msgspec.json.decode(line, type=msgspec.Raw)
            after = seq
    except (ValueError, msgspec.DecodeError) as exc:
        raise RemoteProtocolError("the session's host sent something that is no event") from exc
    return after
