"""The system call filter, compiled once by libseccomp from the policy's lists."""

from __future__ import annotations

import errno
import tempfile

from kernelgate.errors import SandboxUnavailable
from kernelgate.sandbox import policy, syscalls

_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


def compile_filter() -> bytes:
    """The filter as the kernel takes it. About 16 ms, so the zygote does it once.

    Raises:
        SandboxUnavailable: libseccomp is not there.
    """
    try:
        import pyseccomp as seccomp  # noqa: PLC0415 - loads libseccomp, which only the zygote needs
    except (ImportError, RuntimeError, OSError) as exc:
        raise SandboxUnavailable(f"the system call filter needs libseccomp (Debian: libseccomp2): {exc}") from exc

    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    denied = seccomp.ERRNO(errno.EPERM)
    for name in policy.DENIED_CALLS:
        try:
            rules.add_rule(denied, name)
        except (ValueError, RuntimeError, OSError):
            continue  # a call that this libseccomp or this machine does not know cannot be made by name either
    # glibc tries clone3 first and falls back to clone only on ENOSYS; the flags of clone3 are out of a filter's reach.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in (
        syscalls.CLONE_NEWUSER,
        syscalls.CLONE_NEWNS,
        syscalls.CLONE_NEWPID,
        syscalls.CLONE_NEWNET,
        syscalls.CLONE_NEWIPC,
        syscalls.CLONE_NEWUTS,
    ):
        rules.add_rule(denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for request in (_TIOCSTI, _TIOCLINUX):
        rules.add_rule(denied, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    highest = max(policy.ALLOWED_FAMILIES)
    refused = seccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in range(highest):
        if family not in policy.ALLOWED_FAMILIES:
            rules.add_rule(refused, "socket", seccomp.Arg(0, seccomp.EQ, family))
    rules.add_rule(refused, "socket", seccomp.Arg(0, seccomp.GT, highest))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
