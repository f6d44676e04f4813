"""What every handler of this door begins with: tokens wherever Jupyter's clients put them, errors as Jupyter's servers answer them, kernels by their ids."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from kernelgate import ids, languages
from kernelgate.api.base import BaseHandler, Guarded, Services, retrying_host
from kernelgate.api.jupyter import environment
from kernelgate.errors import (
    AuthenticationError,
    InvalidRequest,
    KernelgateError,
    NotFound,
    RemoteProtocolError,
    SessionClosed,
    SessionNotFound,
)
from kernelgate.sessions.frontend import Frontends, KernelRow
from kernelgate.sessions.registry import Token
from kernelgate.sessions.session import Session

#: Every path of this door may begin so: with a token, for clients that cannot send one otherwise, and with the kernel that they mean when they ask for `python3`.
PREFIX = r"(?:/t/(?P<path_token>[^/]+))?(?:/k/(?P<path_kernel>[^/]+))?"
#: As Jupyter's servers have them in their routes.
KERNEL_ID = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"
KERNEL_NAME = r"(?P<kernel_name>[\w\.\-%]+)"
PYTHON_ALIAS = "python3"
_PREFIX = re.compile(PREFIX)
_ID = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+){4}\Z")


class Door(Guarded):
    """`enter` comes first: it takes the prefix off the path, so that a token in it goes into no log and no message."""

    path_kwargs: dict[str, Any]
    token: Token
    base_url = "/"
    default_kernel = PYTHON_ALIAS
    _secret: str | None = None

    def enter(self) -> None:
        found = _PREFIX.match(self.request.path or "")
        prefix = found[0] if found else ""
        self.base_url = prefix + "/"
        self.request.path = (self.request.path or "")[len(prefix) :] or "/"
        self._secret = self.path_kwargs.pop("path_token", None)
        self.default_kernel = self.path_kwargs.pop("path_kernel", None) or PYTHON_ALIAS

    def authenticate(self, *, query: bool = True) -> Token:  # noqa: ARG002 - here it may always be in the query
        if self._secret is None:
            return super().authenticate(query=True)
        token = self.services.token(self._secret)
        if token is None:
            raise AuthenticationError("the token in the path is not known here, or was revoked (see `kernelgate token`)")
        return token

    @property
    def frontends(self) -> Frontends:
        return Frontends(self.services.registry, self.token.id)

    def kernel_name(self, name: str | None) -> str:
        """The kernel that a client means: clients that cannot be told otherwise ask for `python3`, which is then what the path says."""
        return self.default_kernel if name in (None, "", "python", PYTHON_ALIAS) else str(name)


class JupyterHandler(Door, BaseHandler):
    """Of every HTTP handler of this door."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header(
            "Content-Security-Policy", f"frame-ancestors 'self'; report-uri {self.base_url}api/security/csp-report; default-src 'none'"
        )

    async def prepare(self) -> None:
        self.enter()
        self.set_default_headers()
        await super().prepare()

    def options(self, *args: str, **kwargs: str) -> None:
        super().options(*args, **kwargs)
        self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, X-Request-Id, X-XSRFToken")

    def _error(self, status_code: int, error: BaseException | None) -> dict[str, Any]:
        ours = super()._error(status_code, error)["error"]
        if ours["code"] == SessionClosed.code:
            self.set_status(404)  # culled, deleted, lost: as a kernel it is not there
        return {"message": ours["message"], "reason": ours["code"]}


@dataclass(frozen=True)
class Kernel:
    """A kernel of this door: a context in a session. `row` is there where a frontend made it."""

    id: str
    session: Session
    context: str
    row: KernelRow | None


class Described(msgspec.Struct):
    """What a host says of a context."""

    id: str
    language: str
    state: str
    last_activity: str
    connections: int
    reason: str | None = None


class _Made(msgspec.Struct):
    id: str


class DescribedAll(msgspec.Struct):
    kernels: list[Described]


async def ask(services: Services, session: Session, op: str, **fields: Any) -> Any:
    """A request to a session's host; its answer's value."""

    async def once() -> Any:
        header, _ = await session.link.request(op, **fields)
        return header["ok"]

    return await retrying_host(once, services, session)


def id_of(session_id: str, context: str) -> str:
    """A kernel id in the shape of a UUID, from which session and context can be read."""
    return "-".join((session_id[:8], session_id[8:12], session_id[12:16], session_id[16:20], context))


def find(door: Door, kernel_id: str) -> Kernel:
    """Raises NotFound: unknown, ended, another token's."""
    row = door.frontends.kernel(kernel_id)
    first, *middle, context = kernel_id.split("-")
    session_id, context = (row.session_id, row.context) if row is not None else (first + "".join(middle), context)
    try:
        return Kernel(kernel_id, door.services.keeper.get(door.token.id, session_id), context, row)
    except (SessionNotFound, SessionClosed) as exc:
        if row is not None:
            door.frontends.remove_kernel(kernel_id)
        raise NotFound(f"Kernel does not exist: {kernel_id}") from exc


