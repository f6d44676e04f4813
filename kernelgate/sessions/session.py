"""A live session as the gateway holds it: its row, the link to its host, and the clock of its idleness."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from kernelgate.link.client import Link
from kernelgate.protocol.result import timestamp
from kernelgate.sessions.registry import Row


@dataclass
class Session:
    """`busy` counts requests under way: a session is not idle while one waits or streams. `warm` names the languages whose kernels were started in the pool."""

    row: Row
    link: Link
    cwd: str
    last_activity_at: float
    busy: int = 0
    warm: set[str] = field(default_factory=set)
    clock_off_s: float = 0.0

    @property
    def id(self) -> str:
        return self.row.id

    def touch(self) -> None:
        self.last_activity_at = time.time()

    def clock_jumped(self, by_s: float) -> None:
        """The wall clock was set: what was measured by it goes with it. Neither idleness nor age is longer or shorter for that."""
        self.last_activity_at += by_s
        self.clock_off_s += by_s

    def __enter__(self) -> Session:
        self.busy += 1
        self.touch()
        return self

    def __exit__(self, *_: object) -> None:
        self.busy -= 1
        self.touch()

    def expires_at(self) -> float | None:
        """When it will be ended if nothing happens: the earlier of idleness and lifetime."""
        ends = []
        if self.row.idle_timeout_s is not None:
            ends.append(self.last_activity_at + self.row.idle_timeout_s)
        if self.row.lifetime_s is not None:
            ends.append(self.row.created_at + self.clock_off_s + self.row.lifetime_s)
        return min(ends, default=None)


def describe(
    row: Row, *, cwd: str, expires_at: float | None = None, last_activity_at: float | None = None, hello: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A session as the API shows it; `hello` is what its host says of it."""
    hello = hello or {}
    return {
        "id": row.id, "state": row.state, "reason": row.reason, "created_at": timestamp(row.created_at), "last_activity_at": timestamp(last_activity_at or row.last_activity_at),
        "ended_at": timestamp(row.ended_at), "idle_timeout_s": row.idle_timeout_s, "lifetime_s": row.lifetime_s, "expires_at": timestamp(expires_at), "labels": row.labels, "limits": row.limits or None, "network": "allow" if row.network else "none",
        "env_names": hello.get("env_names", []), "cwd": cwd, "executing": hello.get("executing", 0), "contexts": hello.get("contexts", []),
    }  # fmt: skip
