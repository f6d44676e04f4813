"""What one session may use: the settings' defaults, what its caller asked for instead, and the most that may be asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from kernelgate.errors import InvalidRequest
from kernelgate.sandbox import policy
from kernelgate.settings import Settings

#: Those that hold for the whole sandbox, in the words of its policy; the other ones hold for each execution and command.
SANDBOX = ("memory_bytes", "cpu", "processes", "open_files", "file_bytes", "workspace_bytes", "workspace_inodes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """None: no limit; without a sandbox, all that only one can keep. `wall_time_s`, `cpu_time_s` and `output_bytes` are the most of one execution or command; who names no timeout gets the settings' default, or this where it is less."""

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

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def sandbox(self, base: policy.Limits) -> policy.Limits:
        """As the sandbox takes them; what no caller may change is as in `base`."""
        return dataclasses.replace(base, **{name: getattr(self, name) for name in SANDBOX})


def defaults(settings: Settings) -> Limits:
    """Those of a session whose caller asks for nothing."""
    sandbox, executions = settings.sandbox, settings.executions
    return _fitting(Limits(
        **{name: getattr(sandbox, name) if sandbox.kind == "namespaces" else None for name in SANDBOX},
        wall_time_s=executions.max_timeout_s,
        cpu_time_s=executions.cpu_time_s,
        output_bytes=executions.ceiling_output_bytes,
    ))  # fmt: skip


def _fitting(limits: Limits) -> Limits:
    """Of so many files as a file system of that size can have: a block each, and a place in its tables."""
    if limits.workspace_bytes is None or limits.workspace_inodes is None:
        return limits
    return dataclasses.replace(limits, workspace_inodes=min(limits.workspace_inodes, limits.workspace_bytes // 4096))


def ceilings(settings: Settings) -> dict[str, tuple[float | None, str]]:
    """The most that may be asked for, by name, and the setting that says so. None: no limit."""
    found: dict[str, tuple[float | None, str]] = {
        "wall_time_s": (settings.executions.max_timeout_s, "executions.max_timeout_s"),
        "output_bytes": (settings.executions.ceiling_output_bytes, "executions.ceiling_output_bytes"),
    }
    for name in (*SANDBOX, "cpu_time_s"):
        section = "executions" if name == "cpu_time_s" else "sandbox"
        own = getattr(settings.ceilings, name)
        default = getattr(getattr(settings, section), name)
        # A ceiling below the default would forbid what everybody has who asks for nothing.
        found[name] = (default, f"{section}.{name}") if own is None or default is None or own < default else (own, f"ceilings.{name}")
    return found


def above(ceiling: float | None, most: float | None) -> bool:
    """Whether a ceiling allows more than another does. None: no limit."""
    return most is not None and (ceiling is None or ceiling > most)


def asked_for(
    wanted: Mapping[str, Any], settings: Settings, lacking: Collection[str] = (), token: Mapping[str, float] | None = None
) -> Limits:
    """The limits of a session, from what its caller asked for. `lacking`: what no control group limits here; `token`: the ceilings of the caller's token.

    Raises:
        InvalidRequest: one is above its ceiling (`limit_too_high`), or cannot be kept here (`limit_unavailable`); `details` name the field.
    """
    most, token, base = ceilings(settings), token or {}, defaults(settings)
    # What a token has no more of, its sessions do not have by default either.
    lowered = {name: value for name, value in token.items() if above(getattr(base, name), value)}
    for name, value in {**lowered, **wanted}.items():
        ceiling, setting = most[name]
        field, who = f"limits.{name}", "server"
        if name in token and above(ceiling, token[name]):
            ceiling, setting, who = token[name], "`kernelgate token list`", "token"
        if above(value, ceiling):
            raise InvalidRequest(
                f"{field}: this {who} allows {ceiling:.15g} at the most ({setting})", code="limit_too_high", field=field, ceiling=ceiling
            )
        reason = None
        if name in SANDBOX and settings.sandbox.kind == "none":
            reason = "this server runs without a sandbox (sandbox.kind)"
        elif name == "cpu" and value is not None and "cpu" in lacking:
            reason = "this server has no control group for it (docs/security.md)"
        if reason is not None:
            raise InvalidRequest(f"{field}: {reason} and cannot limit that", code="limit_unavailable", field=field)
    return _fitting(dataclasses.replace(base, **{**lowered, **wanted}))
