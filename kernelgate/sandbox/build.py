"""Making a sandbox around the calling process: the template once, the session's own parts each time."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from kernelgate.sandbox import syscalls as sc
from kernelgate.sandbox.policy import DEVICES, SYSTEM_DIRS, SYSTEM_FILES, Limits, Policy

_RO = sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NODEV
#: Mount points of the session's own parts, in the template.
_OWN = ("proc", "tmp", "workspace", "run", "dev/shm", "dev/pts", "home", "var/lib", "var/cache", "etc", "sys/fs/cgroup/memory")


@dataclass(frozen=True)
class Place:
    """Where a session's parts are on the machine, and its users. `workspace`: the device that holds its workspace's file system; without one it is the directory of that name."""

    session_id: str
    directory: Path
    code_uid: int
    host_uid: int
    workspace: str | None = None


class Template:
    """The read-only root that all sessions begin with. Made in the zygote's own mount namespace, so it goes when the zygote and the last session go."""

    def __init__(self, root: Path, policy: Policy) -> None:
        self._root, self._policy = str(root), policy
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
        root.mkdir(parents=True, exist_ok=True)
        sc.mount("kernelgate", self._root, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=0755,size=4m")
        for name in _OWN:
            os.makedirs(f"{self._root}/{name}", exist_ok=True)
        for path in (*SYSTEM_DIRS, *SYSTEM_FILES, *policy.read_only_paths):
            self._show(path)
        for name in DEVICES:
            with contextlib.suppress(OSError):
                Path(f"{self._root}/dev/{name}").touch()
                sc.bind(f"/dev/{name}", f"{self._root}/dev/{name}", sc.MS_NOEXEC | sc.MS_NOSUID)
        for target, name in (
            ("pts/ptmx", "ptmx"),
            ("/proc/self/fd", "fd"),
            ("/proc/self/fd/0", "stdin"),
            ("/proc/self/fd/1", "stdout"),
            ("/proc/self/fd/2", "stderr"),
        ):
            os.symlink(target, f"{self._root}/dev/{name}")
        os.symlink("/tmp", f"{self._root}/var/tmp")
        # User names differ per session; these files are the session's own.
        for name in ("passwd", "group", "hosts", "hostname", "resolv.conf"):
            os.symlink(f"/run/etc/{name}", f"{self._root}/etc/{name}")
        # Paths that a session's own mounts will cover (a checkout below /tmp, say) are mounted again on top of those.
        self._covered = [path for path in policy.read_only_paths if path.startswith(("/tmp/", "/run/", "/workspace/", "/dev/shm/"))]
        sc.mount(None, self._root, None, sc.MS_BIND | sc.MS_REMOUNT | _RO)

    def _show(self, path: str) -> None:
        """Makes a path of the machine visible, read-only, at the same place. What is not there is left out."""
        inside = self._root + path
        if os.path.lexists(inside):
            return
        if os.path.islink(path):
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            os.symlink(os.readlink(path), inside)
        elif os.path.isdir(path):
            os.makedirs(inside, exist_ok=True)
            sc.bind(path, inside, _RO)
        elif os.path.exists(path):
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            Path(inside).touch()
            sc.bind(path, inside, _RO)

    def enter(self, place: Place, limits: Limits, program: bytes, memory_group: tuple[Path, str] | None, resolver: str | None) -> None:
        """Puts the calling process, the first of its PID namespace, into a sandbox of its own. Raises OSError with the step that failed.

        `resolver`: of names, where it is in a network namespace of its own already (network.py); None: no network.
        `memory_group` is the session's own control group and where programs look for it: Java and Node size their heaps by it.

        Order matters: mounts while the old root is there, the root, then rights, then the filter, which forbids all of the former.
        """
        root = self._root
        sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS)
        if resolver is None:
            sc.unshare(sc.CLONE_NEWNET)
            sc.loopback_up()
        sc.set_hostname("kernelgate")
        kept = [(path, os.open(root + path, os.O_PATH | os.O_CLOEXEC)) for path in self._covered if os.path.exists(root + path)]
        plain = sc.MS_NOSUID | sc.MS_NODEV
        self._mount_workspace(place, plain)
        sc.mount("tmp", f"{root}/tmp", "tmpfs", plain, f"size={limits.tmp_bytes},nr_inodes={limits.tmp_inodes},mode=1777")
        sc.mount("shm", f"{root}/dev/shm", "tmpfs", plain, f"size={limits.shm_bytes},nr_inodes=10000,mode=1777")
        sc.mount("run", f"{root}/run", "tmpfs", plain | sc.MS_NOEXEC, "size=64m,nr_inodes=10000,mode=0755")
        sc.mount(
            "devpts",
            f"{root}/dev/pts",
            "devpts",
            sc.MS_NOSUID | sc.MS_NOEXEC,
            f"newinstance,ptmxmode=0666,mode=0620,uid={place.code_uid},gid={place.code_uid}",
        )
        # hidepid: the session's code sees its own processes, not init and the host.
        sc.mount("proc", f"{root}/proc", "proc", plain | sc.MS_NOEXEC, "hidepid=2")
        # System V shared memory outlives the processes that filled it, so the memory limit alone would leave a session full for good.
        with contextlib.suppress(OSError):
            Path(root, "proc/sys/kernel/shmall").write_text(str(limits.shm_bytes // resource.getpagesize()))
        if memory_group is not None:
            sc.bind(str(memory_group[0]), root + memory_group[1], _RO | sc.MS_NOEXEC)
        self._own_files(place, f"nameserver {resolver}\n" if resolver else "")
        for path, fd in kept:
            inside = root + path
            os.makedirs(inside if os.path.isdir(path) else os.path.dirname(inside), exist_ok=True)
            if not os.path.isdir(path):
                Path(inside).touch()
            sc.bind(f"/proc/self/fd/{fd}", inside, _RO)
            os.close(fd)
        os.umask(0o022)
        sc.pivot_root(root)
        sc.no_new_privs()
        sc.keep_capabilities((sc.CAP_KILL, sc.CAP_SETUID, sc.CAP_SETGID))
        sc.install_filter(program)

    def _mount_workspace(self, place: Place, flags: int) -> None:
        target = f"{self._root}/workspace"
        if place.workspace is None:
            sc.bind(str(place.directory / "workspace"), target, flags)
            return
        # discard: what is deleted gives its room on the machine's disk back.
        sc.mount(place.workspace, target, "ext4", flags | sc.MS_NOATIME, "discard,errors=continue,noinit_itable")
        # Not for the session's user; where it is not there, nobody counts it.
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(f"{target}/lost+found")
        os.chown(target, place.code_uid, place.code_uid)
        os.chmod(target, 0o700)

    def _own_files(self, place: Place, resolver: str) -> None:
        run = Path(self._root, "run")
        for name, owner, mode in (
            ("etc", 0, 0o755),
            ("kernels", place.host_uid, 0o755),
            ("spool", place.host_uid, 0o700),
            ("session", place.host_uid, 0o700),
        ):
            (run / name).mkdir()
            os.chown(run / name, owner, owner)
            (run / name).chmod(mode)
        sc.bind(str(place.directory / "journal"), str(run / "session"), sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
        uid, cwd = place.code_uid, self._policy.cwd
        files = {
            "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:{uid}:{uid}:user:{cwd}:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
            "group": f"root:x:0:\nuser:x:{uid}:\nnogroup:x:65534:\n",
            "hosts": "127.0.0.1\tlocalhost kernelgate\n::1\tlocalhost\n",
            "hostname": "kernelgate\n",
            "resolv.conf": resolver,
        }
        for name, text in files.items():
            (run / "etc" / name).write_text(text)


def become_host(place: Place) -> None:
    """The forked host's rights: another user without capabilities; its memory is closed to the session's code."""
    sc.become(place.host_uid, place.host_uid)
    sc.set_dumpable(False)
    os.umask(0o077)


def become_user(place: Place, limits: Limits, lacking: tuple[str, ...]) -> None:
    """The rights of the session's code. `lacking`: what no control group limits here.

    RLIMIT_DATA holds for each process alone, but counts what it really has for itself; RLIMIT_AS counts what is only mapped, and Java and Node map far more than they use.
    """
    wanted = {resource.RLIMIT_NOFILE: limits.open_files, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: limits.file_bytes}
    if "memory" in lacking:
        wanted[resource.RLIMIT_DATA] = limits.memory_bytes
    if "processes" in lacking:
        wanted[resource.RLIMIT_NPROC] = limits.processes  # each session has a user of its own, so it is counted for itself
    for kind, value in wanted.items():
        if value is not None:
            most = resource.getrlimit(kind)[1]
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(kind, (value, value))
    # When memory is short, code goes first; init and host are the last.
    Path("/proc/self/oom_score_adj").write_text("900")
    sc.become(place.code_uid, place.code_uid)
    # Changing the user made /proc/self root's; a program started by exec gets it back, a forked kernel has to ask.
    sc.set_dumpable(True)
