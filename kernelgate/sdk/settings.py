"""What a client can be told: how long to wait, how long to retry, how many connections to keep."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pool", "Retry", "Timeout"]


@dataclass(frozen=True, kw_only=True)
class Timeout:
    """How long one request may take, each part in seconds; None waits for ever.

    They bound the conversation with the server, not the code: that is `timeout_s` of a run. A run
    may take hours under `read_s=60`, as the client then asks the server again instead of giving up.

        Timeout(connect_s=1)      # fail fast where no server is
    """

    connect_s: float | None = 5.0
    read_s: float | None = 60.0
    write_s: float | None = 60.0
    pool_s: float | None = 60.0

    @classmethod
    def of(cls, value: Timeout | float | None) -> Timeout:
        """One number for all four parts, or the parts themselves."""
        if isinstance(value, Timeout):
            return value
        return cls(connect_s=value, read_s=value, write_s=value, pool_s=value)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How hard to try again, where that is safe.

    Safe are: reading, deleting, and starting an execution (its id is the client's, so that a
    repeated start attaches to the first). Making a session is repeated only if the request was
    never sent.

        Retry(for_s=0)            # never retry
    """

    for_s: float = 30.0
    """Give up after this long without a sign of life; a gateway's restart takes a few seconds."""

    first_pause_s: float = 0.1
    max_pause_s: float = 2.0

    @classmethod
    def of(cls, value: Retry | float) -> Retry:
        """A number is how long to retry, in seconds."""
        return value if isinstance(value, Retry) else cls(for_s=value)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Connections of one client. A run that streams holds one while it lasts."""

    max_connections: int = 100
    max_idle_connections: int = 20
    idle_s: float = 30.0
