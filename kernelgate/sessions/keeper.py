"""The keeper of sessions: makes them (from the pool where it can), finds them again after a restart, ends them when their time has come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernelgate import ids, languages
from kernelgate._aio import Tasks
from kernelgate.errors import (
    CapacityExceeded,
    HostUnavailable,
    InvalidRequest,
    KernelgateError,
    SandboxUnavailable,
    SessionClosed,
    SessionNotFound,
)
from kernelgate.sessions import limits as session_limits
from kernelgate.sessions.limits import Limits
from kernelgate.sessions.node import Node
from kernelgate.sessions.registry import Registry, Row, Token
from kernelgate.sessions.session import Session, describe
from kernelgate.settings import Settings

log = logging.getLogger(__name__)

_CULL_EVERY_S = 1.0
_SAVE_ACTIVITY_EVERY_S = 10.0
#: A wall clock that goes so much further, or back, between two looks than time itself was set, by somebody or after a sleep.
_CLOCK_JUMP_S = 5.0
#: What could not be taken away is tried again after.
_UNMAKE_AGAIN_S = 2.0
#: A host that hung up is there again within some 20 ms.
_HELLO_AGAIN_S = 0.05
#: Sandboxes are made one after the other, by one process; more callers than this wait here, where those who leave can be left out.
_MAKING_AT_ONCE = 4
#: How long those who are being given a session when the gateway drains are waited for.
_SETTLE_S = 15.0
#: After a failure to make a session for the pool; a machine that cannot make one now may later.
_POOL_RETRY_S = 5.0
POOL_LANGUAGE = "python"
#: How long making sessions for the pool waits for those who were given one, and how long nothing may happen until then.
_CALLERS_FIRST_S, _PAUSE_S = 0.5, 0.03
#: Sessions that are found again, or ended, at once when all are.
_AT_ONCE = 8
#: A language is warmed in the pool for so long after it was last used.
_REMEMBER_USE_S = 600.0
#: Kernels of other languages are warmed only while so much of the machine's memory is free: a JVM nobody asked for must not cost anybody anything.
_FREE_MEMORY_SHARE = 0.25


def _memory_left() -> bool:
    fields = {
        name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
    }
    return fields["MemAvailable"] > _FREE_MEMORY_SHARE * fields["MemTotal"]


async def _side_by_side(work: Callable[[Row], Awaitable[None]], rows: list[Row]) -> None:
    """Does it for all of them, `_AT_ONCE` at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(row: Row) -> None:
        async with room:
            await work(row)

    await asyncio.gather(*map(one, rows))


