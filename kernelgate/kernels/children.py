"""The processes that a Python kernel's cells have started."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

STOP_GRACE_S = 0.3
"""What children get between SIGTERM and SIGKILL; the whole kernel has a second to end."""


def now_ticks() -> float:
    """Now, in the unit and from the origin of a process's start time in /proc."""
    # One tick less: start times are rounded down.
    return time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") - 1


def descendants() -> list[tuple[int, float]]:
    """Processes below this one, each with its start time in clock ticks since boot."""
    parents: dict[int, tuple[int, float]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_bytes()
            except OSError:
                continue
            fields = stat[stat.rindex(b")") + 2 :].split()
            parents[int(name)] = (int(fields[1]), float(fields[19]))
    found: list[tuple[int, float]] = []
    below = {os.getpid()}
    while below:
        below = {pid for pid, (parent, _) in parents.items() if parent in below}
        found += [(pid, parents[pid][1]) for pid in below]
    return found


def end_all() -> None:
    """SIGTERM to every descendant, and after a grace SIGKILL; takes little more than `STOP_GRACE_S`."""
    # A cell that computes gives this thread a turn every 5 ms otherwise, after each read of a file.
    sys.setswitchinterval(1e-5)
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = [pid for pid, _ in descendants()]
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        until = time.monotonic() + STOP_GRACE_S
        while pids and number == signal.SIGTERM and time.monotonic() < until:
            time.sleep(0.005)
            pids = [pid for pid in pids if _is_running(pid)]


def _is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] != b"Z"
