"""Init: PID 1 of a sandbox.

It forks the host and the kernels, reaps whatever ends, and starts a new host when the host dies. It has one thread and imports nothing that makes another, because only such
a process may fork. It keeps what a new host must know of the running kernels (their `tag`) and the descriptor of each kernel's log.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from kernelgate.errors import LocalProtocolError
from kernelgate.host import channel, meter, session
from kernelgate.host.pressure import Pressure, counted
from kernelgate.host.sleep import ASLEEP

#: A host that dies again and again is a bug that a new one does not cure; the session then ends with that reason. One that lived for so long has shown that it can.
MAX_HOST_STARTS = 20
_HOST_LIVES_S = 10.0
#: What is killed within so long of an out-of-memory kill is taken for one as well.
_OOM_TOGETHER_S = 1.0
#: The room a kernel needs: Java's has some thirty threads.
_KERNEL_PROCESSES = 48
#: What was killed is gone within some milliseconds; on a machine that does not get to it, nobody waits longer.
_GONE_WITHIN_S = 2.0


@dataclass
class Child:
    """A kernel or command that was started for the host, with our copies of the descriptors that the host has of it: a new host needs them.

    One that was spawned with `keep` stays after its end, until the host has taken note of it (`forget`), and what it left running lives on. `ended` is what the host was told.
    `swept`: it was ended because its processes filled the session.
    """

    tag: dict[str, Any]
    fds: list[int]
    keep: bool = False
    ended: dict[str, Any] | None = None
    swept: bool = False


class Init:
    """The loop of PID 1. `become_host` and `become_user` drop the rights of a forked child to those of the host or of the session's code, which is held to `limits`."""

    def __init__(
        self,
        config: dict[str, Any],
        listener: socket.socket,
        *,
        become_host: Callable[[], None],
        become_user: Callable[[dict[str, Any]], None],
        limits: dict[str, Any],
        oom_fd: int | None,
        oom_key: bytes,
        processes: tuple[int, int, int] | None = None,
        code_uid: int | None = None,
    ) -> None:
        self._config, self._listener = config, listener
        self._become_host, self._become_user, self._limits = become_host, become_user, limits
        self._children: dict[int, Child] = {}
        self._host_pid = 0
        self._host: socket.socket | None = None
        self._host_starts = 0
        self._host_started_at = 0.0
        self._asleep = False
        self._oom_fd, self._oom_key = oom_fd, oom_key
        self._oom_kills, self._oom_seen_at = self._count_oom(), -math.inf
        self._processes, self._code_uid = processes, code_uid
        self._refused = b""
        self._is_crowded()

    def run(self) -> NoReturn:
        """Serves until the host asks for the end, or SIGTERM."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._wake_fds = (wake_read, wake_write)
        self._start_host()
        while True:
            poll = select.poll()
            poll.register(wake_read, select.POLLIN)
            if self._host is not None:
                poll.register(self._host, select.POLLIN)
            alarms = self._alarms()
            for fd in alarms:
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                if fd == wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                elif fd in alarms:
                    self._wake()
                elif self._host is not None and fd == self._host.fileno():
                    self._serve()
            self._reap()

    # -- the host --

    def _start_host(self) -> None:
        if time.monotonic() > self._host_started_at + _HOST_LIVES_S:
            self._host_starts = 0
        self._host_started_at = time.monotonic()
        self._host_starts += 1
        if self._host_starts > MAX_HOST_STARTS:
            print("the session host died too often", file=sys.stderr)  # noqa: T201 - PID 1 has no logging
            self._end()
        ours, theirs = channel.pair()
        children = [{"pid": pid, "tag": child.tag, "fds": child.fds, "ended": child.ended} for pid, child in self._children.items()]
        pid = self._fork_host()
        if pid == 0:
            self._in_child()
            ours.close()
            try:
                self._become_host()
                oom = None if self._oom_fd is None else (self._oom_fd, self._oom_key)
                refused = None if self._processes is None else self._processes[2]
                file_systems = {"workspace": self._config["cwd"], "tmp": "/tmp", "shm": "/dev/shm"} if self._config["isolated"] else {}
                session.run(self._config, self._listener, theirs, children, Pressure(oom, refused, file_systems))
            finally:
                os._exit(1)
        theirs.close()
        self._host_pid, self._host = pid, ours

    def _alarms(self) -> set[int]:
        """What wakes a host that sleeps (see `sleep`): somebody who connects, and what kernels write to their logs."""
        if not self._asleep:
            return set()
        return {self._listener.fileno(), *(fd for child in self._children.values() for fd in child.fds if fd >= 0)}

    def _wake(self) -> None:
        """Starts the host again, and lets go of kernels that ended meanwhile, of which it is told."""
        if self._asleep:
            self._asleep = False
            self._start_host()
            for pid in [pid for pid, child in self._children.items() if child.ended is not None and not child.keep]:
                self._forget(pid)

    def _fork_host(self) -> int:
        """Without a host the session would be lost: where the session's code has taken every process there may be, it loses some."""
        while True:
            try:
                return os.fork()
            except OSError:
                self._sweep()
                time.sleep(0.05)

    def _serve(self) -> None:
        assert self._host is not None
        try:
            message, fds = channel.receive(self._host)
        except (OSError, ValueError):
            message, fds = None, []
        for fd in fds:
            os.close(fd)
        if message is None:
            # The host closed its end; its death is seen by _reap, which starts the next.
            self._host.close()
            self._host = None
            return
        match message.get("op"):
            case "spawn":
                self._spawn(message)
            case "signal":
                self._signal(message["pid"], message["signal"])
            case "close":
                self._close(message["pid"], message["index"])
            case "forget":
                self._forget(message["pid"])
            case "limits":
                self._limits = message["limits"]
            case "cpu":
                self._tell({"event": "cpu", "id": message["id"], "cpu_s": _cpu_of(message["pid"])})
            case "sweep":
                self._tell({"event": "swept", "id": message["id"], "full": self._sweep_after(message["pid"], message["since"])})
            case "usage":
                self._tell({"event": "usage", "usage": meter.usage(self._host_pid, isolated=self._config["isolated"])})
            case "shutdown":
                self._end()
            case other:
                raise LocalProtocolError(f"unknown message {other!r}")

    def _tell(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        if self._host is not None:
            with contextlib.suppress(OSError):
                channel.send(self._host, message, fds)

    # -- processes --

    def _spawn(self, message: dict[str, Any]) -> None:
        """Starts a process. The host gets the other ends of its descriptors, as `stdio` says (see `_stdio`)."""
        ours: list[int] = []
        theirs: dict[int, int] = {}
        if not message.get("keep") and self._is_crowded():
            self._sweep()
        try:
            _stdio(message.get("stdio", "log"), message.get("size"), ours, theirs)
            pid = self._fork()
        except OSError as exc:
            for fd in {*ours, *theirs.values()}:
                os.close(fd)
            self._tell({"event": "spawned", "id": message["id"], "pid": -(exc.errno or errno.EAGAIN)})
            return
        if pid == 0:
            status = 127
            try:
                self._in_child()
                status = self._become_program(message, theirs)
            except BaseException as exc:  # noqa: BLE001 - whatever it is, it must be said and must not go on as init
                os.write(2, f"{type(exc).__name__}: {exc}\n".encode())
            finally:
                os._exit(status)
        for fd in set(theirs.values()):
            os.close(fd)
        self._children[pid] = Child(message["tag"], ours, message.get("keep", False))
        self._tell({"event": "spawned", "id": message["id"], "pid": pid}, tuple(ours))

    def _fork(self) -> int:
        """Forks, and where the session is full makes room first. Raises OSError."""
        try:
            return os.fork()
        except BlockingIOError:
            self._sweep()
            return os.fork()

    def _close(self, pid: int, index: int) -> None:
        """Closes our copy of a descriptor: a process sees the end of its stdin only when nobody holds the other end."""
        child = self._children.get(pid)
        if child is not None and child.fds[index] >= 0:
            os.close(child.fds[index])
            child.fds[index] = -1

    def _forget(self, pid: int) -> None:
        """Lets go of what is kept of a process that has ended."""
        child = self._children.get(pid)
        if child is not None and child.ended is not None:
            del self._children[pid]
            _close_all(child)

    def _in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for fd in self._wake_fds:
            os.close(fd)

    def _become_program(self, message: dict[str, Any], fds: dict[int, int]) -> int:
        """In the child: its descriptors, the session's user, a process group of its own, and then the kernel or command."""
        os.setsid()
        if 0 not in fds:
            fds[0] = os.open(os.devnull, os.O_RDONLY)
        above = _highest_fd() + 1
        for number, fd in enumerate(fds.values()):
            os.dup2(fd, above + number)  # out of the way first: the ends may have each other's numbers
        for number, target in enumerate(fds):
            os.dup2(above + number, target)
        os.closerange(max(fds) + 1, above + len(fds))
        if message.get("stdio") == "pty":
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.umask(0o022)
        env = {str(name): str(value) for name, value in message["env"].items()}
        self._become_user(self._limits)
        os.chdir(message["cwd"])
        fork = message.get("fork")
        if not fork:
            if message.get("keep"):
                # Python ignores these, and a program would inherit that: `yes | head` would not end quietly.
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            os.execvpe(message["argv"][0], message["argv"], env)
        # For programs the environment is what execve got; for a forked one it must be replaced by hand, libc's copy included.
        os.environ.clear()  # noqa: TID251 - it is being made here
        os.environ.update(env)  # noqa: TID251
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = message["argv"][:]
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        gc.enable()
        module, _, function = fork.partition(":")
        getattr(importlib.import_module(module), function)(message["connection_file"])
        return 0

    def _signal(self, pid: int, number: int) -> None:
        """To the process and its group, where it is one that init started for the host."""
        child = self._children.get(pid)
        if child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)
            if number == signal.SIGKILL and child.ended is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._host_pid:
                self._host_pid = 0
                if self._host is not None:
                    self._host.close()
                    self._host = None
                code = os.waitstatus_to_exitcode(status)
                if code == 0:
                    self._end()
                if code == ASLEEP:
                    self._asleep, self._host_starts = True, 0
                    if any(child.ended is not None for child in self._children.values()):
                        self._wake()
                    continue
                # A second between starts from the third on: a host that cannot start must not burn a core.
                if self._host_starts > 2:
                    time.sleep(1)
                self._start_host()
                continue
            child = self._children.get(pid)
            if child is not None and child.ended is None:
                killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
                child.ended = {
                    "event": "exited",
                    "pid": pid,
                    "status": os.waitstatus_to_exitcode(status),
                    "oom": killed and self._was_oom(),
                    "swept": killed and child.swept,
                }
                child.ended["usage"] = self._usage(used)
                if not child.keep:
                    # What is left of its group (workers of a kernel that was killed) has no one to look after it.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGKILL)
                    if self._asleep:
                        self._wake()
                        continue
                    self._forget(pid)
                self._tell(child.ended)

    def _usage(self, used: resource.struct_rusage) -> dict[str, Any]:
        """What a process and the children it waited for have used.

        Linux counts what a process had before execve to its peak, and that was a copy of init: a peak that is not above init's own says nothing of the program.
        """
        peak = used.ru_maxrss * 1024
        return {
            "cpu_s": round(used.ru_utime + used.ru_stime, 6),
            "peak_memory_bytes": peak if peak > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 else None,
            "read_bytes": used.ru_inblock * 512,
            "written_bytes": used.ru_oublock * 512,
        }

    # -- a session full of processes --

    def _is_crowded(self) -> bool:
        """Whether there is hardly room for a kernel and its threads, or was none for some process since this was asked last."""
        if self._processes is None:
            return False
        current, limit, refused = (os.pread(fd, 64, 0).strip() for fd in self._processes)
        before, self._refused = self._refused, refused
        if before not in (b"", refused):
            return True
        return limit != b"max" and int(current) > int(limit) - min(_KERNEL_PROCESSES, int(limit) // 2)

    def _sweep(self) -> None:
        """Makes room: kills what belongs to no kernel or command that lives. A fork bomb that outlived its kernel would keep the session from ever having another.

        Where there was nothing of the kind, the bomb is a living kernel's or command's: one whose processes fill the session ends with them. Those that ended and that it
        does not wait for count as well: only its own end makes room.
        """
        if self._processes is None:
            return
        limit = os.pread(self._processes[1], 64, 0).strip()

        full: set[int] | None = None

        def chosen(found: dict[int, list[bytes]]) -> list[int]:
            nonlocal full
            kept = {pid for pid, child in self._children.items() if child.keep or child.ended is None}
            strays = [pid for pid, stat in found.items() if int(stat[3]) not in kept and not _ended(stat)]
            if full is None:  # what the first look finds decides whose processes go
                sizes = Counter(int(stat[3]) for stat in found.values())
                full = set() if strays or limit == b"max" else {leader for leader, size in sizes.items() if size > int(limit) // 4}
            return [*strays, *(pid for pid, stat in found.items() if int(stat[3]) in full and not _ended(stat))]

        self._kill_chosen(chosen)

    def _sweep_after(self, leader: int, since: int) -> bool:
        """After an execution or command that was refused a process: kills what it left, so that the session works again at once.

        That is what was started since then (in clock ticks since boot) and is of the session of processes that `leader` began, or of none that lives. The kernel itself is spared, and
        what it had before. Whether it is full of processes that have ended and that it does not wait for: then only its own end makes room.
        """
        if self._processes is None:
            return False

        def chosen(found: dict[int, list[bytes]]) -> list[int]:
            kept = {pid for pid, child in self._children.items() if child.keep or child.ended is None} - {leader}
            return [
                pid
                for pid, stat in found.items()
                if pid not in self._children and int(stat[19]) >= since and int(stat[3]) not in kept and not _ended(stat)
            ]

        self._kill_chosen(chosen)
        limit = os.pread(self._processes[1], 64, 0).strip()
        zombies = sum(int(stat[1]) == leader and _ended(stat) for stat in _processes_of(self._code_uid).values())
        return limit != b"max" and zombies > int(limit) // 4

    def _kill_chosen(self, choose: Callable[[dict[int, list[bytes]]], list[int]]) -> None:
        """Kills those that `choose` picks of the session's code, until it picks no more and they are gone.

        All stand still meanwhile: kill(-1) reaches every process and none can fork past it, where one after the other a bomb would grow as fast as it is killed. Only a fork that was
        under way is still carried out, and its child is seen when its parent is gone: hence the second look.
        """
        assert os.getpid() == 1, "kill(-1) is for the first process of a sandbox"
        killed: set[int] = set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGSTOP)
        try:
            until = time.monotonic() + _GONE_WITHIN_S
            while time.monotonic() < until:
                found = _processes_of(self._code_uid)
                chosen = set(choose(found)) - killed
                for pid in chosen:
                    if pid in self._children:
                        self._children[pid].swept = True
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                killed |= chosen
                # A zombie is its parent's affair from here on, where that lives.
                if not chosen and not any(
                    not _ended(found[pid]) or (int(found[pid][1]) == 1 and pid not in self._children) for pid in killed & found.keys()
                ):
                    break
                time.sleep(0.002)
                for pid in killed - self._children.keys():  # their end is told by _reap
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)  # orphans are init's; a zombie counts as a process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGCONT)

    # -- out of memory --

    def _count_oom(self) -> int:
        return 0 if self._oom_fd is None else counted(self._oom_fd, self._oom_key)

    def _was_oom(self) -> bool:
        """Of a process that was killed. Where memory that no process has mapped is too much, several are killed one after the other, and counted before the first of them is seen here."""
        before, self._oom_kills = self._oom_kills, self._count_oom()
        if self._oom_kills > before:
            self._oom_seen_at = time.monotonic()
        return time.monotonic() < self._oom_seen_at + _OOM_TOGETHER_S

    # -- the end --

    def _end(self) -> NoReturn:
        """Ends everything. As PID 1 of a namespace the kernel does it when init goes; without one, init ends what it started and what was left to it."""
        if os.getpid() != 1:
            _end_descendants()
        os._exit(0)


