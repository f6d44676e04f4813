"""Processor time of what runs, held to a limit; and the clock by which the system says when a process was started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernelgate.host.loop import Loop, Timer

_TICKS = os.sysconf("SC_CLK_TCK")
#: Between two looks, so that nobody is asked all the time about what is almost over its limit.
_PAUSE_S = 0.1


def boot_ticks() -> int:
    """Now, as /proc/PID/stat has the start of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


class CpuWatch:
    """Calls `on_over` when a process and those below it have used `limit_s` more processor time than at first.

    Nothing in the system tells of it for a tree of processes, so it is asked for; not before it can have been used up, with every core at work.
    """

    def __init__(
        self,
        loop: Loop,
        ask: Callable[[int, Callable[[float], None]], None],
        pid: int,
        limit_s: float,
        on_over: Callable[[], None],
        *,
        used_before_s: float | None = None,
    ) -> None:
        self._loop, self._ask, self._pid, self._limit_s, self._on_over = loop, ask, pid, limit_s, on_over
        self._before_s = used_before_s
        self._timer: Timer | None = None
        self._cancelled = False
        ask(pid, self._told)

    def cancel(self) -> None:
        self._cancelled = True
        if self._timer is not None:
            self._timer.cancel()

    def _told(self, used_s: float) -> None:
        if self._cancelled:
            return
        if self._before_s is None:
            self._before_s = used_s
        left_s = self._limit_s - (used_s - self._before_s)
        if left_s <= 0:
            self._on_over()
            return
        self._timer = self._loop.call_later(max(_PAUSE_S, left_s / (os.cpu_count() or 1)), lambda: self._ask(self._pid, self._told))
