"""`/v1/sessions/S/processes`: what runs in a session, whoever started it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import msgspec

from kernelgate.api.base import BaseHandler
from kernelgate.api.native import model, operation
from kernelgate.api.native.execution import StreamingHandler
from kernelgate.errors import InvalidRequest
from kernelgate.sessions.session import Session

_INTERVALS_S = (0.1, 3600.0)


class ProcessesHandler(BaseHandler):
    """`/v1/sessions/S/processes`"""

    async def get(self, session_id: str) -> None:
        """The processes, with `?filter=` those whose command line this regular expression finds something in."""
        pattern = self.get_query_argument("filter", None)
        if pattern is not None and len(pattern) > 1000:
            raise InvalidRequest("filter: 1000 characters at the most")
        with self.session(session_id) as session:
            found = await operation.ask(self.services, session, "processes", pattern=pattern)
        self.send(msgspec.to_builtins(operation.checked(found, model.Processes)))


class ProcessKillHandler(BaseHandler):
    """`/v1/sessions/S/processes/kill`"""

    async def post(self, session_id: str) -> None:
        """Signals one process or those that match; with a grace, what is left after it gets SIGKILL."""
        body = self.body(model.KillProcesses)
        if (body.pid is None) == (body.pattern is None):
            raise InvalidRequest("give a pid or a pattern")
        with self.session(session_id) as session:
            fields = {"pid": body.pid, "pattern": body.pattern, "signal": body.signal, "grace_s": body.grace_s}
            found = await operation.ask(self.services, session, "processes_kill", **fields)
        self.send(msgspec.to_builtins(operation.checked(found, model.Killed)))


class ProcessStatsHandler(StreamingHandler):
    """`/v1/sessions/S/processes/PID/stats`"""

    async def get(self, session_id: str, pid: str) -> None:
        """A `stats` event each `?interval_s=`, NDJSON or SSE, until the process ends or the caller leaves."""
        text = self.get_query_argument("interval_s", "1")
        try:
            interval_s = float(text)
        except ValueError:
            interval_s = -1.0
        if not _INTERVALS_S[0] <= interval_s <= _INTERVALS_S[1]:
            raise InvalidRequest(f"interval_s: seconds from {_INTERVALS_S[0]:g} to {_INTERVALS_S[1]:g} are expected, got {text[:100]!r}")
        with self.session(session_id) as session:
            await self.stream(self.wanted_stream() or "application/x-ndjson", _stats(session, int(pid), interval_s), accepted=False)


async def _stats(session: Session, pid: int, interval_s: float) -> AsyncGenerator[list[bytes], None]:
    after = 0
    async with contextlib.aclosing(session.link.stream("process_stats", pid=pid, interval_s=interval_s)) as frames:
        async for header, body in frames:
            if header.get("end"):
                return
            lines = body.splitlines(keepends=True)
            after = operation.check_lines(lines, after)
            yield lines