def _stdio(kind: str, size: list[int] | None, ours: list[int], theirs: dict[int, int]) -> None:
    """Makes the descriptors of a new process: `theirs` by its number for them, `ours` for the host, in this order.

    log: nothing to read, one pipe for stdout and stderr (kernels) -> [output]
    pipes -> [stdin, stdout, stderr]
    merged: stdout and stderr are one pipe -> [stdin, output]
    pty: a terminal of `size` [rows, columns] -> [master]
    socket: descriptor 3 is one end of a stream socket pair, besides a log -> [socket, output]

    Raises OSError; what was made until then is in the lists.
    """

    def pipe(*targets: int, to_child: bool) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        ours.append(write if to_child else read)
        theirs.update(dict.fromkeys(targets, read if to_child else write))

    match kind:
        case "log":
            pipe(1, 2, to_child=False)
        case "pipes":
            pipe(0, to_child=True)
            pipe(1, to_child=False)
            pipe(2, to_child=False)
        case "merged":
            pipe(0, to_child=True)
            pipe(1, 2, to_child=False)
        case "pty":
            master, slave = os.openpty()
            ours.append(master)
            theirs.update(dict.fromkeys((0, 1, 2), slave))
            rows, columns = size or (24, 80)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        case "socket":
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.append(one.detach())
            theirs[3] = other.detach()
            pipe(1, 2, to_child=False)
        case _:
            raise OSError(errno.EINVAL, f"unknown stdio {kind!r}")


