"""The zygote: a warm, single-threaded process that forks sessions.

It is started by the gateway and outlives it. It has the rights to make sandboxes, and speaks only to whoever can open its socket, which is the gateway's user. One request
at a time: making a session takes some milliseconds, and nothing here waits for longer. Sandboxes take some tens of milliseconds to end: many end at once, and each is answered for when it has.

    {"op": "hello"}                                  -> {"ok": true, "pid", "fingerprint", "cgroup", "lacking": [...], "kernels": {...}}
    {"op": "make", "session_id", "slot", "limits", "network", "config"} -> {"ok": true, "pid", "start_ticks"}
    {"op": "limit", "session_id", "limits"}          -> {"ok": true}; what control groups limit, from now on
    {"op": "end", "session_id", "pid", "start_ticks", "remove"} -> {"ok": true}
    {"op": "exit"}                                   -> ends the zygote; sessions live on

Answers to what failed are {"error": text, "stage": where}. When an init that this zygote forked ends, all connections are told {"event": "ended", "session_id", "status"}.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from kernelgate.errors import SandboxUnavailable
from kernelgate.host import session  # noqa: F401 - imported here so that init need not
from kernelgate.host.init import Init
from kernelgate.sandbox import build, heap, network, seccomp, syscalls, workspace
from kernelgate.sandbox.cgroup import Cgroups
from kernelgate.sandbox.policy import Limits, Policy
from kernelgate.sandbox.removal import remove_tree

_MAX_REQUEST = 1024 * 1024
#: What the removal of files may still take when the zygote is asked to end; then it goes on alone.
_REMOVE_WITHIN_S = 10.0
#: What a sandbox that is being ended may take; then what it had outside is taken away all the same.
_END_WITHIN_S = 10.0


@dataclasses.dataclass(frozen=True)
class _Ending:
    """A sandbox that is being ended, and who asked for it."""

    client: socket.socket
    request_id: Any
    place: build.Place
    remove: bool
    until: float


class Zygote:
    """`config`: data_dir, fingerprint, policy, preload [module], forkable ["module:function"], owner_uid (the gateway's)."""

    def __init__(self, config: dict[str, Any], lock: int) -> None:
        self._config, self._lock = config, lock
        self._data = Path(config["data_dir"])
        self._policy = Policy.from_json(config["policy"])
        self._sessions: dict[int, str] = {}
        self._clients: dict[int, socket.socket] = {}
        self._removing: set[int] = set()
        self._endings: dict[int, _Ending] = {}
        self._kernels = self._preload()
        self._cgroups = Cgroups(0, ())
        self._template: build.Template | None = None
        self._filter = b""
        self._images = workspace.Images(self._data / "workspaces")
        if self._policy.isolated:
            try:
                self._prepare_sandboxes()
            except BaseException:
                self._cgroups.remove_all()
                raise
        heap.settle()
        tasks = len(os.listdir("/proc/self/task"))
        if tasks != 1:
            raise SandboxUnavailable(f"the zygote has {tasks} threads after importing {config['preload']}; it must have one to fork safely")

    def _prepare_sandboxes(self) -> None:
        """What all of them share. Raises SandboxUnavailable."""
        self._filter = seccomp.compile_filter()
        self._cgroups = Cgroups.find(self._policy.cgroup)
        self._cgroups.remove_empty()  # left by sessions that ended while there was no zygote
        lacking = [kind for kind in self._cgroups.lacking if kind != "cpu" or self._policy.limits.cpu is not None]
        if self._policy.require_cgroups and lacking:
            raise SandboxUnavailable(
                f"no control group can be used here for: {', '.join(lacking)}; give the service a writable /sys/fs/cgroup (docs/security.md), or set "
                "sandbox.require_cgroups = false: limits are then those of single processes"
            )
        if self._policy.limits.workspace_bytes is not None and self._policy.limits.workspace_inodes is not None:
            self._images.check(self._policy.limits.workspace_bytes, self._policy.limits.workspace_inodes)
        self._own_pidns = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._template = build.Template(self._data / "root", self._policy)
        except OSError as exc:
            raise SandboxUnavailable(
                f'the sandbox\'s root cannot be made: {exc}; run as root, or set sandbox = "none" for development without isolation'
            ) from exc

    def _preload(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for target in self._config["forkable"]:
            name = target.partition(":")[0]
            module = importlib.import_module(name)
            prepare = getattr(module, "prepare", None)
            facts[name] = prepare(self._config["preload"]) if prepare else {}
        return facts

    # -- requests --

    def serve(self, announce: int) -> None:
        """Until asked to exit, or SIGTERM. Says on the descriptor `announce` when it listens, and closes it."""
        path = self._data / "zygote.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.umask(0o077)
        path.unlink(missing_ok=True)
        _bind(listener, path)
        os.chown(path, self._config["owner_uid"], -1)
        os.umask(0o022)
        listener.listen(8)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self._exit())
        self._listener, self._wake = listener, (wake_read, wake_write)
        os.write(announce, b'{"ready": true}\n')
        os.close(announce)
        self._reap()
        if (self._data / "trash").exists():
            self._empty(self._data / "trash")  # what a zygote that was killed left
        while True:
            poll = select.poll()
            for fd in (wake_read, listener.fileno(), *self._clients, *self._endings):
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(1000 if self._endings else None):
                if fd in self._endings:
                    self._finish(fd)
                elif fd == wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                elif fd == listener.fileno():
                    try:
                        client, _ = listener.accept()
                    except OSError:
                        time.sleep(0.05)  # no descriptor left: who asks is asked to wait
                        continue
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MAX_REQUEST)
                    self._clients[client.fileno()] = client
                elif fd in self._clients:
                    self._request(self._clients[fd])
            for fd in [fd for fd, ending in self._endings.items() if time.monotonic() > ending.until]:
                self._finish(fd)
            self._reap()

    def _request(self, client: socket.socket) -> None:
        try:
            data = client.recv(_MAX_REQUEST)
        except OSError:
            data = b""
        if not data:
            del self._clients[client.fileno()]
            client.close()
            return
        message = json.loads(data)
        if message["op"] == "end":
            self._end(client, message)
            return
        try:
            answer = {"ok": True, **self._answer(message)}
        except OSError as exc:
            answer = {"error": str(exc), "stage": message.get("op")}
        self._send(client, {"id": message.get("id"), **answer})

    def _send(self, client: socket.socket, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            client.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        match message["op"]:
            case "hello":
                return {
                    "pid": os.getpid(),
                    "fingerprint": self._config["fingerprint"],
                    "cgroup": self._cgroups.version,
                    "lacking": list(self._cgroups.lacking),
                    "kernels": self._kernels,
                    "isolated": self._policy.isolated,
                }
            case "make":
                return self._make(
                    message["session_id"], message["slot"], Limits(**message["limits"]), message["config"], has_network=message["network"]
                )
            case "limit":
                self._cgroups.limit(message["session_id"], Limits(**message["limits"]))
                return {}
            case "exit":
                return self._exit()
            case other:
                raise OSError(f"unknown operation {other!r}")

    def _exit(self) -> NoReturn:
        for fd, ending in list(self._endings.items()):
            select.select([fd], [], [], max(0.0, ending.until - time.monotonic()))
            self._finish(fd)
        until = time.monotonic() + _REMOVE_WITHIN_S
        while self._removing and time.monotonic() < until:
            self._reap()
            time.sleep(0.01)
        self._cgroups.remove_all()
        with contextlib.suppress(OSError):
            (self._data / "zygote.sock").unlink()
        os._exit(0)

    # -- sessions --

    def _make(self, session_id: str, slot: int, limits: Limits, config: dict[str, Any], *, has_network: bool) -> dict[str, Any]:
        code_uid, host_uid = self._policy.uids(slot) if self._policy.isolated else (os.getuid(), os.getuid())
        place = build.Place(session_id, self._data / "sessions" / session_id, code_uid, host_uid)
        config = {**config, **self._prepare_place(place)}
        device = -1
        if self._policy.isolated and limits.workspace_bytes is not None and limits.workspace_inodes is not None:
            image = place.directory / "workspace.ext4"
            self._images.make(image, limits.workspace_bytes, limits.workspace_inodes)
            name, device = workspace.attach(image)
            place = dataclasses.replace(place, workspace=name)
        try:
            return self._make_in(place, limits, config, has_network=has_network)
        finally:
            if device >= 0:
                os.close(device)

    def _make_in(self, place: build.Place, limits: Limits, config: dict[str, Any], *, has_network: bool) -> dict[str, Any]:
        session_id = place.session_id
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = place.directory / "link.sock"
        path.unlink(missing_ok=True)
        _bind(listener, path)
        os.chown(path, self._config["owner_uid"], -1)
        path.chmod(0o600)
        listener.listen(128)
        self._cgroups.create(session_id, limits)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        if self._policy.isolated:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        try:
            pid = os.fork()
        except OSError:
            syscalls.setns(self._own_pidns, syscalls.CLONE_NEWPID)
            raise
        if pid and self._policy.isolated:
            syscalls.setns(self._own_pidns, syscalls.CLONE_NEWPID)  # later children of the zygote itself are its own again
        if pid == 0:
            try:
                os.close(read_end)
                self._become_init(place, limits, config, listener, write_end, has_network=has_network)
            except BaseException as exc:  # noqa: BLE001 - a child must never go on as the zygote
                traceback.print_exc()
                with contextlib.suppress(OSError):
                    os.write(write_end, f"{type(exc).__name__}: {exc}".encode())
            finally:
                os._exit(1)
        listener.close()
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            said = pipe.read()
        if said != b"ready":
            os.waitpid(pid, 0)
            self._clean(place, remove=True)
            raise OSError(f"the sandbox could not be made: {said.decode('utf-8', 'replace') or 'its first process ended'}")
        self._sessions[pid] = session_id
        return {"pid": pid, "start_ticks": start_ticks(pid)}

    def _prepare_place(self, place: build.Place) -> dict[str, Any]:
        directory = place.directory
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        os.chown(directory, self._config["owner_uid"], -1)
        for name, owner in (("workspace", place.code_uid), ("journal", place.host_uid)):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
            os.chown(directory / name, owner, owner)
        if self._policy.isolated:
            return {
                "journal": "/run/session/events.jsonl",
                "kernels_dir": "/run/kernels",
                "spool_dir": "/run/spool",
                "cwd": self._policy.cwd,
                "isolated": True,
            }
        (directory / "tmp").mkdir(mode=0o700, exist_ok=True)
        kernels = _open_kernels_dir(place.session_id)
        kernels.mkdir(mode=0o700, exist_ok=True)
        return {
            "journal": str(directory / "journal" / "events.jsonl"), "kernels_dir": str(kernels), "spool_dir": str(directory / "spool"), "cwd": str(directory / "workspace"), "isolated": False,
        }  # fmt: skip

    def _become_init(
        self, place: build.Place, limits: Limits, config: dict[str, Any], listener: socket.socket, ready: int, *, has_network: bool
    ) -> None:
        self._let_go()
        os.setsid()
        if self._policy.isolated:
            assert self._template is not None
            resolver = None
            if has_network:  # before the session's control groups: what it starts is not the session's
                policy = self._policy
                resolver = network.enter(policy.network_uid, policy.network_denied, policy.network_resolver)
            # Needs CAP_SYS_RESOURCE, which a container's root may lack; the session's code is raised instead in any case (see build.become_user).
            with contextlib.suppress(PermissionError):
                Path("/proc/self/oom_score_adj").write_text("-900")
            self._cgroups.join(place.session_id)
            oom_fd, oom_key = self._cgroups.open_oom_events(place.session_id)
            processes = self._cgroups.open_processes(place.session_id)
            os.close(self._own_pidns)
            self._template.enter(place, limits, self._filter, self._cgroups.memory_group(place.session_id), resolver)
            lacking = self._cgroups.lacking
            init = Init(
                config,
                listener,
                become_host=lambda: build.become_host(place),
                become_user=lambda limits: build.become_user(place, Limits(**limits), lacking),
                limits=limits.to_json(),
                oom_fd=oom_fd,
                oom_key=oom_key,
                processes=processes,
                code_uid=place.code_uid,
            )
        else:
            syscalls.become_subreaper()
            os.chdir(config["cwd"])
            init = Init(
                config, listener, become_host=lambda: None, become_user=lambda _: None, limits=limits.to_json(), oom_fd=None, oom_key=b""
            )
        os.write(ready, b"ready")
        os.close(ready)
        init.run()

    def _end(self, client: socket.socket, message: dict[str, Any]) -> None:
        """Ends a session that may not be this zygote's child: by its init's pid, if that is still the process it was. 0: the pid that this zygote knows, if any.

        It is answered for by `_finish`, when the process has ended.
        """
        session_id, pid, ticks = message["session_id"], message["pid"], message["start_ticks"]
        place = build.Place(session_id, self._data / "sessions" / session_id, 0, 0)
        ending = _Ending(client, message.get("id"), place, message["remove"], time.monotonic() + _END_WITHIN_S)
        # Without a PID namespace init has to end the others itself.
        try:
            if not pid and (known := next((child for child, name in self._sessions.items() if name == session_id), 0)):
                pid, ticks = known, start_ticks(known)  # it is there: nobody has waited for it yet
            pidfd = _told_to_end(pid, ticks, signal.SIGKILL if self._policy.isolated else signal.SIGTERM)
        except OSError as exc:
            self._send(client, {"id": ending.request_id, "error": str(exc), "stage": "end"})
            return
        if pidfd is None:
            self._take_away(ending)
        else:
            self._endings[pidfd] = ending

    def _finish(self, pidfd: int) -> None:
        """The process of an `_end` has ended, or its time is over."""
        ending = self._endings.pop(pidfd)
        os.close(pidfd)
        self._take_away(ending)

    def _take_away(self, ending: _Ending) -> None:
        try:
            self._clean(ending.place, remove=ending.remove)
            answer: dict[str, Any] = {"ok": True}
        except OSError as exc:
            answer = {"error": str(exc), "stage": "end"}
        self._send(ending.client, {"id": ending.request_id, **answer})

    def _clean(self, place: build.Place, *, remove: bool) -> None:
        """What a session leaves outside: its groups, its socket, and with `remove` its files."""
        self._cgroups.kill(place.session_id)
        self._cgroups.remove(place.session_id)
        for leftover in (place.directory / "tmp", place.directory / "spool", _open_kernels_dir(place.session_id)):
            with contextlib.suppress(OSError):
                remove_tree(leftover)
        (place.directory / "link.sock").unlink(missing_ok=True)
        if remove:
            self._discard(place.directory)

    def _discard(self, directory: Path) -> None:
        """Takes a directory away at once; a child removes what is in it, since a session may have left millions of files and others wait for this process."""
        trash = self._data / "trash"
        trash.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            directory.rename(trash / f"{directory.name}-{time.monotonic_ns()}")
        self._empty(trash)

    def _empty(self, trash: Path) -> None:
        try:
            pid = os.fork()
        except OSError as exc:
            print(f"what ended sessions left is not removed yet: {exc}", file=sys.stderr)  # the next time finds it
            return
        if pid:
            self._removing.add(pid)
            return
        try:
            self._let_go()
            os.nice(10)
            for directory in trash.iterdir():
                # Another child may be at the same one; what both leave is found by the next.
                with contextlib.suppress(OSError):
                    remove_tree(directory)
        finally:
            os._exit(0)

    def _let_go(self) -> None:
        """In a forked child: of what is the zygote's own. The lock above all: who kept it would keep the next zygote from starting."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for fd in (*self._wake, self._lock, *self._endings):
            os.close(fd)
        self._listener.close()
        for client in self._clients.values():
            client.close()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._removing.discard(pid)
                session_id = self._sessions.pop(pid, None)
                if session_id is not None:
                    for client in list(self._clients.values()):
                        self._send(client, {"event": "ended", "session_id": session_id, "status": os.waitstatus_to_exitcode(status)})


def _open_kernels_dir(session_id: str) -> Path:
    """Where kernels without a sandbox have their sockets: a short path, because the address of a unix socket may have 107 bytes."""
    return Path(tempfile.gettempdir(), f"kg-{session_id}")


def start_ticks(pid: int) -> int:
    """When a process was started, in clock ticks since boot: with the pid it names a process for good. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _told_to_end(pid: int, ticks: int, number: signal.Signals) -> int | None:
    """A descriptor that can be read when the process has ended; none where it is not there any more. Raises OSError where that cannot be found out, for want of a descriptor say."""
    if not pid:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if start_ticks(pid) == ticks:
            signal.pidfd_send_signal(pidfd, number)
            return pidfd
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError:
        os.close(pidfd)
        raise
    os.close(pidfd)
    return None


def _bind(sock: socket.socket, path: Path) -> None:
    """Binds by way of the directory's descriptor: a socket's path may have 107 bytes, a data directory's more."""
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def main() -> int:
    """Reads its configuration from standard input, says `ready` or what is missing on standard output, and serves."""
    config = json.load(sys.stdin)
    lock = os.open(Path(config["data_dir"], "zygote.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(json.dumps({"error": "another zygote serves this data directory"}), flush=True)
        return 1
    try:
        zygote = Zygote(config, lock)
    except SandboxUnavailable as exc:
        print(json.dumps({"error": exc.detail}), flush=True)
        return 1
    listening = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    zygote.serve(listening)
    return 0


if __name__ == "__main__":
    sys.exit(main())
