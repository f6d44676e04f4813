"""The client: one server, and the sessions in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernelgate.sdk import _discovery, _wire, errors
from kernelgate.sdk._async.session import AsyncSession
from kernelgate.sdk._async.transport import AsyncTransport
from kernelgate.sdk._unset import UNSET, Unset
from kernelgate.sdk.models import Json, Language, SessionInfo, SessionPage
from kernelgate.sdk.settings import Pool, Retry, Timeout

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self


_IMAGES = (None, "code_latest", "agb-code-space-1")


@dataclass(frozen=True, kw_only=True)
class AsyncCreated:
    """A session in the envelope that other code interpreters' SDKs put around it."""

    session: AsyncSession
    success: bool = True
    error_message: str = ""


class AsyncClient:
    """A connection to one kernelgate server.

    Without arguments it finds the server itself: KERNELGATE_URL and KERNELGATE_TOKEN, else the
    server that runs on this machine under this user. Safe to share between tasks and threads.

    Args:
        url: `http://HOST:PORT`.
        token: what opens it.
        timeout: of each request, in seconds, or a `Timeout`; it does not bound how long code runs.
        retries: how long to try again where that is safe, in seconds, or a `Retry`.
        pool: how many connections to keep.
        data_dir: where a server of this machine keeps its data, if not in the usual place.

    Raises:
        ServerNotFound: no address was given, and no server is known.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: Timeout | float | None = Timeout(),  # noqa: B008  (frozen)
        retries: Retry | float = Retry(),  # noqa: B008  (frozen)
        pool: Pool = Pool(),  # noqa: B008  (frozen)
        data_dir: str | Path | None = None,
    ) -> None:
        endpoint = _discovery.find(url, token, data_dir)
        self._transport = AsyncTransport(endpoint, Timeout.of(timeout), Retry.of(retries), pool)
        self.sessions: AsyncSessions = AsyncSessions(self._transport)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. Sessions and what runs in them stay."""
        await self._transport.aclose()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.endpoint.url

    async def languages(self) -> list[Language]:
        """The languages the server knows, with those that are not installed."""
        raw = await self._transport.request("GET", "/v1/languages", is_safe=True)
        return [Language.from_wire(one) for one in raw.get("languages") or ()]

    async def health(self) -> Json:
        """What the server says of itself; needs no token."""
        return await self._transport.request("GET", "/health", is_safe=True, any_status=True)

    async def create(
        self,
        *,
        image_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> AsyncCreated:
        """A new session, in the shape that other code interpreters' SDKs give it.

        Args:
            image_id: None, or the name other services give to an image for code; there is one
                image here, which is that.
            labels: for finding it again.
            env: environment variables of the session.

        Returns:
            An object with `success` and `session`. What goes wrong is raised.
        """
        if image_id not in _IMAGES:
            message = f"there is no image {image_id!r}"
            raise errors.InvalidUse(message, hint="leave image_id out: there is one image here")
        return AsyncCreated(session=await self.sessions.create(labels=labels, env=env))

    async def get(self, session_id: str) -> AsyncCreated:
        """A session by its id, in the same shape as `create`."""
        return AsyncCreated(session=await self.sessions.get(session_id))

    async def delete(self, session: AsyncSession) -> None:
        """The same as `session.delete()`."""
        await session.delete()


class AsyncSessions:
    """The sessions of one token: `client.sessions`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        idle_timeout_s: float | Unset | None = UNSET,
        lifetime_s: float | Unset | None = UNSET,
        languages: Iterable[str] | None = None,
        limits: Mapping[str, float | None] | None = None,
        network: str | None = None,
    ) -> AsyncSession:
        """A new session.

        Args:
            labels: for finding it again with `list(labels=...)`.
            env: environment variables of all its kernels.
            idle_timeout_s: it ends after doing nothing for so long; None for never; by default the
                server decides.
            lifetime_s: it ends at this age; None for never; by default the server decides.
            languages: to have ready before they are used.
            limits: what it may use in place of the server's defaults, up to its ceilings: `memory_bytes`, `cpu` (cores), `processes`, `open_files`,
                `file_bytes`, `workspace_bytes`, `workspace_inodes`, and of one execution `wall_time_s`, `cpu_time_s`, `output_bytes`.
            network: "allow" for a way out, where the server's settings and the token permit it; by default "none".

        Raises:
            CapacityExceeded: there are too many.
            InvalidRequest: a limit is above its ceiling (`details` has `field` and `ceiling`), or there is no network for it.
        """
        given = {
            "labels": UNSET if labels is None else dict(labels),
            "env": UNSET if env is None else dict(env),
            "idle_timeout_s": idle_timeout_s,
            "lifetime_s": lifetime_s,
            "languages": UNSET if languages is None else list(languages),
            "limits": UNSET if limits is None else dict(limits),
            "network": UNSET if network is None else network,
        }
        body = {name: value for name, value in given.items() if not isinstance(value, Unset)}
        raw = await self._transport.request("POST", "/v1/sessions", body=body, is_safe=False)
        return AsyncSession(self._transport, SessionInfo.from_wire(raw))

    async def get(self, session_id: str) -> AsyncSession:
        """A session by its id, running or ended.

        Raises:
            SessionNotFound: there is none of this id under this token.
        """
        path = f"/v1/sessions/{_wire.quoted(session_id)}"
        raw = await self._transport.request("GET", path, is_safe=True)
        return AsyncSession(self._transport, SessionInfo.from_wire(raw))

    async def page(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        state: str | None = None,
        limit: int = 100,
        page_token: str | None = None,
    ) -> SessionPage:
        """One page of sessions. `list` gives all pages.

        Args:
            labels: only those that have all of these.
            state: only those that are `running`, `closed` or `lost`.
            limit: at most so many.
            page_token: of the page before.
        """
        query = {
            "label": [f"{name}={value}" for name, value in (labels or {}).items()],
            "state": state,
            "limit": limit,
            "page_token": page_token,
        }
        raw = await self._transport.request("GET", "/v1/sessions", query=query, is_safe=True)
        return SessionPage(
            sessions=[SessionInfo.from_wire(one) for one in raw.get("sessions") or ()],
            next_page_token=raw.get("next_page_token"),
        )

    async def list(self, *, labels: Mapping[str, str] | None = None, state: str | None = None) -> builtins.list[AsyncSession]:
        """All sessions of this token.

        Args:
            labels: only those that have all of these.
            state: only those that are `running`, `closed` or `lost`.
        """
        return [session async for session in self.iterate(labels=labels, state=state)]

    async def iterate(self, *, labels: Mapping[str, str] | None = None, state: str | None = None) -> AsyncGenerator[AsyncSession, None]:
        """The same as `list`, one by one."""
        page_token: str | None = None
        while True:
            page = await self.page(labels=labels, state=state, page_token=page_token)
            for info in page.sessions:
                yield AsyncSession(self._transport, info)
            page_token = page.next_page_token
            if page_token is None:
                return

    async def delete(self, session_id: str) -> None:
        """Ends a session, with all that runs in it.

        Raises:
            SessionNotFound: there is none of this id under this token.
        """
        await self._transport.delete(f"/v1/sessions/{_wire.quoted(session_id)}")
