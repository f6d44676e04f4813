"""What happens in a session while it happens: one class per kind of event.

`match` on the class, or branch on `type`; `to_dict()` is the event as the server sent it, fit to be
passed on as JSON. A kind that this SDK does not know comes as a plain `Event`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from kernelgate.sdk.artifacts import Artifacts
from kernelgate.sdk.models import (
    Death,
    ExecutionError,
    Json,
    ResultItem,
    TimedOut,
    Truncated,
    timed_out,
    truncated,
)

__all__ = [
    "ArtifactsFound",
    "Clear",
    "Cut",
    "End",
    "ErrorRaised",
    "Event",
    "Gap",
    "InputReply",
    "InputRequest",
    "KernelChanged",
    "Queued",
    "Shown",
    "Started",
    "Stderr",
    "Stdout",
    "Updated",
    "from_wire",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        seq: its number in the session, rising; `after=seq` goes on behind it.
        execution_id: whose it is; None if no execution's.
        time: Unix seconds.
        late: output that came after its execution had ended, from a thread for example.
    """

    type: ClassVar[str] = "unknown"

    seq: int
    execution_id: str | None = None
    time: float = 0.0
    late: bool = False
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        """The fields of this kind; each class adds its own to the common ones."""
        del raw
        return {}

    @classmethod
    def from_wire(cls, raw: Json) -> Event:
        """From the server's own shape."""
        return cls(
            seq=raw.get("seq") or 0,
            execution_id=raw.get("execution_id"),
            time=raw.get("time") or 0.0,
            late=bool(raw.get("late")),
            raw=raw,
            **cls._fields(raw),
        )

    def to_dict(self) -> Json:
        """The event as the server sent it."""
        return self.raw


@dataclass(frozen=True, kw_only=True)
class Queued(Event):
    """The server has taken it; `position` come before it on its context."""

    type: ClassVar[str] = "queued"

    context_id: str = ""
    language: str = ""
    code: str = ""
    position: int = 0
    timeout_s: float | None = None

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {
            "context_id": raw.get("context_id") or "",
            "language": raw.get("language") or "",
            "code": raw.get("code") or "",
            "position": raw.get("position") or 0,
            "timeout_s": raw.get("timeout_s"),
        }


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The kernel has it. `fresh_kernel` says why its variables are gone, where they are."""

    type: ClassVar[str] = "started"

    execution_count: int | None = None
    fresh_kernel: str | None = None

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {
            "execution_count": raw.get("execution_count"),
            "fresh_kernel": raw.get("fresh_kernel"),
        }


@dataclass(frozen=True, kw_only=True)
class _Printed(Event):
    text: str = ""

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"text": raw.get("text") or ""}


@dataclass(frozen=True, kw_only=True)
class Stdout(_Printed):
    """A piece of standard output."""

    type: ClassVar[str] = "stdout"


@dataclass(frozen=True, kw_only=True)
class Stderr(_Printed):
    """A piece of standard error."""

    type: ClassVar[str] = "stderr"


@dataclass(frozen=True, kw_only=True)
class _Displayed(Event):
    result: ResultItem = field(default_factory=ResultItem)
    display_id: str | None = None

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {
            "result": ResultItem.from_wire(raw.get("result") or {}),
            "display_id": raw.get("display_id"),
        }


@dataclass(frozen=True, kw_only=True)
class Shown(_Displayed):
    """A display, a figure, or the value of the last expression."""

    type: ClassVar[str] = "result"


@dataclass(frozen=True, kw_only=True)
class Updated(_Displayed):
    """`result` replaces everything shown under `display_id`."""

    type: ClassVar[str] = "update"


@dataclass(frozen=True, kw_only=True)
class Clear(Event):
    """All output so far goes: at once, or (`wait`) when the next comes."""

    type: ClassVar[str] = "clear"

    wait: bool = False

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"wait": bool(raw.get("wait"))}


@dataclass(frozen=True, kw_only=True)
class ErrorRaised(Event):
    """The code raised."""

    type: ClassVar[str] = "error"

    error: ExecutionError = field(default_factory=lambda: ExecutionError(name="Error", value=""))

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"error": ExecutionError.from_wire(raw.get("error") or {})}


@dataclass(frozen=True, kw_only=True)
class InputRequest(Event):
    """The code waits for a line: answer with `session.executions.send_input`."""

    type: ClassVar[str] = "input_request"

    prompt: str = ""
    password: bool = False

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"prompt": raw.get("prompt") or "", "password": bool(raw.get("password"))}


@dataclass(frozen=True, kw_only=True)
class InputReply(Event):
    """It was answered. What was typed is not kept."""

    type: ClassVar[str] = "input_reply"


@dataclass(frozen=True, kw_only=True)
class Gap(Event):
    """Output may be missing here."""

    type: ClassVar[str] = "gap"

    reason: str = ""

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"reason": raw.get("reason") or ""}


@dataclass(frozen=True, kw_only=True)
class Cut(Event):
    """Output was cut here, as it reached its limit: `size_bytes` of `stream` are gone."""

    type: ClassVar[str] = "truncated"

    stream: str = ""
    size_bytes: int = 0

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"stream": raw.get("stream") or "", "size_bytes": raw.get("bytes") or 0}


@dataclass(frozen=True, kw_only=True)
class ArtifactsFound(Event):
    """Files it made or changed, of those that were asked for."""

    type: ClassVar[str] = "artifacts"

    artifacts: Artifacts = field(default_factory=Artifacts)

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {"artifacts": Artifacts.from_wire(raw) or Artifacts()}


@dataclass(frozen=True, kw_only=True)
class KernelChanged(Event):
    """A kernel is `starting`, `ready`, or has `died`."""

    type: ClassVar[str] = "kernel"

    context_id: str = ""
    event: str = ""
    death: Death | None = None

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {
            "context_id": raw.get("context_id") or "",
            "event": raw.get("event") or "",
            "death": Death.from_wire(raw.get("death")),
        }


@dataclass(frozen=True, kw_only=True)
class End(Event):
    """It has ended; only late output can follow."""

    type: ClassVar[str] = "end"

    status: str = ""
    success: bool = False
    execution_count: int | None = None
    execution_time: float = 0.0
    truncated: Truncated | None = None
    timeout: TimedOut | None = None
    death: Death | None = None
    limit: str | None = None

    @classmethod
    def _fields(cls, raw: Json) -> Json:
        return {
            "status": raw.get("status") or "",
            "success": bool(raw.get("success")),
            "execution_count": raw.get("execution_count"),
            "execution_time": raw.get("execution_time") or 0.0,
            "truncated": truncated(raw.get("truncated")),
            "timeout": timed_out(raw.get("timeout")),
            "death": Death.from_wire(raw.get("death")),
            "limit": raw.get("limit"),
        }


_KINDS: dict[Any, type[Event]] = {
    cls.type: cls
    for cls in (
        Queued,
        Started,
        Stdout,
        Stderr,
        Shown,
        Updated,
        Clear,
        ErrorRaised,
        InputRequest,
        InputReply,
        Gap,
        Cut,
        ArtifactsFound,
        KernelChanged,
        End,
    )
}


def from_wire(raw: Json) -> Event:
    """The event in the server's own shape as an object of its class."""
    return _KINDS.get(raw.get("type"), Event).from_wire(raw)
