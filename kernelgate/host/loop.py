"""A poll loop over file descriptors and ZeroMQ sockets: a fifth of asyncio's cost for an execute, and nothing else needed here."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import zmq

log = logging.getLogger(__name__)

#: As numbers: each `&` of ZeroMQ's enumerations costs a microsecond.
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)
#: A timer may be years away, and zmq_poll takes no more than a C long.
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
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callable[[], None]] = {}
        self._writers: dict[Any, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._stopped = False
        self.before_wait: Callable[[], object] = lambda: None

    def add_reader(self, source: Any, callback: Callable[[], None]) -> None:
        self._readers[source] = callback
        self._register(source)

    def add_writer(self, source: int, callback: Callable[[], None]) -> None:
        self._writers[source] = callback
        self._register(source)

    def remove_reader(self, source: Any) -> None:
        self._readers.pop(source, None)
        self._register(source)

    def remove_writer(self, source: int) -> None:
        self._writers.pop(source, None)
        self._register(source)

    def _register(self, source: Any) -> None:
        wanted = (_IN if source in self._readers else 0) | (_OUT if source in self._writers else 0)
        if wanted:
            self._poller.register(source, wanted)
        elif source in self._poller:
            self._poller.unregister(source)

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
            for source, happened in self._poller.poll(self._wait_ms()):
                if happened & _OUT and (writer := self._writers.get(source)):
                    self._guard(writer)
                # A hang-up comes as POLLERR alone on some descriptors: the reader finds out.
                if happened & ~_OUT and (reader := self._readers.get(source)):
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
