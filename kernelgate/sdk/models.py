"""What the server tells, as objects. They are read, never made, by users.

Every class keeps what the server sent in `raw`; a field of a newer server is there even where this
SDK has no name for it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from kernelgate.notebook import MIME_TYPES
from kernelgate.sdk import errors
from kernelgate.sdk.artifacts import Artifacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = [
    "Completion",
    "ContextInfo",
    "Death",
    "ExecutionError",
    "Inspection",
    "Json",
    "Language",
    "Logs",
    "Result",
    "ResultItem",
    "ResultPage",
    "SessionInfo",
    "SessionPage",
    "TimedOut",
    "Truncated",
]

Json: TypeAlias = dict[str, Any]

_BINARY = {"png", "jpeg", "pdf"}
_NAMES = {mime: name for name, mime in MIME_TYPES.items()}


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


@dataclass(frozen=True, kw_only=True)
class ResultItem:
    """One thing the code showed: a display, a figure, or the value of its last expression.

    Binary kinds (`png`, `jpeg`, `pdf`) are base64, as notebooks keep them; `as_bytes("png")` decodes.

    Attributes:
        chart: a figure's content as data: type, title, axes, elements.
        data: a table's columns as data.
        extra: any other MIME type the kernel sent, by its name.
        is_main_result: this is the value of the last expression.
    """

    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    png: str | None = None
    jpeg: str | None = None
    svg: str | None = None
    pdf: str | None = None
    latex: str | None = None
    json: Any = None
    javascript: str | None = None
    chart: Any = None
    data: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_main_result: bool = False
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> ResultItem:
        """From the server's own shape."""
        return cls(
            **{name: raw.get(name) for name in (*MIME_TYPES, "chart", "data")},
            extra=raw.get("extra") or {},
            metadata=raw.get("metadata") or {},
            is_main_result=bool(raw.get("is_main_result")),
            raw=raw,
        )

    @classmethod
    def from_mimebundle(cls, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> ResultItem:
        """From a notebook's own shape."""
        named = {_NAMES[mime]: value for mime, value in data.items() if mime in _NAMES}
        extra = {mime: value for mime, value in data.items() if mime not in _NAMES}
        return cls(**named, extra=extra, metadata=metadata)

    def formats(self) -> list[str]:
        """What is present: names of attributes, then MIME types of `extra`."""
        named = [name for name in (*MIME_TYPES, "chart", "data") if getattr(self, name) is not None]
        return [*named, *self.extra]

    def __getitem__(self, name: str) -> Any:
        """A value by an attribute's name or by MIME type."""
        name = _NAMES.get(name, name)
        value = self.extra.get(name) if name in self.extra else None
        if name in MIME_TYPES or name in {"chart", "data"}:
            value = getattr(self, name)
        if value is None:
            raise KeyError(name)
        return value

    def as_bytes(self, name: str) -> bytes:
        """A format as bytes: binary kinds decoded, text in UTF-8."""
        value = self[name]
        name = _NAMES.get(name, name)
        if name in _BINARY or (name not in MIME_TYPES and name.startswith(("image/", "audio/"))):
            return base64.b64decode(value)
        if isinstance(value, str):
            return value.encode()
        import json  # noqa: PLC0415  (not for every import of the SDK)

        return json.dumps(value).encode()

    def picture(self) -> tuple[str, bytes] | None:
        """The best picture there is, as (kind, bytes); kind is `png`, `jpeg` or `svg`."""
        for name in ("png", "jpeg", "svg"):
            if getattr(self, name) is not None:
                return name, self.as_bytes(name)
        return None

    def save(self, path: str | Path, name: str | None = None) -> Path:
        """Writes one format to a file.

        Args:
            path: where to.
            name: which format; by default the one the file's suffix names.
        """
        from pathlib import Path  # noqa: PLC0415

        file = Path(path)
        suffix = file.suffix.lstrip(".").lower()
        wanted = name or {"jpg": "jpeg", "txt": "text", "md": "markdown", "tex": "latex"}.get(suffix, suffix)
        try:
            content = self.as_bytes(wanted)
        except KeyError:
            message = f"the result has no {wanted!r}"
            raise errors.InvalidUse(message, hint=f"it has {', '.join(self.formats()) or 'nothing'}") from None
        file.write_bytes(content)
        return file

    def mimebundle(self) -> Json:
        """All that a notebook could show of it, by MIME type."""
        bundle = {mime: getattr(self, name) for name, mime in MIME_TYPES.items() if getattr(self, name) is not None}
        bundle.update(self.extra)
        return bundle

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[Json, Json]:
        # IPython asks with both arguments, and narrows the bundle itself.
        del include, exclude
        return self.mimebundle(), dict(self.metadata)

    def __str__(self) -> str:
        from kernelgate.sdk import _rendering  # noqa: PLC0415

        return _rendering.item_text(self)


@dataclass(frozen=True, kw_only=True)
class Logs:
    """What the code printed, in the pieces it came in."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExecutionError:
    """What the code raised: in every language the class its users know, and its message."""

    name: str
    value: str
    traceback: str = ""

    @classmethod
    def from_wire(cls, raw: Json) -> ExecutionError:
        """From the server's own shape."""
        return cls(
            name=raw.get("name") or "Error",
            value=raw.get("value") or "",
            traceback=raw.get("traceback") or "",
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


@dataclass(frozen=True, kw_only=True)
class Truncated:
    """How much output was cut, because the execution's limits were reached."""

    stdout_bytes: int = 0
    stderr_bytes: int = 0
    result_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class TimedOut:
    """After how long the code was stopped, and how: `interrupt` (variables kept) or `restart`."""

    after_s: float
    action: str


def truncated(raw: Json | None) -> Truncated | None:
    """From the server's own shape."""
    if not raw:
        return None
    return Truncated(
        stdout_bytes=raw.get("stdout_bytes") or 0,
        stderr_bytes=raw.get("stderr_bytes") or 0,
        result_bytes=raw.get("result_bytes") or 0,
    )


def timed_out(raw: Json | None) -> TimedOut | None:
    """From the server's own shape."""
    if not raw:
        return None
    return TimedOut(after_s=raw.get("after_s") or 0.0, action=raw.get("action") or "interrupt")


@dataclass(frozen=True, kw_only=True)
class Death:
    """Why a kernel died.

    Attributes:
        reason: `exited`, `signalled`, `out_of_memory`, `restarted` or `start_failed`.
        message: the same for people.
    """

    reason: str
    message: str = ""
    exit_code: int | None = None
    signal: str | int | None = None

    @classmethod
    def from_wire(cls, raw: Json | None) -> Death | None:
        """From the server's own shape."""
        if not raw:
            return None
        return cls(
            reason=raw.get("reason") or "exited",
            message=raw.get("message") or "",
            exit_code=raw.get("exit_code"),
            signal=raw.get("signal"),
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """An execution: what it put out, how it ended, or how far it is.

    Printing it prints what a terminal would have shown; a notebook shows its pictures and tables.

    Attributes:
        id: the execution's id: `session.executions.get(id)` finds it again.
        request_id: of the call that started it.
        state: `queued`, `running` or `done`.
        queue_position: how many come before it on its context, with the one that runs; None once started.
        success: None until it has ended.
        status: `ok`, `error`, `timeout`, `interrupted`, `cancelled`, `kernel_died` or `lost`.
        execution_time: seconds.
        logs: what it printed.
        results: what it showed, in order.
        error: what it raised.
        text: the main result's text, else the first text, else all it printed.
        truncated: what was cut off, None if nothing was.
        timeout: set if it ran out of time.
        death: set if its kernel died.
        limit: the session's limit that it met (`memory`, `processes`, `cpu_time`, `wall_time`, `output`, `file_size`, `open_files`, `workspace`, `tmp`, `shm`), None if it met none.
        fresh_kernel: why it met a new kernel, without the variables of before; None if it did not.
        artifacts: files it made or changed, None if they were not asked for.
        last_seq: number of its last event so far; `attach(after=...)` goes on behind it.
    """

    id: str
    request_id: str = ""
    session_id: str = ""
    context_id: str = ""
    language: str = ""
    state: str = "done"
    queue_position: int | None = None
    success: bool | None = None
    status: str | None = None
    execution_count: int | None = None
    execution_time: float = 0.0
    logs: Logs = field(default_factory=Logs)
    results: list[ResultItem] = field(default_factory=list)
    error: ExecutionError | None = None
    text: str | None = None
    truncated: Truncated | None = None
    timeout: TimedOut | None = None
    death: Death | None = None
    limit: str | None = None
    fresh_kernel: str | None = None
    artifacts: Artifacts | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_seq: int = 0
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> Result:
        """From the server's own shape."""
        logs: Json = raw.get("logs") or {}
        error = raw.get("error")
        return cls(
            id=raw["id"],
            request_id=raw.get("request_id") or "",
            session_id=raw.get("session_id") or "",
            context_id=raw.get("context_id") or "",
            language=raw.get("language") or "",
            state=raw.get("state") or "done",
            queue_position=raw.get("queue_position"),
            success=raw.get("success"),
            status=raw.get("status"),
            execution_count=raw.get("execution_count"),
            execution_time=raw.get("execution_time") or 0.0,
            logs=Logs(stdout=list(logs.get("stdout") or ()), stderr=list(logs.get("stderr") or ())),
            results=[ResultItem.from_wire(item) for item in raw.get("results") or ()],
            error=ExecutionError.from_wire(error) if error else None,
            text=raw.get("text"),
            truncated=truncated(raw.get("truncated")),
            timeout=timed_out(raw.get("timeout")),
            death=Death.from_wire(raw.get("death")),
            limit=raw.get("limit"),
            fresh_kernel=raw.get("fresh_kernel"),
            artifacts=Artifacts.from_wire(raw.get("artifacts")),
            created_at=_time(raw.get("created_at")),
            started_at=_time(raw.get("started_at")),
            ended_at=_time(raw.get("ended_at")),
            last_seq=raw.get("last_seq") or 0,
            raw=raw,
        )

    @property
    def result(self) -> str:
        """The text of it: the last expression's, else the first shown, else all that it printed."""
        return self.text or ""

    @property
    def output(self) -> str:
        """What it printed, else its text, without the line end: what a prompt would have shown."""
        return (self.stdout or self.text or "").removesuffix("\n")

    @property
    def stdout(self) -> str:
        """All it printed to standard output."""
        return "".join(self.logs.stdout)

    @property
    def stderr(self) -> str:
        """All it printed to standard error."""
        return "".join(self.logs.stderr)

    @property
    def main_result(self) -> ResultItem | None:
        """The value of the last expression, None if it had none."""
        return next((item for item in self.results if item.is_main_result), None)

    @property
    def error_message(self) -> str:
        """Why it failed, in one line; empty if it did not."""
        if self.success or self.state != "done":
            return ""
        if self.timeout is not None:
            how = "kernel restarted" if self.timeout.action == "restart" else "interrupted"
            what = " of processor time" if self.limit == "cpu_time" else ""
            return f"timed out after {self.timeout.after_s:g} s{what} ({how})"
        if self.death is not None:
            return self.death.message or f"the kernel died: {self.death.reason}"
        if self.error is not None:
            return str(self.error)
        return f"the execution ended as {self.status}"

    def raise_for_error(self) -> Result:
        """Raises if the code failed; else returns the result, so that calls can be chained.

        Raises:
            CodeFailed: or the class of it that fits.
            InvalidUse: it has not ended yet.
        """
        if self.state != "done":
            message = f"execution {self.id} has not ended: it is {self.state}"
            raise errors.InvalidUse(message, hint="wait for it with session.executions.attach(result.id)")
        if not self.success:
            raise errors.from_result(self)
        return self

    def to_dict(self) -> Json:
        """The result as the server sent it, fit for JSON."""
        return self.raw

    def __str__(self) -> str:
        from kernelgate.sdk import _rendering  # noqa: PLC0415

        return _rendering.result_text(self)

    def __repr__(self) -> str:
        said = self.error_message or self.result
        text = said if len(said) <= 60 else f"{said[:57]}..."
        shown = f", results={len(self.results)}" if self.results else ""
        state = self.status or self.state
        return f"<Result {state} {text!r}{shown} id={self.id!r}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Json:
        from kernelgate.sdk import _rendering  # noqa: PLC0415

        del include, exclude
        return _rendering.result_mimebundle(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from kernelgate.sdk import _rendering  # noqa: PLC0415

        del console, options
        return _rendering.result_rich(self)


@dataclass(frozen=True, kw_only=True)
class ContextInfo:
    """A named kernel of a session, as it was when the server was asked.

    Attributes:
        state: `starting`, `idle`, `busy` or `dead`.
        queued: how many executions wait on it.
        generation: rises with every restart.
        death: why its last kernel died, if it did.
    """

    id: str
    name: str = ""
    language: str = ""
    cwd: str = ""
    is_default: bool = False
    state: str = "idle"
    execution_count: int = 0
    queued: int = 0
    created_at: datetime | None = None
    generation: int = 0
    death: Death | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> ContextInfo:
        """From the server's own shape."""
        return cls(
            id=raw["id"],
            name=raw.get("name") or "",
            language=raw.get("language") or "",
            cwd=raw.get("cwd") or "",
            is_default=bool(raw.get("is_default")),
            state=raw.get("state") or "idle",
            execution_count=raw.get("execution_count") or 0,
            queued=raw.get("queued") or 0,
            created_at=_time(raw.get("created_at")),
            generation=raw.get("generation") or 0,
            death=Death.from_wire(raw.get("death")),
            raw=raw,
        )


@dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """A session as it was when the server was asked.

    Attributes:
        state: `running`, `closed` or `lost`.
        reason: why it is closed or lost.
        expires_at: when it ends if nothing more happens; None for never.
        env_names: names of its environment variables; values are never told.
        executing: how many executions run or wait.
        limits: what it may use, by name; None is no limit.
        network: "allow" where it has a way out, "none" where not.
    """

    id: str
    state: str = "running"
    reason: str | None = None
    created_at: datetime | None = None
    last_activity_at: datetime | None = None
    idle_timeout_s: float | None = None
    lifetime_s: float | None = None
    expires_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    env_names: list[str] = field(default_factory=list)
    cwd: str = ""
    executing: int = 0
    limits: Mapping[str, float | None] = field(default_factory=dict)
    network: str = "none"
    contexts: list[ContextInfo] = field(default_factory=list)
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> SessionInfo:
        """From the server's own shape."""
        return cls(
            id=raw["id"],
            state=raw.get("state") or "running",
            reason=raw.get("reason"),
            created_at=_time(raw.get("created_at")),
            last_activity_at=_time(raw.get("last_activity_at")),
            idle_timeout_s=raw.get("idle_timeout_s"),
            lifetime_s=raw.get("lifetime_s"),
            expires_at=_time(raw.get("expires_at")),
            labels=raw.get("labels") or {},
            env_names=list(raw.get("env_names") or ()),
            cwd=raw.get("cwd") or "",
            executing=int(raw.get("executing") or 0),
            limits=raw.get("limits") or {},
            network=raw.get("network") or "none",
            contexts=[ContextInfo.from_wire(context) for context in raw.get("contexts") or ()],
            raw=raw,
        )


@dataclass(frozen=True, kw_only=True)
class SessionPage:
    """Some of the sessions. `next_page_token` asks for the next page, None on the last."""

    sessions: list[SessionInfo]
    next_page_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResultPage:
    """Some of a session's executions, newest first, without what they put out."""

    executions: list[Result]
    next_page_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class Language:
    """A language of the server's.

    Attributes:
        state: `ready` or `not_installed`.
        missing: what it lacks to be ready.
        install: the one command that would install it.
    """

    name: str
    display_name: str = ""
    aliases: list[str] = field(default_factory=list)
    state: str = "ready"
    version: str | None = None
    missing: list[str] = field(default_factory=list)
    install: str | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, raw: Json) -> Language:
        """From the server's own shape."""
        return cls(
            name=raw["name"],
            display_name=raw.get("display_name") or raw["name"],
            aliases=list(raw.get("aliases") or ()),
            state=raw.get("state") or "ready",
            version=raw.get("version"),
            missing=list(raw.get("missing") or ()),
            install=raw.get("install"),
            raw=raw,
        )

    @property
    def is_ready(self) -> bool:
        """It can be used now."""
        return self.state == "ready"


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What could stand between `cursor_start` and `cursor_end` (in characters)."""

    matches: list[str]
    cursor_start: int = 0
    cursor_end: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, raw: Json) -> Completion:
        """From the server's own shape."""
        return cls(
            matches=list(raw.get("matches") or ()),
            cursor_start=raw.get("cursor_start") or 0,
            cursor_end=raw.get("cursor_end") or 0,
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the kernel knows of the name at the cursor, by MIME type."""

    found: bool
    data: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, raw: Json) -> Inspection:
        """From the server's own shape."""
        return cls(
            found=bool(raw.get("found")),
            data=raw.get("data") or {},
            metadata=raw.get("metadata") or {},
        )

    @property
    def text(self) -> str:
        """The plain text of it."""
        return str(self.data.get("text/plain") or "")
