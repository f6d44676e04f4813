"""What commands can be told, for type checkers: nothing imports this at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from kernelgate.sdk.artifacts import Wanted


class StartOptions(TypedDict, total=False):
    """Of a command in the background."""

    cwd: str | None
    env: Mapping[str, str] | None
    stdin: str | bytes | None
    stdin_open: bool | None
    encoding: Literal["text", "base64", "binary"]
    merge: bool
    max_output_bytes: int | None
    artifacts: Wanted | None
    command_id: str | None


class ExecOptions(TypedDict, total=False):
    """Of a command that is waited for."""

    cwd: str | None
    env: Mapping[str, str] | None
    stdin: str | bytes | None
    encoding: Literal["text", "base64", "binary"]
    merge: bool
    max_output_bytes: int | None
    artifacts: Wanted | None
    command_id: str | None
    check: bool
    on_stdout: Callable[[str], Any] | None
    on_stderr: Callable[[str], Any] | None
    on_disconnect: Literal["continue", "kill"]
    timeout_ms: float | None
    envs: Mapping[str, str] | None
    input: str | bytes | None
    max_output_size: int | None


class RunOptions(ExecOptions, total=False):
    """Of a script."""

    interpreter: str | None
