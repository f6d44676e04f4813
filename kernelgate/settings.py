"""Settings: one typed tree, read once at start.

Sources, the weakest first: the defaults here, a TOML file, `KERNELGATE_SECTION_KEY` in the environment, flags. A key that does not exist is an error, wherever it comes from.
None means no limit. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kernelgate.errors import ConfigError

MiB = 1024 * 1024
#: A file system's own tables need some of it.
LEAST_WORKSPACE_BYTES = 16 * MiB

_MAY_BE_ZERO = {
    "server.drain_s",
    "sessions.retention_s",
    "sessions.pool_size",
    "executions.max_output_bytes",
    "executions.max_result_bytes",
}
#: Read by clients, not settings of the server.
_CLIENT_VARIABLES = {"KERNELGATE_URL", "KERNELGATE_TOKEN", "KERNELGATE_CONFIG"}


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8930
    """Port to listen on; 0 takes a free one."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, besides the address and localhost, that requests may have as Host (protects from DNS rebinding)."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the API; "*" allows all."""
    max_body_bytes: int = 16 * MiB
    """The largest request body; larger ones are answered with 413."""
    drain_s: float = 30.0
    """On SIGTERM, how long requests under way may still take."""
    write_timeout_s: float = 60.0
    """A reader of a stream that takes nothing for so long is closed."""
    keepalive_s: float = 15.0
    """How often a quiet stream says that it is alive."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions and their life."""

    idle_timeout_s: float | None = 600.0
    """A session in which nothing runs and that nobody calls is ended after so long."""
    lifetime_s: float | None = None
    """A session is ended so long after it was made, unless something runs in it."""
    retention_s: float = 86400.0
    """How long the history and files of an ended session stay readable."""
    journal_bytes: int | None = 1024 * MiB
    """Size of a session's journal; beyond it the records of the oldest executions that have ended are let go of."""
    max_upload_bytes: int | None = None
    """The largest file or archive that can be uploaded; only the session's disk limits it otherwise."""
    max_sessions: int = 1000
    """Live sessions at once, pool included."""
    pool_size: int = 4
    """Sessions kept ready, with a warm Python kernel."""
    host_sleep_s: float | None = None
    """After so long without anything happening a Python session gives back the quarter of its memory that only looks after its kernel; the next request takes some 30 ms longer. 10 suits a server of many sessions; none: never."""


class Executions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Executions."""

    timeout_s: float = 60.0
    """Where the caller names none."""
    max_timeout_s: float | None = None
    """The longest a caller may ask for."""
    max_output_bytes: int = 10 * MiB
    """Text an execution may put out; of more, head and tail are kept."""
    max_result_bytes: int = 50 * MiB
    """Results (pictures and the like) an execution may put out."""
    ceiling_output_bytes: int = 1024 * MiB
    """The most a caller may ask for as max_output_bytes or max_result_bytes."""
    cpu_time_s: float | None = None
    """Processor time of one execution or command, with all that it starts."""


class Python(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Python environment that sessions see."""

    executable: str = sys.executable
    """Its interpreter; must have ipykernel."""
    preload: tuple[str, ...] = ("numpy", "pandas", "matplotlib")
    """What is imported before sessions are made, where installed: free for each of them. Nothing at all starts the service a second sooner, and the first completion takes half a second."""


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Isolation of sessions."""

    kind: str = "namespaces"
    """"namespaces", or "none": no isolation at all, for development."""
    read_only_paths: tuple[str, ...] = ()
    """More directories of this machine that sessions may read."""
    memory_bytes: int | None = 4096 * MiB
    """Of a whole session."""
    processes: int | None = 512
    """Processes and threads of a whole session."""
    cpu: float | None = None
    """Cores' worth of processor time a session may use, 0.5 is half of one; none: as much as there is."""
    tmp_bytes: int = 1024 * MiB
    """Size of a session's /tmp, which is memory."""
    tmp_inodes: int = 200_000
    """Files and directories in a session's /tmp."""
    shm_bytes: int = 256 * MiB
    """Size of a session's /dev/shm, and of its System V shared memory."""
    open_files: int = 8192
    """Files that each process of a session may have open; 512 at the least."""
    file_bytes: int | None = 8192 * MiB
    """The largest file that a session may write."""
    workspace_bytes: int | None = 10240 * MiB
    """Size of a session's workspace, which is a file system in a sparse file; none: a directory, limited by the disk alone."""
    workspace_inodes: int = 500_000
    """Files and directories in a session's workspace."""
    require_cgroups: bool = True
    """Whether sessions need control groups for their limits; false: where there are none, limits are those of single processes."""
    network: bool = False
    """Whether a caller whose token may (`kernelgate token create NAME --network`) can ask for a session with a network."""
    network_denied: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    """Networks that such a session does not reach, besides the machine itself and metadata addresses."""
    network_resolver: str = ""
    """IPv4 address of the resolver of such a session, reachable in any case; by default the machine's first that is not on its loopback."""