def _close_all(child: Child) -> None:
    for fd in child.fds:
        if fd >= 0:
            os.close(fd)


def _processes_of(uid: int | None) -> dict[int, list[bytes]]:
    """Processes of a user by pid, with the fields of their /proc/PID/stat from the state on: state, parent, group, session, and the 20th, when it was started."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            # The directory's owner: the files in it are root's where a process has ended, or does not let itself be traced.
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == uid:
                    with open(f"/proc/{name}/stat", "rb") as file:
                        found[int(name)] = file.read().rpartition(b")")[2].split()
    return found


def _ended(stat: list[bytes]) -> bool:
    return stat[0] in (b"Z", b"X")


def _cpu_of(leader: int) -> float:
    """Processor time, in seconds, of a process, of what it started, and of what these waited for."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                found[int(name)] = [int(field) for field in file.read().rpartition(b")")[2].split()[1:15]]
    below = {leader}
    while more := {pid for pid, stat in found.items() if stat[0] in below or stat[2] == leader} - below:
        below |= more
    return sum(sum(stat[10:14]) for pid, stat in found.items() if pid in below) / os.sysconf("SC_CLK_TCK")


def _highest_fd() -> int:
    return max((int(name) for name in os.listdir("/proc/self/fd")), default=3)


def _end_descendants() -> None:
    """Kills every process below this one. Orphans come to it (it is a subreaper), so it looks again until none is left."""
    me = os.getpid()
    while True:
        parents = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        below = {pid for pid, parent in parents.items() if parent == me}
        while True:
            more = {pid for pid, parent in parents.items() if parent in below} - below
            if not more:
                break
            below |= more
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
