"""The models of the native API: they validate requests and what hosts answer, and the OpenAPI document is made from them. Fields are described in docs/api.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kernelgate.errors import InvalidRequest

MiB = 1024 * 1024
MAX_ENV_BYTES = 256 * 1024
MAX_LABELS = 64

#: At the most a billion seconds, 31 years: a time so far away can still be written as a date. None is for ever.
Seconds = Annotated[float, Meta(gt=0, le=1_000_000_000)]
#: No NUL: SQLite's JSON functions stop at one.
_NO_NUL = r"^[^\x00]*$"
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_NUL)]
ExecutionId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,128}$(?!\n)")]
Labels = Annotated[dict[Name, Annotated[str, Meta(max_length=1024, pattern=_NO_NUL)]], Meta(max_length=MAX_LABELS)]
Bytes = Annotated[int, Meta(ge=0)]
Cwd = Annotated[str, Meta(min_length=1, max_length=4096)]
Encoding = Literal["text", "base64"]
#: Nothing but the session's own loopback, or a way out.
NetworkAccess = Literal["none", "allow"]
Patterns = Annotated[list[Annotated[str, Meta(min_length=1, max_length=1000, pattern=_NO_NUL)]], Meta(min_length=1, max_length=64)]


class Model(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request body: unknown fields are refused, so that a misspelt one is noticed."""


MiB = 1024 * 1024
#: A pebibyte: what the system can still count.
_MOST_BYTES = 1 << 50


class AskedLimits(Model):
    """What a session is to be limited to, in place of the server's defaults; null: no limit. The least are what a kernel needs to start."""

    memory_bytes: Annotated[int, Meta(ge=128 * MiB, le=_MOST_BYTES)] | UnsetType | None = UNSET
    cpu: Annotated[float, Meta(ge=0.01, le=100_000)] | UnsetType | None = UNSET
    processes: Annotated[int, Meta(ge=32, le=4_194_304)] | UnsetType | None = UNSET
    open_files: Annotated[int, Meta(ge=512, le=1 << 20)] | UnsetType = UNSET
    file_bytes: Annotated[int, Meta(ge=MiB, le=_MOST_BYTES)] | UnsetType | None = UNSET
    workspace_bytes: Annotated[int, Meta(ge=16 * MiB, le=_MOST_BYTES)] | UnsetType | None = UNSET
    workspace_inodes: Annotated[int, Meta(ge=64, le=1 << 31)] | UnsetType = UNSET
    wall_time_s: Seconds | UnsetType | None = UNSET
    cpu_time_s: Seconds | UnsetType | None = UNSET
    output_bytes: Bytes | UnsetType = UNSET

    def asked_for(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}


class CreateSession(Model):
    labels: Labels = {}
    env: dict[str, str] = {}
    idle_timeout_s: Seconds | UnsetType | None = UNSET
    lifetime_s: Seconds | UnsetType | None = UNSET
    languages: list[str] = []
    limits: AskedLimits | UnsetType = UNSET
    network: NetworkAccess = "none"


class UpdateSession(Model):
    labels: Labels | UnsetType = UNSET
    idle_timeout_s: Seconds | UnsetType | None = UNSET
    lifetime_s: Seconds | UnsetType | None = UNSET


class Empty(Model):
    pass


class CreateContext(Model):
    language: str
    name: Annotated[str, Meta(max_length=128)] | None = None
    cwd: Annotated[str, Meta(max_length=4096)] | None = None
    env: dict[str, str] = {}


class Complete(Model):
    code: str
    cursor_pos: Annotated[int, Meta(ge=0)] | None = None


class Inspect(Model):
    code: str
    cursor_pos: Annotated[int, Meta(ge=0)] | None = None
    detail_level: Literal[0, 1] = 0


class IsComplete(Model):
    code: str


class Artifacts(Model):
    """Files that a run made or changed, returned with its result: paths or globs, relative to where it runs. `max_bytes`: of all contents together."""

    patterns: Patterns
    max_bytes: Annotated[int, Meta(ge=0, le=16 * MiB)] = MiB


class Execute(Model):
    code: str
    language: str | None = None
    context: str | None = None
    id: ExecutionId | None = None
    timeout_s: Seconds | UnsetType | None = UNSET
    env: dict[str, str] = {}
    allow_stdin: bool = False
    ansi: bool = False
    max_output_bytes: Bytes | None = None
    max_result_bytes: Bytes | None = None
    artifacts: Patterns | Artifacts | None = None
    on_disconnect: Literal["continue", "interrupt"] = "continue"