class Ceilings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that a caller may ask for as `limits` of a session. None: what a session has that asks for nothing."""

    memory_bytes: int | None = None
    """At the least sandbox.memory_bytes."""
    cpu: float | None = None
    """At the least sandbox.cpu."""
    processes: int | None = None
    """At the least sandbox.processes."""
    open_files: int | None = None
    """At the least sandbox.open_files."""
    file_bytes: int | None = None
    """At the least sandbox.file_bytes."""
    workspace_bytes: int | None = None
    """At the least sandbox.workspace_bytes."""
    workspace_inodes: int | None = None
    """At the least sandbox.workspace_inodes."""
    cpu_time_s: float | None = None
    """At the least executions.cpu_time_s."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    data_dir: str = ""
    """Where everything is kept: registry, tokens, sessions. Default: /var/lib/kernelgate for root, else ~/.local/share/kernelgate."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    server: Server = Server()
    sessions: Sessions = Sessions()
    executions: Executions = Executions()
    python: Python = Python()
    sandbox: Sandbox = Sandbox()
    ceilings: Ceilings = Ceilings()


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": Server,
    "sessions": Sessions,
    "executions": Executions,
    "python": Python,
    "sandbox": Sandbox,
    "ceilings": Ceilings,
}


def default_data_dir() -> str:
    return "/var/lib/kernelgate" if os.geteuid() == 0 else str(Path("~/.local/share/kernelgate").expanduser())


def load(*, config: str | None = None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings from all sources. `flags` maps "key" or "section.key" to a value or a string.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range; names the key, where it came from and what would be right.
    """
    tree: dict[str, Any] = {}
    path = config or environ.get("KERNELGATE_CONFIG")
    if path:
        try:
            with Path(path).open("rb") as file:
                _merge_file(tree, tomllib.load(file), path)
        except OSError as exc:
            raise ConfigError(f"the settings file {path} cannot be read: {exc.strerror}") from exc
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError(f"the settings file {path} is not TOML: {exc}") from exc
    variables = {_variable(key): key for key in keys()}
    for name, value in environ.items():
        if name.startswith("KERNELGATE_") and name not in _CLIENT_VARIABLES:
            if name not in variables:
                raise ConfigError(f"unknown setting {name} in the environment{_suggest(name, list(variables))}")
            _put(tree, variables[name], value, name)
    for key, value in (flags or {}).items():
        if key not in keys():
            raise ConfigError(f"unknown setting {key}{_suggest(key, keys())}")
        _put(tree, key, value, f"--set {key}")
    settings = msgspec.convert(tree, Settings)
    if not settings.data_dir:
        settings = msgspec.structs.replace(settings, data_dir=default_data_dir())
    return _checked(msgspec.structs.replace(settings, data_dir=str(Path(settings.data_dir).absolute())))


def keys() -> list[str]:
    """Every setting, as "key" or "section.key"."""
    top = [field.name for field in msgspec.structs.fields(Settings) if field.name not in SECTIONS]
    return top + [f"{section}.{field.name}" for section, struct in SECTIONS.items() for field in msgspec.structs.fields(struct)]


def _variable(key: str) -> str:
    return "KERNELGATE_" + key.replace(".", "_").upper()


def _type(key: str) -> Any:
    section, _, name = key.rpartition(".")
    struct = SECTIONS[section] if section else Settings
    return next(field.type for field in msgspec.structs.fields(struct) if field.name == name)


def _put(tree: dict[str, Any], key: str, value: Any, source: str) -> None:
    """One value, converted to its type: text from the environment and flags may name a number, a list (comma separated) or "none"."""
    section, _, name = key.rpartition(".")
    kind = _type(key)
    if isinstance(value, str):
        if kind == tuple[str, ...]:
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        elif value.lower() == "none" and kind is not str:
            value = None
    try:
        value = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{source}: {exc}") from exc
    (tree.setdefault(section, {}) if section else tree)[name] = value


def _merge_file(tree: dict[str, Any], content: dict[str, Any], path: str) -> None:
    for name, value in content.items():
        inner = {f"{name}.{key}": inner for key, inner in value.items()} if name in SECTIONS and isinstance(value, dict) else {name: value}
        for key, one in inner.items():
            if key not in keys():
                raise ConfigError(f"unknown setting {key} in {path}{_suggest(key, keys())}")
            _put(tree, key, tuple(one) if isinstance(one, list) else one, f"{key} in {path}")


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _checked(settings: Settings) -> Settings:
    if settings.sandbox.kind not in ("namespaces", "none"):
        raise ConfigError(f'sandbox.kind is {settings.sandbox.kind!r}; it can be "namespaces" or "none"')
    if not 0 <= settings.server.port <= 65535:
        raise ConfigError(f"server.port is {settings.server.port}; it can be 0 to 65535")
    if settings.sandbox.network_resolver:
        try:
            ipaddress.IPv4Address(settings.sandbox.network_resolver)
        except ValueError as exc:
            raise ConfigError(f"sandbox.network_resolver is {settings.sandbox.network_resolver!r}; an IPv4 address is expected") from exc
    for network in settings.sandbox.network_denied:
        try:
            ipaddress.IPv4Network(network)
        except ValueError as exc:
            raise ConfigError(f"sandbox.network_denied has {network!r}; IPv4 networks as 10.0.0.0/8 are expected ({exc})") from exc
    if settings.sandbox.open_files < 512:
        raise ConfigError(f"sandbox.open_files is {settings.sandbox.open_files}; kernels need 512 at the least")
    if settings.sandbox.workspace_bytes is not None and settings.sandbox.workspace_bytes < LEAST_WORKSPACE_BYTES:
        raise ConfigError(f"sandbox.workspace_bytes is {settings.sandbox.workspace_bytes}; a file system needs {LEAST_WORKSPACE_BYTES}")
    for key in keys():
        value: Any = settings
        for name in key.split("."):
            value = getattr(value, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or key == "server.port":
            continue
        if not math.isfinite(value) or value < 0 or (value == 0 and key not in _MAY_BE_ZERO):
            raise ConfigError(f"{key} is {value}; it must be {'0 or more' if key in _MAY_BE_ZERO else 'above 0'}")
    if settings.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError(f"log_level is {settings.log_level!r}; it can be DEBUG, INFO, WARNING or ERROR")
    return settings
