"""A poll loop over file descriptors: a fifth of asyncio's cost for an execute, and nothing else needed here."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import select
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_IN, _OUT = select.POLLIN, select.POLLOUT
#: A timer may be years away, and poll takes no more than a C int.
_LONGEST_WAIT_MS = 24 * 3600 * 1000


class Timer:
    """A call at a later time; `cancel()` makes it not happen."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Callbacks run one after the other in the loop's thread; one that raises is logged and the loop goes on.

    `before_wait` is called before each wait: there the journal is flushed and what it got is sent on.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._registered: dict[int, int] = {}
        self._readers: dict[int, Callable[[], object]] = {}
        self._writers: dict[int, Callable[[], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._stopped = False
        self.before_wait: Callable[[], object] = lambda: None

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self._readers[fd] = callback
        self._register(fd)

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        self._writers[fd] = callback
        self._register(fd)

    def remove_reader(self, fd: int) -> None:
        self._readers.pop(fd, None)
        self._register(fd)

    def remove_writer(self, fd: int) -> None:
        self._writers.pop(fd, None)
        self._register(fd)

    def _register(self, fd: int) -> None:
        wanted = (_IN if fd in self._readers else 0) | (_OUT if fd in self._writers else 0)
        if wanted == self._registered.get(fd, 0):
            return
        if wanted:
            self._registered[fd] = wanted
            self._poll.register(fd, wanted)
        else:
            del self._registered[fd]
            self._poll.unregister(fd)

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        """Calls at a monotonic time in seconds (`time.monotonic`)."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (at, next(self._numbers), timer))
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(time.monotonic() + delay_s, callback)

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        while not self._stopped:
            self._guard(self.before_wait)
            for fd, happened in self._poll.poll(self._wait_ms()):
                if happened & _OUT and (writer := self._writers.get(fd)):
                    self._guard(writer)
                # A hang-up comes as POLLERR alone on some descriptors: the reader finds out.
                if happened & ~_OUT and (reader := self._readers.get(fd)):
                    self._guard(reader)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                callback = heapq.heappop(self._timers)[2].callback
                if callback is not None:
                    self._guard(callback)
        self._guard(self.before_wait)

    def _wait_ms(self) -> int | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return None if not self._timers else min(max(0, math.ceil((self._timers[0][0] - time.monotonic()) * 1000)), _LONGEST_WAIT_MS)

    def _guard(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:  # the one broad catch of the host: a session must outlive a bug in one callback
            log.exception("a callback of the session host failed")
