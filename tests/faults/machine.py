"""What faults need of the machine: a small disk in memory, a server whose clock can jump, the processes of a session, a full process table."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import Server

#: The gateway as it is, but that its wall clock is so many seconds off as the file of its first argument says at that moment.
_PROGRAM = """
import mmap, os, runpy, struct, sys, time
fd = os.open(sys.argv.pop(1), os.O_RDONLY)
shared, real = mmap.mmap(fd, 8, prot=mmap.PROT_READ), time.time
os.close(fd)
time.time = lambda: real() + struct.unpack("d", shared[:8])[0]
runpy.run_module("kernelgate", run_name="__main__", alter_sys=True)
"""

#: Runs a program that sees a directory read-only, while others write to it: in a mount namespace of its own.
READ_ONLY = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind -o ro "$0" "$0" && exec "$@"')


class Clock:
    """A file with the number of seconds by which a gateway's clock is off."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def jump(self, offset_s: float) -> None:
        self._shared[:8] = struct.pack("d", offset_s)


class ChaosServer(Server):
    """A server whose clock can jump."""

    def __init__(self, data_dir: Path, *settings: str, embedded: bool = True) -> None:
        super().__init__(data_dir, *settings, embedded=embedded)
        path = data_dir.parent / f"{data_dir.name}.clock"
        self.clock = Clock(path)
        self.program = [sys.executable, "-c", _PROGRAM, str(path)]

    def files_left(self) -> list[str]:
        """What ended sessions have left in the data directory."""
        return [f"file {path}" for name in ("sessions", "trash") for path in (self.data_dir / name).glob("*")] + [
            f"file {path}" for path in self.data_dir.glob("*.new")
        ]


@contextlib.contextmanager
def memory_disk(path: Path, size_mib: int) -> Iterator[None]:
    """A file system of its own at `path`, which a fault may fill."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0711", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def ended_by_force(server: Server) -> Iterator[None]:
    """Where the block is left by an exception, nothing of the server stays: no gateway, no zygote, no session."""
    try:
        yield
    except BaseException:
        for pid in (server.process.pid if server.process and server.process.poll() is None else None, server.zygote_pid()):
            if pid:
                os.kill(pid, signal.SIGKILL)
        for path in server.cgroups():
            for procs in path.glob("*/cgroup.procs"):
                for pid in procs.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        raise


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No room on the file system of a directory."""
    filler = path / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (16 * 1024 * 1024, 64 * 1024, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def few_processes(pids: list[int]) -> Iterator[bool]:
    """Neither these processes nor their children can make another one; not the machine's table is full but that of a group. Whether that is possible here."""
    root = Path("/sys/fs/cgroup/pids")
    if not (root / "cgroup.procs").exists():
        yield False  # control groups of version 2 let no process be in a group that has others below it
        return
    home = {pid: _pids_group(pid) for pid in pids}
    group = root / f"few-{os.getpid()}"
    group.mkdir()
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text((group / "pids.current").read_text().strip())
        yield True
    finally:
        (group / "pids.max").write_text("max")
        while left := (group / "cgroup.procs").read_text().split():
            for pid in left:
                with contextlib.suppress(ProcessLookupError, OSError):
                    (root / home.get(int(pid), "").lstrip("/") / "cgroup.procs").write_text(pid)
        group.rmdir()


def _pids_group(pid: int) -> str:
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    return next(path for _, controllers, path in lines if "pids" in controllers.split(","))


def processes_of(server: Server, session: str) -> dict[str, list[int]]:
    """The pids, as this machine numbers them, of a session's `init`, `host` and `kernels`; empty lists where they are not there."""
    found: dict[str, list[int]] = {"init": [], "host": [], "kernels": []}
    with contextlib.closing(sqlite3.connect(f"file:{server.data_dir / 'registry.sqlite'}?mode=ro", uri=True, timeout=10)) as registry:
        row = registry.execute("SELECT pid FROM sessions WHERE id = ? AND state = 'running'", (session,)).fetchone()
    if row is None:
        return found
    found["init"] = [row[0]]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for pid in Path(f"/proc/{row[0]}/task/{row[0]}/children").read_text().split():
            # A process that may not be dumped belongs to root in /proc; its status tells the truth.
            uid = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")).split()[1]
            found["host" if int(uid) % 2 else "kernels"].append(int(pid))
    return found


def runs_of(server: Server, session: str) -> Counter[str]:
    """How often each cell has run in a living session, by the files that they leave (cells.py)."""
    for pid in processes_of(server, session)["init"]:
        with contextlib.suppress(FileNotFoundError):
            return Counter(name.rpartition(".")[0] for name in os.listdir(f"/proc/{pid}/root/workspace/ran"))
    return Counter()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