async def describe(door: Door, kernel: Kernel) -> dict[str, Any]:
    """The kernel's model. Raises NotFound where its context is gone."""
    try:
        found = await ask(door.services, kernel.session, "frontend_kernel", context=kernel.context)
    except (NotFound, SessionClosed) as exc:
        raise NotFound(f"Kernel does not exist: {kernel.id}") from exc
    return _model(kernel, _checked(found, Described))


async def describe_all(door: Door) -> list[dict[str, Any]]:
    """Every kernel of the token, those of sessions made over the native API too, as they are when all hosts have answered.

    JupyterLab takes a kernel that is not in the list for ended: one that was made while hosts were asked must be in it.
    """
    keeper = door.services.keeper
    told: dict[str, dict[str, Described]] = {}
    asked: Counter[str] = Counter()

    async def ask_one(session: Session) -> None:
        asked[session.id] += 1
        with contextlib.suppress(KernelgateError):  # it ended meanwhile
            found = _checked(await ask(door.services, session, "frontend_kernels"), DescribedAll).kernels
            told[session.id] = {one.id: one for one in found}

    while True:
        rows = {(row.session_id, row.context): row for row in door.frontends.kernels()}
        sessions = [session for session in keeper.live() if session.row.token_id == door.token.id]
        made_since = {session_id for session_id, context in rows if context not in told.get(session_id, {})}
        new = [one for one in sessions if not asked[one.id] or (one.id in made_since and asked[one.id] < 2)]
        if not new:
            break
        await asyncio.gather(*map(ask_one, new))
    return [
        _model(_kernel(session, one.id, rows.get((session.id, one.id))), one)
        for session in sessions
        for one in told.get(session.id, {}).values()
    ]


def _kernel(session: Session, context: str, row: KernelRow | None) -> Kernel:
    return Kernel(row.id if row is not None else id_of(session.id, context), session, context, row)


def _model(kernel: Kernel, found: Described) -> dict[str, Any]:
    name = kernel.row.name if kernel.row is not None else PYTHON_ALIAS if found.language == "python" else found.language
    model = {
        "id": kernel.id, "name": name, "last_activity": found.last_activity, "execution_state": found.state, "connections": found.connections,
    }  # fmt: skip
    return {**model, "reason": found.reason} if found.reason else model


def _checked(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise RemoteProtocolError("the session's host answered something that is no answer") from exc


async def create(door: Door, name: str | None, asked_env: dict[str, str], kernel_id: str | None) -> dict[str, Any]:
    """A kernel in a session of its own; one that is there under this id already is that kernel. Raises InvalidRequest, CapacityExceeded, SandboxUnavailable."""
    services, settings = door.services, door.services.settings.sessions
    wanted = door.kernel_name(name)
    language = languages.resolve(wanted, services.keeper.node.python["prefix"])
    env, wanted_id = environment.split(asked_env)
    kernel_id = kernel_id or wanted_id
    if kernel_id is not None:
        if not _ID.match(kernel_id) or len(kernel_id) > 128:
            raise InvalidRequest("kernel_id: five groups of letters, digits and _ with - between them are expected, as in a UUID")
        with contextlib.suppress(NotFound):
            return await describe(door, find(door, kernel_id))
    made = await services.keeper.create(
        door.token.id,
        labels={"made_by": "jupyter"},
        env=env,
        idle_timeout_s=settings.idle_timeout_s,
        lifetime_s=settings.lifetime_s,
        warm=[language],
    )
    session = services.keeper.get(door.token.id, made["id"])
    try:
        target = await _target(services, session, language, environment.directory(asked_env, session.cwd))
        found = _checked(await ask(services, session, "frontend_start", **target), Described)
    except BaseException:
        await services.keeper.delete(session)
        raise
    row = KernelRow(kernel_id or id_of(session.id, found.id), session.id, found.id, wanted)
    door.frontends.add_kernel(row)
    return _model(Kernel(row.id, session, found.id, row), found)


async def _target(services: Services, session: Session, language: languages.Language, cwd: str | None) -> dict[str, Any]:
    """The context for a new kernel: the language's default one, already warm, or one that works in another directory."""
    spec = services.keeper.spec(session, language)
    if cwd is None:
        return {"context": None, "spec": spec}
    await session.link.request("files", do="mkdir", path=cwd, parents=True, exist_ok=True)
    made = await ask(services, session, "context_create", spec=spec, name="", cwd=cwd, env={})
    return {"context": _checked(made, _Made).id}


async def delete(door: Door, kernel: Kernel) -> None:
    """Ends a kernel: with its session, where that was made for it. Raises NotFound where it is gone already."""
    if kernel.row is not None:
        door.frontends.remove_kernel(kernel.id)
        await door.services.keeper.delete(kernel.session)
        return
    try:
        await ask(door.services, kernel.session, "context_delete", context=kernel.context)
    except (NotFound, SessionClosed) as exc:
        raise NotFound(f"Kernel does not exist: {kernel.id}") from exc


__all__ = [
    "KERNEL_ID",
    "KERNEL_NAME",
    "PREFIX",
    "Door",
    "JupyterHandler",
    "Kernel",
    "ask",
    "create",
    "delete",
    "describe",
    "describe_all",
    "find",
    "ids",
]