class Stdin(Model):
    value: Annotated[str, Meta(max_length=1024 * 1024)]


class CreateCommand(Model):
    command: Annotated[str, Meta(min_length=1, max_length=1024 * 1024)] | Annotated[list[str], Meta(min_length=1, max_length=4096)]
    cwd: Cwd | None = None
    env: dict[str, str] = {}
    timeout_s: Seconds | UnsetType | None = UNSET
    stdin: str | None = None
    stdin_base64: str | None = None
    stdin_open: bool | None = None
    background: bool = False
    merge: bool = False
    encoding: Encoding = "text"
    max_output_bytes: Bytes | None = None
    artifacts: Patterns | Artifacts | None = None
    id: ExecutionId | None = None
    on_disconnect: Literal["continue", "kill"] = "continue"


class CommandInput(Model):
    value: str | None = None
    base64: str | None = None
    eof: bool = False


Grace = Annotated[float, Meta(ge=0, le=3600)]
SignalName = Annotated[str, Meta(max_length=16)] | int


class SendSignal(Model):
    signal: SignalName = "SIGTERM"


class Kill(Model):
    grace_s: Grace = 2.0


class KillProcesses(Model):
    pid: Annotated[int, Meta(gt=0, lt=1 << 31)] | None = None
    pattern: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    signal: SignalName = "SIGTERM"
    grace_s: Grace | None = None


Size = Annotated[int, Meta(ge=1, le=2000)]


class CreateTerminal(Model):
    rows: Size = 24
    cols: Size = 80
    cwd: Cwd | None = None
    env: dict[str, str] = {}
    shell: Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")] = "/bin/bash"


class TerminalInput(Model):
    value: str | None = None
    base64: str | None = None


class Resize(Model):
    rows: Size
    cols: Size


class TerminalMessage(Model):
    resize: tuple[Size, Size] | None = None
    signal: SignalName | None = None


class SetEnv(Model):
    env: dict[str, str]


class CreateShell(Model):
    shell: Literal["bash"] = "bash"
    cwd: Cwd | None = None
    env: dict[str, str] = {}


class RunInShell(Model):
    command: Annotated[str, Meta(min_length=1, max_length=100_000)]
    env: dict[str, str] = {}
    timeout_s: Seconds | UnsetType | None = UNSET
    stdin: str | None = None
    stdin_base64: str | None = None
    merge: bool = False
    encoding: Encoding = "text"
    max_output_bytes: Bytes | None = None
    artifacts: Patterns | Artifacts | None = None
    id: ExecutionId | None = None
    on_disconnect: Literal["continue", "kill"] = "continue"


# -- answers --


class Network(msgspec.Struct, kw_only=True):
    """Since the session was made; `loopback_bytes`: between processes of the session."""

    received_bytes: int
    sent_bytes: int
    loopback_bytes: int


class Sample(msgspec.Struct, kw_only=True):
    """What a session uses at one time. `cpu_percent`: of one core, since the sample before. Null is what cannot be told without a sandbox."""

    time: str
    cpu_s: float
    cpu_percent: float
    memory_bytes: int
    processes: int
    threads: int
    tmp_bytes: int | None
    shm_bytes: int | None
    network: Network | None


class Workspace(msgspec.Struct, kw_only=True):
    """`truncated`: there is more than was looked at."""

    bytes: int
    entries: int
    truncated: bool


class Metrics(msgspec.Struct, kw_only=True):
    now: Sample
    history: list[Sample]
    interval_s: float
    workspace: Workspace | None
    memory_limit_bytes: int | None
    memory_source: Literal["cgroup", "processes"]


class Terminal(msgspec.Struct, kw_only=True):
    """`attached`: how many are connected to it."""

    id: str
    shell: str
    cwd: str
    rows: int
    cols: int
    pid: int | None
    state: Literal["running", "done"]
    exit_code: int | None
    attached: int
    created_at: str


class Terminals(msgspec.Struct, kw_only=True):
    terminals: list[Terminal]


class Environment(msgspec.Struct, kw_only=True):
    env: dict[str, str]


class Shell(msgspec.Struct, kw_only=True):
    """`command_id`: what runs in it."""

    id: str
    shell: str
    cwd: str
    env_names: list[str]
    created_at: str
    command_id: str | None


