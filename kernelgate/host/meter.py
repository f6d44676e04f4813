"""What a session uses: CPU, memory, processes, disk and network, now and over the last ten minutes.

Init measures, as it sees all processes and has reaped those that are gone. It is asked every `INTERVAL_S` while anything runs or happens, and when a caller asks; an idle session
is left alone, so its history has no entries for the time in which nothing changed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelgate.protocol.result import timestamp

if TYPE_CHECKING:
    from kernelgate.host.loop import Timer
    from kernelgate.host.server import Request
    from kernelgate.host.session import SessionHost

INTERVAL_S = 10.0
_KEPT = 60
#: Of one core: what uses more is not idle, whether or not its caller waits for it.
_IDLE_PERCENT = 1.0
#: A share of CPU time is told over this long at least: processes are charged in ticks of 10 ms.
_SHORTEST_S = 1.0
_WORKSPACE = ("bytes", "entries", "truncated")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Usage, page cache in it that can be had back, and limit; by version of the control groups.
_MEMORY = (
    ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", b"inactive_file", "/sys/fs/cgroup/memory.max"),
    (
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        b"total_inactive_file",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ),
)
#: Version 1 has no word for "no limit" but a number this large.
_NO_LIMIT_BYTES = 1 << 60


def usage(host_pid: int, *, isolated: bool) -> dict[str, Any]:
    """What the session uses, as its init sees it: everything below this process, but for the host. CPU time is that of processes which are gone, too."""
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                stats[int(name)] = file.read().rpartition(b")")[2].split()
    below = {os.getpid()}
    while more := {pid for pid, stat in stats.items() if int(stat[1]) in below} - below:
        below |= more
    below -= {os.getpid(), host_pid}
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = sum(int(field) for pid in below for field in stats[pid][11:15])
    living = [stats[pid] for pid in below if stats[pid][0] not in (b"Z", b"X")]
    made: dict[str, Any] = {
        "cpu_s": round(gone.ru_utime + gone.ru_stime + ticks / _TICKS, 3), "processes": len(living), "threads": sum(int(stat[17]) for stat in living),
        "memory_bytes": sum(int(stat[21]) for stat in living) * _PAGE_BYTES, "memory_limit_bytes": None, "memory_source": "processes",
    }  # fmt: skip
    if isolated:
        made.update(_of_group())
    return made


def _of_group() -> dict[str, Any]:
    """The memory of the session's control group, where it has one."""
    for used, details, cache, limit in _MEMORY:
        try:
            current, most = int(_text(used)), _text(limit).strip()
            lines = (line.split() for line in _text(details).splitlines())
            given_back = next((int(words[1]) for words in lines if words[0] == cache), 0)
        except OSError:
            continue
        limit_bytes = None if most == b"max" or int(most) >= _NO_LIMIT_BYTES else int(most)
        return {"memory_bytes": max(0, current - given_back), "memory_limit_bytes": limit_bytes, "memory_source": "cgroup"}
    return {}


def _text(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class Meter:
    """The host's end of it."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self._kept: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._timer: Timer | None = None
        #: Since when nothing was used that no entry tells of.
        self._idle_until = time.monotonic()
        self._waiting: list[Callable[[dict[str, Any]], None]] = []

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is being measured this moment."""
        return not self._waiting

    def last(self, then: Callable[[dict[str, Any]], None]) -> None:
        """Measures once more; `then` hears what."""

        def measured(sample: dict[str, Any]) -> None:
            self._kept.append(sample)
            then(sample)

        self._measure(measured)

    def asleep(self) -> dict[str, Any]:
        """The history, for the host that is woken."""
        return {"kept": list(self._kept), "idle_until": self._idle_until}

    def awake_with(self, asleep: dict[str, Any]) -> None:
        self._kept.extend(asleep["kept"])
        self._idle_until = asleep["idle_until"]

    def awake(self) -> None:
        """Something happens: it is measured from now on, until nothing does."""
        if self._timer is None:
            self._idle_until = time.monotonic()
            self._timer = self._host.loop.call_later(INTERVAL_S, self._tick)

    def _tick(self) -> None:
        def measured(sample: dict[str, Any]) -> None:
            self._kept.append(sample)
            self._timer = None
            if self._host.jobs or self._host.commands.running() or sample["cpu_percent"] > _IDLE_PERCENT:
                self._timer = self._host.loop.call_later(INTERVAL_S, self._tick)

        self._measure(measured)

    def _measure(self, then: Callable[[dict[str, Any]], None]) -> None:
        self._waiting.append(then)
        if len(self._waiting) == 1:
            self._host.init.ask_usage(self._told)

    def _told(self, said: dict[str, Any]) -> None:
        waiting, self._waiting = self._waiting, []
        now = time.monotonic()
        sample = {**said, "at": now, "time": timestamp(time.time()), "cpu_percent": self._percent(said["cpu_s"], now), **self._places()}
        for then in waiting:
            then(sample)

    def _percent(self, cpu_s: float, now: float) -> float:
        """Of one core: since the entry before, or since the session awoke."""
        before = next((one for one in reversed(self._kept) if now - one["at"] >= _SHORTEST_S), None)
        used_s = cpu_s - (0.0 if before is None else before["cpu_s"])
        since = self._idle_until if before is None else max(self._idle_until, before["at"])
        return round(100 * max(0.0, used_s) / max(_SHORTEST_S, now - since), 1)

    def _places(self) -> dict[str, Any]:
        """Memory file systems and network, which are the session's own only in a sandbox."""
        if not self._host.config["isolated"]:
            return {"tmp_bytes": None, "shm_bytes": None, "network": None}
        sizes = {}
        for name, path in (("tmp_bytes", "/tmp"), ("shm_bytes", "/dev/shm")):
            facts = os.statvfs(path)
            sizes[name] = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        network = {"received_bytes": 0, "sent_bytes": 0, "loopback_bytes": 0}
        for line in _text("/proc/net/dev").splitlines()[2:]:
            interface, _, numbers = line.partition(b":")
            fields = numbers.split()
            if interface.strip() == b"lo":
                network["loopback_bytes"] += int(fields[0])
            else:
                network["received_bytes"] += int(fields[0])
                network["sent_bytes"] += int(fields[8])
        return {**sizes, "network": network}

    def op_metrics(self, request: Request) -> None:
        """Now, and the history. The workspace is gone through for it, by a process of the session's user."""

        def measured(sample: dict[str, Any]) -> None:
            self._host.files.ask({"do": "usage"}, lambda said: answer(sample, said))

        def answer(sample: dict[str, Any], said: Any) -> None:
            # It comes from a process that the session's code may have taken over.
            known = isinstance(said, dict) and all(isinstance(said.get(name), int) for name in _WORKSPACE)
            workspace = {name: said[name] for name in _WORKSPACE} if known else None
            shared = {name: sample[name] for name in ("memory_limit_bytes", "memory_source")}
            history = [_shown(one) for one in self._kept]
            request.reply({"now": _shown(sample), "history": history, "interval_s": INTERVAL_S, "workspace": workspace, **shared})

        self._measure(measured)


def _shown(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sample.items() if name not in ("at", "memory_limit_bytes", "memory_source")}
