"""Artifacts: finds what a run made or changed, by the time at which files changed last.

Files get the time of the kernel's last tick. So a run whose artifacts are wanted begins only when a tick has gone by: what was written before it has an earlier time than what it
writes, however soon it does so, and nothing need be looked at before it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelgate.errors import KernelgateError
from kernelgate.protocol import artifact

if TYPE_CHECKING:
    from kernelgate.host.session import SessionHost

_CLOCK_REALTIME_COARSE = 5


def begin() -> int:
    """Now, in ns since 1970. Returns behind the next tick, which is at most 10 ms away."""
    now = time.time_ns()
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) <= now:
        time.sleep(0.001)
    return now


def gather(host: SessionHost, wanted: dict[str, Any], cwd: str, since_ns: int, then: Callable[[dict[str, Any]], None]) -> None:
    """Finds them. `then` gets the fields of the event that tells them: also where they could not be found, and why.

    Args:
        host: of the session.
        wanted: `patterns` and `max_bytes`.
        cwd: what the patterns are relative to.
        since_ns: when the run began.
        then: called once, within 20 s.
    """

    def answered(said: Any) -> None:
        try:
            if isinstance(said, KernelgateError):
                raise said
            fields = artifact.fields(said, host.config["session_id"])
        except KernelgateError as exc:
            fields = {"files": [], "truncated": False, "error": {"code": exc.code, "message": exc.detail}}
        except ValueError:
            message = "the process that looked through the session's files said something else"
            fields = {"files": [], "truncated": False, "error": {"code": "files_interrupted", "message": message}}
        then(fields)

    host.files.ask(
        {
            "do": "collect",
            "patterns": wanted["patterns"],
            "max_bytes": wanted["max_bytes"],
            "max_files": artifact.MAX_FILES,
            "cwd": cwd,
            "since_ns": since_ns,
        },
        answered,
    )