class Keeper:
    """One per gateway. All methods run in the event loop."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings, self.registry = settings, registry
        self._tasks = Tasks()
        self.node = Node(settings, self._tasks, self._ended)
        self._live: dict[str, Session] = {}
        self._ready: deque[Session] = deque()
        self._used: dict[str, float] = {}
        self._wanted = asyncio.Event()
        self._closing = False
        self._turns = asyncio.Semaphore(_MAKING_AT_ONCE)
        self._under_way: set[str] = set()
        #: What is lost, until that is written down: a disk may be full, and whoever asks is told so from now on.
        self._lost: dict[str, Row] = {}
        self._culling = False
        self._culler: asyncio.Task[None] | None = None
        self._filler: asyncio.Task[None] | None = None
        self._clock_off_s = 0.0
        self._default_limits = session_limits.defaults(settings)
        self._given_at = -math.inf
        self.counts = {"created": 0, "from_pool": 0, "culled": 0, "lost": 0}

    # -- life of the keeper --

    async def start(self) -> None:
        """Starts the node, finds the sessions of an earlier gateway, fills the pool. Raises SandboxUnavailable."""
        await self.node.start()
        await self._find_again()
        self._filler = self._tasks.start(self._fill_pool(), "pool:fill")
        self._culler = self._tasks.start(self._cull(), "sessions:cull")

    async def drain(self) -> None:
        """Ends nothing and makes nothing from now on, and waits for what is half made: after it, another gateway may serve this data directory."""
        self._closing = True
        until = time.monotonic() + _SETTLE_S
        if self._filler is not None:
            self._filler.cancel()
            await asyncio.wait({self._filler})
        while (self._under_way or self._culling) and time.monotonic() < until:  # noqa: ASYNC110 - they end in many places
            await asyncio.sleep(0.01)
        if self._culler is not None:
            self._culler.cancel()

    async def close(self, *, end_sessions: bool) -> None:
        """Lets go. Sessions live on, unless `end_sessions` (an embedded server's)."""
        self._closing = True
        with contextlib.suppress(KernelgateError):
            for session in self._live.values():
                self.registry.touch(session.id, session.last_activity_at)
        if end_sessions:

            async def end(row: Row) -> None:
                with contextlib.suppress(KernelgateError):
                    await self.node.end(row.id, row.pid, row.start_ticks, remove=True)

            await _side_by_side(end, self.registry.by_state("ready", "running", "starting"))
        for session in (*self._live.values(), *self._ready):
            session.link.close()
        await self.node.close(stop_zygote=end_sessions)
        await self._tasks.close()

    async def _find_again(self) -> None:
        """Attaches to what lives, and marks the rest lost. What was being deleted when an earlier gateway ended has no directory any more, and is forgotten."""
        for row in self.registry.by_state("running", "closed", "lost"):
            if not self.node.directory(row.id).exists():
                with contextlib.suppress(KernelgateError):
                    await self.remove(row)
        await _side_by_side(self._find, self.registry.by_state("starting", "ready", "running"))  # hosts that sleep are woken by this
        if self._live:
            log.info("found %d live sessions again", len(self._live))
        for session_id in self.node.session_ids() - self.registry.ids():
            log.warning("a session that nobody knows is taken away", extra={"session_id": session_id})
            with contextlib.suppress(KernelgateError):
                await self.node.end(session_id, 0, 0, remove=True)

    async def _find(self, row: Row) -> None:
        session = self._session(row)
        try:
            if row.isolated != self.node.isolated or row.state == "starting" or not self.node.is_alive(row.pid, row.start_ticks):
                raise HostUnavailable("its sandbox was gone when the gateway started")
            async with asyncio.timeout(10):
                header = await self._hello(session)
            session.last_activity_at = max(row.last_activity_at, time.time() - float(header["ok"]["idle_s"]))
        except (KernelgateError, OSError) as exc:
            await self._lose(row, str(exc) or "its host did not answer when the gateway started")
            return
        if row.state == "ready":
            self._ready.append(session)
        else:
            self._live[row.id] = session

    async def _hello(self, session: Session) -> dict[str, Any]:
        """What the host of a session says of itself. One that died is started again by its init, and one that was falling asleep is woken: as long as there is an init, it is asked again."""
        while True:
            try:
                header, _ = await session.link.request("hello")
            except HostUnavailable:
                if not self.node.is_alive(session.row.pid, session.row.start_ticks):
                    raise
                await asyncio.sleep(_HELLO_AGAIN_S)
            else:
                return header

    async def _lose(self, row: Row, reason: str) -> None:
        if row.state != "running":
            await self._unmake(row)
            return
        self.counts["lost"] += 1
        at = time.time()
        self._lost[row.id] = replace(row, state="lost", reason=reason, ended_at=at)

        async def lose() -> None:
            self.registry.lose(row.id, reason, at)
            self._lost.pop(row.id, None)
            await self.node.end(row.id, row.pid, row.start_ticks, remove=False)

        await self._surely(lose)

    async def _take_away(self, row: Row, *, remove: bool, then: Callable[[], None]) -> None:
        """Ends a session's sandbox and takes note of that. Safe to do again. Raises SandboxUnavailable, NoSpace, StorageUnavailable."""
        await self.node.end(row.id, row.pid, row.start_ticks, remove=remove)
        then()

    async def _surely(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does it, again and again until it succeeds: a full disk or process table is not so for ever. What is left when the gateway ends, the next one finds."""
        while True:
            try:
                await work()
            except KernelgateError as exc:
                log.warning("a session cannot be taken away yet: %s", exc.detail)
                await asyncio.sleep(_UNMAKE_AGAIN_S)
            else:
                return

    def _session(self, row: Row) -> Session:
        if not row.limits:  # made by a version that had no limits of its own for each
            row = replace(row, limits=self._default_limits.to_json())
        cwd = self.node.policy.cwd if row.isolated else str(self.node.directory(row.id) / "workspace")
        return Session(row, self.node.link(row.id), cwd, row.last_activity_at)

    # -- making --

    async def _make(self, state: str, limits: Limits, *, has_network: bool = False) -> Session:
        """A new sandbox with a host that answers. What fails on the way leaves nothing behind."""
        if len(self.registry.by_state("starting", "ready", "running")) >= self.settings.sessions.max_sessions:
            raise CapacityExceeded(
                f"this server holds {self.settings.sessions.max_sessions} sessions, as many as it may (sessions.max_sessions); delete some"
            )
        now = time.time()
        row = Row(
            ids.new_session_id(), None, "starting", self.registry.free_slot(), 0, 0, now, now, self.node.isolated, limits=limits.to_json(), network=has_network,
        )  # fmt: skip
        self.registry.save(row)
        self._under_way.add(row.id)
        try:
            pid, ticks = await self.node.make(row.id, row.slot, limits.sandbox(self.node.policy.limits), has_network=has_network)
            row = replace(row, pid=pid, start_ticks=ticks, state=state)
            self.registry.save(row)
            session = self._session(row)
            await session.link.request("hello")
        except BaseException:
            self._unmake_later(row)
            raise
        if state == "ready":
            self._under_way.discard(row.id)
        return session

    async def _unmake(self, row: Row) -> None:
        try:
            await self._surely(lambda: self._take_away(row, remove=True, then=lambda: self.registry.delete(row.id)))
        finally:
            self._under_way.discard(row.id)

    def _unmake_later(self, row: Row) -> None:
        self._under_way.add(row.id)
        self._tasks.start(self._unmake(row), f"session:{row.id}:unmake")

    async def _fill_pool(self) -> None:
        """Keeps the pool as full as it should be: one at a time, so that refilling leaves a core to those who work."""
        while True:
            try:
                await self._callers_first()
                if not self._closing and await self._fill_one():
                    continue
            except CapacityExceeded:
                await asyncio.sleep(_POOL_RETRY_S)  # callers have all there may be: nothing is wrong
                continue
            except (KernelgateError, OSError) as exc:
                log.warning("no session could be made ready: %s", exc)
                await asyncio.sleep(_POOL_RETRY_S)
                continue
            self._wanted.clear()
            await self._wanted.wait()

    async def _callers_first(self) -> None:
        """Who was just given a session is about to use it: the next one is made when they are served, or soon in any case. Not where half of the pool is gone."""
        until = self._given_at + _CALLERS_FIRST_S
        while len(self._ready) > self.settings.sessions.pool_size // 2 and (now := time.monotonic()) < until:
            if now > self._given_at + _PAUSE_S and not any(session.busy for session in self._live.values()):
                return
            await asyncio.sleep(_PAUSE_S)

    async def _fill_one(self) -> bool:
        """Makes one session ready, or starts in a ready one a kernel that it lacks. Whether there was anything to do."""
        if len(self._ready) < self.settings.sessions.pool_size:
            session = await self._make("ready", self._default_limits)
            try:
                await self._warm_next(session)
            finally:
                self._ready.append(session)
            return True
        for session in list(self._ready):
            if await self._warm_next(session):
                return True
        return False

    async def _warm_next(self, session: Session) -> bool:
        """Starts the next kernel that a ready session lacks: Python's, and those of the languages that callers use these days. Whether one was lacking."""
        since = time.monotonic() - _REMEMBER_USE_S
        wanted = [POOL_LANGUAGE, *(name for name, used_at in self._used.items() if used_at > since and _memory_left())]
        for name in wanted:
            if name not in session.warm:
                session.warm.add(name)  # one that cannot be started now is not tried again: the caller will hear why
                with contextlib.suppress(KernelgateError):
                    await session.link.request("warm", spec=self.spec(session, languages.resolve(name, self.node.python["prefix"])))
                return True
        return False

    def note_use(self, language: str) -> None:
        """A caller used this language: sessions made ready from now on have its kernel warm too, for as long as it is used."""
        if language not in self._used:
            self._wanted.set()
        self._used[language] = time.monotonic()

    async def create(
        self,
        token_id: str,
        *,
        labels: dict[str, str],
        env: dict[str, str],
        idle_timeout_s: float | None,
        lifetime_s: float | None,
        warm: list[languages.Language],
        limits: dict[str, Any] | None = None,
        has_network: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> dict[str, Any]:
        """A session for a caller, from the pool where one is ready whose limits can be made these. None there has a network.

        `is_wanted`: whether the caller is still there; a session that is not wanted any more is taken away again, and SessionClosed raised.
        Raises CapacityExceeded, InvalidRequest, SandboxUnavailable, NoSpace, StorageUnavailable.
        """
        token = self.registry.token_of(token_id)
        if has_network:
            self._check_network(token)
        wanted = session_limits.asked_for(limits or {}, self.settings, self.node.lacking, token.ceilings if token else None)
        session, hello = None, {}
        while session is None and not has_network and (ready := self._take_ready(wanted)) is not None:
            self._given_at = time.monotonic()
            self._wanted.set()
            # From here on it is somebody's: a gateway that dies now must not give it, with this environment in it, to somebody else.
            try:
                self.registry.save(replace(ready.row, state="starting"))
            except KernelgateError:
                self._ready.appendleft(ready)
                raise
            self._under_way.add(ready.id)
            try:
                hello = await self._configure(ready, env, warm, wanted)
                session = ready
                self.counts["from_pool"] += 1
            except HostUnavailable:
                self._unmake_later(ready.row)  # it died while it waited; nobody's loss
            except BaseException:
                self._unmake_later(ready.row)
                raise
        if session is None:
            async with self._turns:
                if not is_wanted():
                    raise SessionClosed("its caller has left")
                session = await self._make("starting", wanted, has_network=has_network)
            try:
                hello = await self._configure(session, env, warm, wanted)
            except BaseException:
                self._unmake_later(session.row)
                raise
        now = time.time()
        session.row = replace(
            session.row,
            token_id=token_id,
            state="running",
            created_at=now,
            last_activity_at=now,
            labels=labels,
            idle_timeout_s=idle_timeout_s,
            lifetime_s=lifetime_s,
        )
        session.last_activity_at = now
        try:
            if not is_wanted():
                raise SessionClosed("its caller has left")
            self.registry.save(session.row)
        except KernelgateError:
            self._unmake_later(session.row)
            raise
        self._under_way.discard(session.id)
        self._live[session.id] = session
        self.counts["created"] += 1
        return self._described(session, hello)

    def _check_network(self, token: Token | None) -> None:
        """Raises InvalidRequest: `network_not_allowed`, `network_unavailable`."""
        if not self.settings.sandbox.network:
            raise InvalidRequest("network: this server's sessions have none (sandbox.network)", code="network_not_allowed", field="network")
        if token is None or not token.network:
            raise InvalidRequest(
                "network: this token's sessions have none; one made by `kernelgate token create NAME --network` may ask for it",
                code="network_not_allowed", field="network",
            )  # fmt: skip
        if self.node.network != "allow":
            raise InvalidRequest(f"network: {self.node.network}", code="network_unavailable", field="network")

    def _take_ready(self, wanted: Limits) -> Session | None:
        """Out of the pool, one whose limits can be made these: all but those of its workspace, which is a file system of that size."""
        for session in self._ready:
            has = session.row.limits
            if all(has.get(name) == getattr(wanted, name) for name in ("workspace_bytes", "workspace_inodes")):
                self._ready.remove(session)
                return session
        return None

    def spec(self, session: Session, language: languages.Language) -> dict[str, Any]:
        """What the session's host needs to start a kernel of this language."""
        return self.node.spec(language, session.row.limits["memory_bytes"])

    async def _configure(self, session: Session, env: dict[str, str], warm: list[languages.Language], limits: Limits) -> dict[str, Any]:
        """Makes a session its caller's, with these limits; what its host says of it."""
        for language in warm:
            self.note_use(language.name)
        sandbox, has = limits.sandbox(self.node.policy.limits), session.row.limits
        changed = {name for name in session_limits.SANDBOX if has.get(name) != getattr(limits, name)}
        if changed & {"memory_bytes", "cpu", "processes"}:
            await self.node.limit(session.id, sandbox)
        # Those of single processes: a kernel that runs already has them for good.
        of_process = {
            "open_files",
            "file_bytes",
            *(name for name in ("memory_bytes", "processes") if name.partition("_")[0] in self.node.lacking),
        }
        session.row = replace(session.row, limits=limits.to_json())
        # What a kernel is told of its memory goes by the limit.
        known = [languages.resolve(name, self.node.python["prefix"]) for name in sorted(session.warm)] if "memory_bytes" in changed else []
        header, _ = await session.link.request(
            "configure",
            env=env,
            warm=[self.spec(session, language) for language in warm],
            limits=sandbox.to_json() if changed & of_process else None,
            specs=[self.spec(session, language) for language in known],
        )
        hello: dict[str, Any] = header["ok"]
        return hello

    # -- finding --

    def get(self, token_id: str, session_id: str) -> Session:
        """A live session of this token.

        Raises:
            SessionNotFound: unknown, deleted, or another token's (which is not told apart).
            SessionClosed: it ended; the message says why.
        """
        session = self._live.get(session_id)
        if session is not None and session.row.token_id == token_id:
            return session
        row = self.row(token_id, session_id)
        why = row.reason or ("it is being deleted" if row.state == "running" else row.state)
        raise SessionClosed(f"session {session_id} has ended: {why}; create a new one")

    def row(self, token_id: str, session_id: str) -> Row:
        """A session of this token, ended ones included. Raises SessionNotFound."""
        row = self.registry.get(session_id) if ids.is_session_id(session_id) else None
        if row is None or row.token_id != token_id or row.state in ("ready", "starting"):
            raise SessionNotFound(f"there is no session {session_id!r}")
        return self.known(row)

    def known(self, row: Row) -> Row:
        """What there is to say of a session that the registry says this of."""
        return self._lost.get(row.id, row)

    async def describe(self, session: Session) -> dict[str, Any]:
        header, _ = await session.link.request("hello")
        return self._described(session, header["ok"])

    def _described(self, session: Session, hello: dict[str, Any]) -> dict[str, Any]:
        return describe(
            session.row, cwd=session.cwd, expires_at=session.expires_at(), last_activity_at=session.last_activity_at, hello=hello
        )

    async def describe_any(self, row: Row) -> dict[str, Any]:
        """Also of one that ended, or whose host is away for a moment."""
        session = self._live.get(row.id)
        if session is not None:
            with contextlib.suppress(HostUnavailable):
                return await self.describe(session)
        return describe(self.known(row), cwd=self.node.policy.cwd)

    def live(self) -> list[Session]:
        return list(self._live.values())

    @property
    def ready(self) -> int:
        return len(self._ready)

    # -- ending --

    def update(self, session: Session, **changes: Any) -> None:
        session.row = replace(session.row, **changes)
        self.registry.save(session.row)

    async def delete(self, session: Session, reason: str = "deleted", *, keep: bool = False) -> None:
        """Ends it. With `keep` its history and files stay until the retention is over."""
        if self._live.pop(session.id, None) is None:
            return
        session.link.close()
        row = session.row

        def note() -> None:
            if keep:
                self.registry.save(replace(row, state="closed", reason=reason, ended_at=time.time()))
            else:
                self.registry.delete(row.id)

        try:
            await self._take_away(row, remove=not keep, then=note)
        except KernelgateError:
            self._tasks.start(self._surely(lambda: self._take_away(row, remove=not keep, then=note)), f"session:{row.id}:delete")
            raise

    async def remove(self, row: Row) -> None:
        """Ends a session where it lives, and removes all that is left of it. May be asked again. Raises SandboxUnavailable, NoSpace, StorageUnavailable."""
        session = self._live.get(row.id)
        if session is not None:
            await self.delete(session)
        else:
            await self._take_away(row, remove=True, then=lambda: self.registry.delete(row.id))

    def _ended(self, session_id: str) -> None:
        """The zygote says that a sandbox has ended. If nobody asked for it, the session is lost."""
        for session in list(self._ready):
            if session.id == session_id:
                self._ready.remove(session)
                session.link.close()
                self._wanted.set()
                self._unmake_later(session.row)
        lost = self._live.pop(session_id, None)
        if lost is not None:
            lost.link.close()
            log.warning("a session ended unexpectedly", extra={"session_id": session_id})
            self._tasks.start(self._lose(lost.row, "its sandbox ended unexpectedly"), f"session:{session_id}:lose")

    def check(self, session: Session) -> None:
        """After its host did not answer: finds out whether the session still is. Raises SessionClosed where not."""
        if session.id not in self._live:
            raise SessionClosed(f"session {session.id} has ended meanwhile; create a new one")
        if not self.node.is_alive(session.row.pid, session.row.start_ticks):
            self._ended(session.id)
            raise SessionClosed(f"session {session.id} has ended: its sandbox ended unexpectedly; create a new one")

    async def _cull(self) -> None:
        saved_at = looked_at = time.monotonic()
        wall = time.time()
        while True:
            await asyncio.sleep(_CULL_EVERY_S)
            now, monotonic = time.time(), time.monotonic()
            jump = (now - wall) - (monotonic - looked_at)
            wall, looked_at = now, monotonic
            if abs(jump) > _CLOCK_JUMP_S:
                self._clock_jumped(jump)
            if self._closing:
                return
            self._culling = True
            try:
                await self._cull_all(now)
            finally:
                self._culling = False
            if time.monotonic() - saved_at > _SAVE_ACTIVITY_EVERY_S:
                saved_at = time.monotonic()
                with contextlib.suppress(KernelgateError):
                    for session in self.live():
                        self.registry.touch(session.id, session.last_activity_at)

    async def _cull_all(self, now: float) -> None:
        for session in self.live():
            with contextlib.suppress(KernelgateError, OSError):
                await self._cull_one(session, now)
        with contextlib.suppress(KernelgateError):
            for row in self.registry.ended_before(now - self._clock_off_s - self.settings.sessions.retention_s):
                await self.remove(row)

    def _clock_jumped(self, by_s: float) -> None:
        """Nobody has been idle, or has lived, for the longer of it."""
        log.warning("the clock of this machine jumped by %.0f s", by_s)
        self._clock_off_s += by_s
        for session in self._live.values():
            session.clock_jumped(by_s)

    async def _cull_one(self, session: Session, now: float) -> None:
        expires_at = session.expires_at()
        if expires_at is None or now < expires_at or session.busy:
            return
        header, _ = await session.link.request("hello")
        hello = header["ok"]
        session.last_activity_at = max(session.last_activity_at, time.time() - float(hello["idle_s"]))
        expires_at = session.expires_at()
        if hello["executing"]:
            session.touch()  # the clock of idleness starts when it has ended
            return
        if expires_at is None or now < expires_at:
            return
        idle = session.row.idle_timeout_s is not None and now >= session.last_activity_at + session.row.idle_timeout_s
        self.counts["culled"] += 1
        await self.delete(session, "idle for too long" if idle else "its lifetime was over", keep=True)


__all__ = ["Keeper", "SandboxUnavailable"]
