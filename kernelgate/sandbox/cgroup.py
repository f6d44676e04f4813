"""Control groups: one per session, under version 2 where it has the controllers, else version 1."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from kernelgate.sandbox.policy import Limits

_ROOT = Path("/sys/fs/cgroup")
#: In which a share of CPU time is counted; the kernel's own default.
_CPU_PERIOD_US = 100_000
#: What is limited, and the controller that does it.
_CONTROLLERS = {"memory": "memory", "processes": "pids", "cpu": "cpu"}


@dataclass(frozen=True)
class Cgroups:
    """Where groups are made. `version` 0: the machine lends none. `hierarchies` are the parents of sessions' groups, one under version 2, one a controller under version 1."""

    version: int
    hierarchies: tuple[Path, ...]
    controllers: tuple[str, ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """What no group limits here: of memory, processes and cpu."""
        return tuple(kind for kind, controller in _CONTROLLERS.items() if controller not in self.controllers)

    @classmethod
    def find(cls, name: str, root: Path = _ROOT) -> Cgroups:
        """The hierarchies that may be written, with `name` as the parent of all sessions' groups (made here)."""
        if (root / "cgroup.controllers").exists():
            base = _delegated(root) or root
            if not _make(base / name):
                return cls(0, ())
            _enable(base)
            enabled = _enable(base / name)
            if not enabled:
                with contextlib.suppress(OSError):
                    (base / name).rmdir()
                return cls(0, ())
            return cls(2, (base / name,), enabled)
        found = {
            kind: root / kind / name
            for kind in _CONTROLLERS.values()
            if (root / kind / "cgroup.procs").exists() and _make(root / kind / name)
        }
        return cls(1 if found else 0, tuple(found.values()), tuple(found))

    def create(self, session_id: str, limits: Limits) -> None:
        """The session's groups, with their limits. Raises OSError."""
        for parent in self.hierarchies:
            (parent / session_id).mkdir(exist_ok=True)
        self.limit(session_id, limits)

    def limit(self, session_id: str, limits: Limits) -> None:
        """Gives the session's groups these limits, now and for what runs in them. Raises OSError: below what is in use, say."""
        share = None if limits.cpu is None else max(1000, round(limits.cpu * _CPU_PERIOD_US))
        for parent in self.hierarchies:
            group = parent / session_id
            kind = "all" if self.version == 2 else parent.parent.name
            if self.version == 2:
                _write(group / "memory.max", limits.memory_bytes)
                _write(group / "memory.swap.max", 0 if limits.memory_bytes is not None else None)
                _write(group / "cpu.max", None if share is None else f"{share} {_CPU_PERIOD_US}")
            elif kind == "memory":
                _write(group / "memory.limit_in_bytes", -1 if limits.memory_bytes is None else limits.memory_bytes)
            elif kind == "cpu":
                _write(group / "cpu.cfs_quota_us", -1 if share is None else share)
            if kind in ("all", "pids"):
                _write(group / "pids.max", limits.processes)

    def join(self, session_id: str) -> None:
        """Puts the calling process, which has one thread, into the session's groups."""
        # For one thread that moves itself the kernel of version 1 need not stop every fork on the machine first, which takes up to 20 ms.
        name = "cgroup.procs" if self.version == 2 else "tasks"
        for parent in self.hierarchies:
            (parent / session_id / name).write_text("0")

    def open_oom_events(self, session_id: str) -> tuple[int | None, bytes]:
        """A descriptor whose text tells how often the session's processes were killed for memory, and the name of that line."""
        for parent in self.hierarchies:
            name = "memory.events" if self.version == 2 else "memory.oom_control"
            with contextlib.suppress(FileNotFoundError):
                return os.open(parent / session_id / name, os.O_RDONLY | os.O_CLOEXEC), b"oom_kill"
        return None, b""

    def open_processes(self, session_id: str) -> tuple[int, int, int] | None:
        """Descriptors whose texts are how many processes and threads the session has, how many it may have, and how often one was refused."""
        for parent in self.hierarchies:
            with contextlib.suppress(FileNotFoundError):
                group, flags = parent / session_id, os.O_RDONLY | os.O_CLOEXEC
                return os.open(group / "pids.current", flags), os.open(group / "pids.max", flags), os.open(group / "pids.events", flags)
        return None

    def memory_group(self, session_id: str) -> tuple[Path, str] | None:
        """The group that limits the session's memory, and the path under which programs expect to find it."""
        for parent in self.hierarchies:
            if self.version == 2:
                return parent / session_id, "/sys/fs/cgroup"
            if parent.parent.name == "memory":
                return parent / session_id, "/sys/fs/cgroup/memory"
        return None

    def kill(self, session_id: str) -> None:
        """Whatever is left in the session's groups."""
        for parent in self.hierarchies:
            with contextlib.suppress(OSError):
                for pid in (parent / session_id / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(int(pid), 9)

    def remove(self, session_id: str) -> None:
        """Takes the session's groups away; its processes are gone or going. Raises OSError where they stay."""
        for parent in self.hierarchies:
            for attempt in range(100):
                try:
                    (parent / session_id).rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    # The last process is still being taken apart: there is no event to wait for in version 1.
                    if attempt == 99:
                        raise
                    time.sleep(0.005)
                    continue
                break

    def remove_all(self) -> None:
        """The parent, if no session is left in it."""
        for parent in self.hierarchies:
            with contextlib.suppress(OSError):
                parent.rmdir()

    def remove_empty(self) -> None:
        """Groups of sessions without processes; the others refuse to go."""
        for parent in self.hierarchies:
            for group in parent.iterdir():
                if group.is_dir():
                    with contextlib.suppress(OSError):
                        group.rmdir()


def _delegated(root: Path) -> Path | None:
    """The group of this service, where the one who manages groups has given it away: systemd's `Delegate=yes` marks it, or its parent with `DelegateSubgroup=`."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/") and (path := line[4:]):
            for group in (root / path, (root / path).parent):
                for mark in ("user.delegate", "trusted.delegate"):
                    with contextlib.suppress(OSError):
                        if os.getxattr(group, mark) == b"1":
                            return group
    return None


def _enable(group: Path) -> tuple[str, ...]:
    """Lets the groups below this one have the controllers that it has. Those that they have now."""
    control = group / "cgroup.subtree_control"
    for controller in _CONTROLLERS.values():
        try:
            control.write_text(f"+{controller}")
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                continue
            # Version 2 gives controllers only to the children of a group without processes of its own: these move to a child, as in every container's own group.
            with contextlib.suppress(OSError):
                _clear(group)
                control.write_text(f"+{controller}")
    with contextlib.suppress(OSError):
        there = control.read_text().split()
        return tuple(controller for controller in _CONTROLLERS.values() if controller in there)
    return ()


def _clear(group: Path) -> None:
    aside = group / "kernelgate-service"
    aside.mkdir(exist_ok=True)
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            (aside / "cgroup.procs").write_text(pid)


def _make(path: Path) -> bool:
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return False
    return True


def _write(path: Path, value: int | str | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.write_text("max" if value is None else str(value))
