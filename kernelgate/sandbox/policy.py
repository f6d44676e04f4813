"""What a sandbox is: values with units, no code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

#: Directories of the system that sessions see, read-only; those that are links are made as links.
SYSTEM_DIRS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")

#: Parts of /etc and /var that programs need to run; the rest of them is not there. Nothing here names a user, a key or this machine.
SYSTEM_FILES = (
    "/etc/alternatives", "/etc/ca-certificates", "/etc/default/locale", "/etc/fonts", "/etc/gai.conf", "/etc/host.conf", "/etc/java-11-openjdk", "/etc/java-17-openjdk",
    "/etc/java-21-openjdk", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/locale.alias", "/etc/magic", "/etc/mime.types",
    "/etc/networks", "/etc/nsswitch.conf", "/etc/perl", "/etc/profile", "/etc/protocols", "/etc/python3", "/etc/python3.11", "/etc/R", "/etc/services", "/etc/ssl/certs", "/etc/ssl/openssl.cnf",
    "/etc/terminfo", "/etc/timezone", "/var/cache/fontconfig", "/var/lib/texmf",
)  # fmt: skip

#: Device nodes, bound from the machine's own.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

#: System calls that answer EPERM: ways to more rights, to other namespaces, to the machine's state, and interfaces with a history of faults.
DENIED_CALLS = (
    "mount", "umount2", "pivot_root", "chroot", "ptrace", "process_vm_readv", "process_vm_writev", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "userfaultfd", "unshare", "setns", "open_by_handle_at", "name_to_handle_at", "quotactl",
    "quotactl_fd", "acct", "swapon", "swapoff", "reboot", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "iopl", "ioperm",
    "syslog", "lookup_dcookie", "vhangup", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsmount", "fsconfig", "fspick", "mount_setattr", "pidfd_getfd", "kcmp",
    "mbind", "migrate_pages", "move_pages", "nfsservctl", "personality", "io_uring_setup", "io_uring_enter", "io_uring_register", "fanotify_init", "modify_ldt", "uselib",
)  # fmt: skip

#: Address families a session may open: unix, IPv4, IPv6, netlink (getifaddrs). Not vsock above all: it is not in any namespace.
ALLOWED_FAMILIES = (1, 2, 10, 16)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one session. None: no limit."""

    memory_bytes: int | None = 4 * GiB
    processes: int | None = 512
    cpu: float | None = None
    open_files: int | None = 8192
    file_bytes: int | None = 8 * GiB
    tmp_bytes: int = 1 * GiB
    shm_bytes: int = 256 * MiB
    tmp_inodes: int = 200_000
    workspace_bytes: int | None = 10 * GiB
    workspace_inodes: int | None = 500_000

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How sandboxes are made. `isolated` false is `sandbox = "none"`: no isolation at all, for development."""

    isolated: bool = True
    limits: Limits = field(default_factory=Limits)
    require_cgroups: bool = True
    read_only_paths: tuple[str, ...] = ()
    first_uid: int = 200_000
    cgroup: str = "kernelgate"
    cwd: str = "/workspace"
    network_denied: tuple[str, ...] = ()
    network_resolver: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Policy:
        return cls(
            **{
                **value,
                "limits": Limits(**value["limits"]),
                "read_only_paths": tuple(value["read_only_paths"]),
                "network_denied": tuple(value["network_denied"]),
            }
        )

    @property
    def network_uid(self) -> int:
        """The user of what gives sessions a network: no session's, since slots begin with 1."""
        return self.first_uid

    def uids(self, slot: int) -> tuple[int, int]:
        """The users of the slot-th session: (its code, its host). Group ids are the same numbers."""
        return self.first_uid + 2 * slot, self.first_uid + 2 * slot + 1