class Shells(msgspec.Struct, kw_only=True):
    shells: list[Shell]


class Error(msgspec.Struct, kw_only=True):
    name: str
    value: str
    traceback: str


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    is_main_result: bool
    text: str | UnsetType = UNSET
    html: str | UnsetType = UNSET
    markdown: str | UnsetType = UNSET
    png: str | UnsetType = UNSET
    jpeg: str | UnsetType = UNSET
    svg: str | UnsetType = UNSET
    pdf: str | UnsetType = UNSET
    latex: str | UnsetType = UNSET
    json: Any = UNSET
    javascript: str | UnsetType = UNSET
    chart: Any = UNSET
    data: Any = UNSET
    extra: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Logs(msgspec.Struct, kw_only=True):
    stdout: list[str]
    stderr: list[str]


class Truncated(msgspec.Struct, kw_only=True):
    stdout_bytes: int
    stderr_bytes: int
    result_bytes: int


class Timeout(msgspec.Struct, kw_only=True):
    after_s: float
    action: Literal["interrupt", "restart"]


class Death(msgspec.Struct, kw_only=True):
    reason: Literal["exited", "signalled", "out_of_memory", "restarted", "released", "start_failed"]
    exit_code: int | None
    signal: str | None
    message: str


#: The limits that can be met.
Limit = Literal["memory", "processes", "cpu_time", "wall_time", "output", "file_size", "open_files", "workspace", "tmp", "shm"]
Status = Literal["ok", "error", "timeout", "interrupted", "cancelled", "kernel_died", "lost"]


class Summary(msgspec.Struct, kw_only=True):
    """A result without its outputs."""

    id: str
    request_id: str | None
    session_id: str | None
    context_id: str
    language: str
    state: Literal["queued", "running", "done"]
    queue_position: int | None
    success: bool | None
    status: Status | None
    execution_count: int | None
    execution_time: float | None
    error: Error | None
    truncated: Truncated | None
    timeout: Timeout | None
    death: Death | None
    limit: Limit | None
    fresh_kernel: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    last_seq: int


class Problem(msgspec.Struct, kw_only=True):
    code: str
    message: str


