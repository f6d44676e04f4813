"""Hosts that sleep: of a session in which nothing happens, only its kernels stay in memory.

The host writes down what it alone knows, lets its kernels keep what they may still say, and ends with a status that tells init so. Init waits in its place, and forks a new host, which takes over as
from one that died, when somebody connects, a kernel has something to say (it writes to its log), or one ends. So a quarter of the memory of an idle session is given back, and who comes back waits for
some 30 ms.

Nothing is lost on the way: kernels are asked to hold their output and say when they do, on the channel of the output itself; and whoever connects meanwhile is in the listening socket, which is init's.
Only kernels that can do that (`holds_output` of their kernelspec) let their host sleep, and only while there are no executions, commands, terminals, transfers, notebook frontends or streams.
"""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelgate.host.kernel import Kernel
    from kernelgate.host.session import SessionHost

log = logging.getLogger(__name__)

#: The exit status of a host that wants to be woken.
ASLEEP = 75
#: Of one core. A session whose threads or programs use more is not idle: its use is measured on.
_IDLE_PERCENT = 5.0
#: A session with more processes beside its kernels, or with less of its memory left, might not have the room for a host that is woken.
_FEW_PROCESSES, _FULL = 16, 0.75
#: A kernel that does not answer within this time is not that idle.
_HELD_WITHIN_S = 1.0
#: Who wakes a session is served when its kernels have answered, so as to find it as it was; but not later than this.
_READY_WITHIN_S = 2.0


class Sleep:
    """When a host sleeps, and what it knew when it wakes."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self._after_s: float | None = host.config.get("host_sleep_s")
        self._begun = False
        self._holding: set[Kernel] | None = None

    def begin(self) -> None:
        """Looks from now on whether the session is idle. Not for sessions that nobody has asked for yet: these are to be quick."""
        if not self._begun and self._after_s is not None:
            self._begun = True
            self._look_in(self._after_s)

    def _look_in(self, seconds: float) -> None:
        self._host.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        assert self._after_s is not None
        idle_s = self._host.idle_s
        if idle_s < self._after_s:
            self._look_in(self._after_s - idle_s)
        elif self._is_quiet():
            self._host.meter.last(self._measured)
        else:
            self._look_in(self._after_s)

    def _is_quiet(self) -> bool:
        host = self._host
        return (
            all(context.is_quiet for context in host.contexts.values())
            and not (host.jobs or host.commands.live or host.terminals.known or host.frontends.relays)
            and host.files.is_quiet
            and host.meter.is_quiet
            and host.init.is_quiet
            and host.server.is_quiet
            and host.flush()
        )

    def _measured(self, sample: dict[str, Any]) -> None:
        assert self._after_s is not None
        limit = sample["memory_limit_bytes"]
        if (
            sample["cpu_percent"] < _IDLE_PERCENT
            and sample["processes"] <= len(self._host.contexts) + _FEW_PROCESSES
            and (limit is None or sample["memory_bytes"] < _FULL * limit)
            and self._host.idle_s >= self._after_s
            and self._is_quiet()
        ):
            self._fall_asleep()
        else:
            self._look_in(self._after_s)

    def _fall_asleep(self) -> None:
        """Lets the kernels hold their output. Nobody is heard until `_end`, or `_stay_awake` after a second."""
        host = self._host
        host.server.listen(False)
        kernels = {context.kernel for context in host.contexts.values() if context.kernel is not None}
        holding = self._holding = set(kernels)
        for kernel in kernels:
            kernel.hold(partial(self._held, kernel))
        host.loop.call_later(_HELD_WITHIN_S, lambda: self._stay_awake() if self._holding is holding else None)
        if not kernels:
            self._end()

    def _held(self, kernel: Kernel) -> None:
        if self._holding is not None:
            self._holding.discard(kernel)
            if not self._holding:
                self._end()

    def _end(self) -> None:
        host = self._host
        if self._is_quiet() and host.server.nobody_waits():
            try:
                host.save_state(asleep=self._state())
            except OSError as exc:
                log.warning("the host stays awake: %s", exc)
            else:
                os._exit(ASLEEP)
        self._stay_awake()

    def _stay_awake(self) -> None:
        assert self._after_s is not None
        self._holding = None
        for context in self._host.contexts.values():
            if context.kernel is not None:
                context.kernel.listen_again()
        self._host.server.listen(True)
        self._look_in(self._after_s)

    def _state(self) -> dict[str, Any]:
        host = self._host
        return {
            "contexts": [context.asleep() for context in host.contexts.values()], "displays": host.displays(), "meter": host.meter.asleep(),
            "last_activity": host.last_activity, "active_at": time.monotonic() - host.idle_s,
        }  # fmt: skip

    def wake(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was written down. Callers are heard when the kernels are ready."""
        host = self._host
        host.restore(state)
        host.server.listen(False)
        until = time.monotonic() + _READY_WITHIN_S

        def ready() -> None:
            waits = any(context.kernel is not None and not context.kernel.ready for context in host.contexts.values())
            if waits and time.monotonic() < until:
                host.loop.call_later(0.001, ready)
            else:
                host.server.listen(True)

        ready()
