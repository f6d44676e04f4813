"""What a session uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from kernelgate.sdk.models import Json

__all__ = ["Metrics", "Sample"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a session uses at one time. None is what the server cannot tell without a sandbox.

    Attributes:
        time: RFC 3339 in UTC.
        cpu_s: CPU time since the session was made, also of processes that are gone.
        cpu_percent: of one core, since the sample before.
        memory_bytes: without what the system keeps of files and would give back.
        tmp_bytes: in `/tmp`, which is memory too.
        shm_bytes: in `/dev/shm`, likewise.
        received_bytes: over the network.
        sent_bytes: over the network.
        loopback_bytes: between processes of the session.
    """

    time: str = ""
    cpu_s: float = 0.0
    cpu_percent: float = 0.0
    memory_bytes: int = 0
    processes: int = 0
    threads: int = 0
    tmp_bytes: int | None = None
    shm_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None
    loopback_bytes: int | None = None

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From what the server sent."""
        known: dict[str, Any] = {**raw, **(raw.get("network") or {})}
        return cls(**{name: known[name] for name in cls.__dataclass_fields__ if name in known})

    @property
    def memory_mb(self) -> float:
        """In MiB."""
        return self.memory_bytes / 1024**2


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a session uses.

    Attributes:
        history: earlier samples, oldest first: one every `interval_s` while anything runs or happens, none while the session is idle; the last sixty.
        memory_limit_bytes: None where there is no limit.
        workspace_bytes: on the disk; None if it could not be looked through.
        workspace_entries: files, directories and links in it.
    """

    now: Sample
    history: list[Sample] = field(default_factory=list)
    interval_s: float = 0.0
    memory_limit_bytes: int | None = None
    workspace_bytes: int | None = None
    workspace_entries: int | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From what the server sent."""
        workspace: Json = raw.get("workspace") or {}
        return cls(
            now=Sample.from_wire(raw["now"]),
            history=[Sample.from_wire(one) for one in raw.get("history") or ()],
            interval_s=raw.get("interval_s") or 0.0,
            memory_limit_bytes=raw.get("memory_limit_bytes"),
            workspace_bytes=workspace.get("bytes"),
            workspace_entries=workspace.get("entries"),
            raw=raw,
        )