class Artifact(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A file that a run made or changed. Its `content` where there was room for it; `href` has it in any case, as long as the file is there."""

    name: str
    path: str
    size: int
    mode: str
    modified_at: str
    encoding: Literal["utf-8", "base64"] | None
    content: str | None
    href: str
    path_b64: str | None = None


class Collected(msgspec.Struct, kw_only=True):
    """`truncated`: there are more of them. `error`: why they could not be looked for."""

    files: list[Artifact]
    truncated: bool
    error: Problem | None


class Result(Summary, kw_only=True):
    artifacts: Collected | None = None
    logs: Logs
    results: list[Item]
    text: str | None


class Executions(msgspec.Struct, kw_only=True):
    executions: list[Summary]
    next_page_token: str | None


class Process(msgspec.Struct, kw_only=True):
    """A process of the session; `context_id` of a kernel, `command_id` of a command's own."""

    pid: int
    ppid: int
    name: str
    command: str
    state: str
    cpu_s: float
    cpu_percent: float
    memory_bytes: int
    threads: int
    started: float
    context_id: str | None
    command_id: str | None


class Processes(msgspec.Struct, kw_only=True):
    processes: list[Process]


class Killed(msgspec.Struct, kw_only=True):
    signalled: list[int]
    forced: list[int]


class Usage(msgspec.Struct, kw_only=True):
    """What a command's process used, with the children it waited for."""

    cpu_s: float
    peak_memory_bytes: int | None
    read_bytes: int | None
    written_bytes: int | None


class CutOutput(msgspec.Struct, kw_only=True):
    stdout_bytes: int
    stderr_bytes: int


class CommandSummary(msgspec.Struct, kw_only=True):
    """A command's result without its output."""

    id: str
    request_id: str | None
    session_id: str | None
    shell_id: str | None
    command: str | list[str]
    cwd: str
    background: bool
    merge: bool
    encoding: Encoding
    state: Literal["starting", "running", "done"]
    status: Literal["ok", "error", "timeout", "killed", "start_failed", "lost"] | None
    success: bool | None
    exit_code: int | None
    signal: str | None
    timed_out: bool
    reason: str | None
    pid: int | None
    duration_s: float | None
    usage: Usage | None
    truncated: CutOutput | None
    limit: Limit | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    last_seq: int


class Command(CommandSummary, kw_only=True):
    artifacts: Collected | None = None
    stdout: str
    stderr: str


class Commands(msgspec.Struct, kw_only=True):
    commands: list[CommandSummary]
    next_page_token: str | None


class Context(msgspec.Struct, kw_only=True):
    id: str
    name: str
    language: str
    cwd: str
    is_default: bool
    state: Literal["starting", "idle", "busy", "dead"]
    execution_count: int
    queued: int
    created_at: str
    generation: int
    death: Death | None


class Contexts(msgspec.Struct, kw_only=True):
    contexts: list[Context]


class Limits(msgspec.Struct, kw_only=True):
    """What a session is limited to; null: no limit."""

    memory_bytes: int | None
    cpu: float | None
    processes: int | None
    open_files: int | None
    file_bytes: int | None
    workspace_bytes: int | None
    workspace_inodes: int | None
    wall_time_s: float | None
    cpu_time_s: float | None
    output_bytes: int


class Session(msgspec.Struct, kw_only=True):
    id: str
    state: Literal["running", "closed", "lost"]
    reason: str | None
    created_at: str
    last_activity_at: str
    ended_at: str | None
    idle_timeout_s: float | None
    lifetime_s: float | None
    expires_at: str | None
    labels: dict[str, str]
    limits: Limits | None
    network: NetworkAccess
    env_names: list[str]
    cwd: str
    executing: int
    contexts: list[Context]


class SessionList(msgspec.Struct, kw_only=True):
    sessions: list[Session]
    next_page_token: str | None


class Interrupted(msgspec.Struct, kw_only=True):
    interrupted: list[str]


class Completion(msgspec.Struct, kw_only=True):
    matches: list[str]
    cursor_start: int
    cursor_end: int
    metadata: dict[str, Any] = {}


class Inspection(msgspec.Struct, kw_only=True):
    found: bool
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Completeness(msgspec.Struct, kw_only=True):
    status: Literal["complete", "incomplete", "invalid", "unknown"]
    indent: str = ""


class Language(msgspec.Struct, kw_only=True):
    name: str
    display_name: str
    aliases: list[str]
    state: Literal["ready", "not_installed"]
    version: str | None
    missing: list[str]
    install: str


class Languages(msgspec.Struct, kw_only=True):
    languages: list[Language]


class Failure(msgspec.Struct, kw_only=True):
    """Every error's body has this under `error`."""

    code: str
    message: str
    request_id: str
    details: dict[str, Any] = {}


class ErrorBody(msgspec.Struct, kw_only=True):
    error: Failure


class Event(msgspec.Struct, kw_only=True):
    """One line of a stream. Further fields by type: see docs/api.md."""

    seq: int
    execution_id: str | None
    type: Literal[
        "queued",
        "started",
        "stdout",
        "stderr",
        "result",
        "update",
        "clear",
        "error",
        "input_request",
        "input_reply",
        "truncated",
        "artifacts",
        "gap",
        "command",
        "command_started",
        "stats",
        "kernel",
        "end",
    ]
    time: float


def wanted_artifacts(given: list[str] | Artifacts | None) -> dict[str, Any] | None:
    """As a host takes them. Raises InvalidRequest."""
    if given is None:
        return None
    made = Artifacts(patterns=given) if isinstance(given, list) else given
    try:
        "".join(made.patterns).encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest("artifacts: Unicode text is expected") from exc
    return {"patterns": made.patterns, "max_bytes": made.max_bytes}


def checked_env(env: dict[str, str]) -> dict[str, str]:
    """An environment that execve takes. Raises InvalidRequest naming the entry."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            raise InvalidRequest(f"env: {name!r} cannot be a variable's name", code="invalid_env")
        if "\0" in value:
            raise InvalidRequest(f"env: the value of {name!r} has a NUL character", code="invalid_env")
    try:
        size = sum(len(name.encode()) + len(value.encode()) + 2 for name, value in env.items())
    except UnicodeEncodeError as exc:
        raise InvalidRequest("env: names and values must be Unicode text", code="invalid_env") from exc
    if size > MAX_ENV_BYTES:
        raise InvalidRequest(f"env: {size} bytes are too many, {MAX_ENV_BYTES} are allowed", code="invalid_env")
    return env
