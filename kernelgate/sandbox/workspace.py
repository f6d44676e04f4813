"""Workspaces with a size: each session's is a file system of its own, in a sparse file of its directory.

Why not otherwise: quotas of directories or users need a file system and a kernel that have them, and the data directory is on what the operator happens to have; a tmpfs would take
the session's memory for its files. A file system in a file works on every disk, is made in some milliseconds, takes the room that is used, limits bytes and files for certain, and
goes with its session: the mount with the session's mount namespace, the loop device with the mount.

It has no journal: a workspace that a crash of the machine may have damaged is not mounted again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path

from kernelgate.errors import SandboxUnavailable

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_MAJOR = 7
_BLOCK_BYTES = 4096
#: Others may take the free device that was named; each try asks again.
_TRIES = 20
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_CURE = "install e2fsprogs and give the service loop devices, or set sandbox.workspace_bytes = none: workspaces are then directories without a limit"


class Images:
    """Makes workspaces. `directory` is the service's own: it keeps an empty file system of each size in use, to be copied."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, path: Path, size: int, inodes: int) -> None:
        """An empty file system of `size` bytes and about `inodes` files. Raises OSError."""
        template = self._directory / f"{size}-{inodes}.ext4"
        if not template.exists():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _format(template, size, inodes)
        _copy(template, path)

    def check(self, size: int, inodes: int) -> None:
        """That workspaces can be made here.

        Raises:
            SandboxUnavailable: they cannot; the message says what to do.
        """
        probe = self._directory / "probe.ext4"
        try:
            self.make(probe, size, inodes)
            os.close(attach(probe)[1])
        except (OSError, subprocess.SubprocessError) as exc:
            raise SandboxUnavailable(f"workspaces with a size cannot be made here ({exc}); {_CURE}") from exc
        finally:
            probe.unlink(missing_ok=True)


def _format(path: Path, size: int, inodes: int) -> None:
    program = shutil.which("mkfs.ext4", path=_PATH)
    if program is None:
        raise FileNotFoundError("there is no mkfs.ext4")
    made = path.with_suffix(".new")
    with made.open("wb") as file:
        file.truncate(size)
    subprocess.run(
        [
            program, "-q", "-F", "-b", str(_BLOCK_BYTES), "-m", "0", "-N", str(inodes), "-O", "^has_journal,^resize_inode",
            "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", str(made),
        ],
        check=True, capture_output=True, env={"PATH": _PATH}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    made.rename(path)


def _copy(source: Path, target: Path) -> None:
    """A sparse file as a sparse file."""
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        write.truncate(size)
        start = 0
        while start < size:
            try:
                start = os.lseek(read.fileno(), start, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                return
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += os.copy_file_range(read.fileno(), write.fileno(), end - start, start, start)


def attach(path: Path) -> tuple[str, int]:
    """A loop device over the file: its path, and a descriptor that keeps it until it is mounted; with the last user it is free again. Raises OSError."""
    with open("/dev/loop-control", "rb+", buffering=0) as control, path.open("rb+", buffering=0) as file:
        for attempt in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = f"/dev/loop{number}"
            if not os.path.exists(device):
                # In a container /dev does not follow the kernel.
                with contextlib.suppress(FileExistsError):
                    os.mknod(device, 0o660 | stat.S_IFBLK, os.makedev(_LOOP_MAJOR, number))
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            # struct loop_config: fd, block size, struct loop_info64 (its flags are the 13th word), eight reserved words.
            info = struct.pack("=5Q4I", 0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR).ljust(232, b"\0")
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, struct.pack("=II", file.fileno(), _BLOCK_BYTES) + info + bytes(64))
            except OSError:
                os.close(fd)
                if attempt == _TRIES - 1:
                    raise
                continue
            return device, fd
    raise AssertionError
