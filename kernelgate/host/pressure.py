"""Which of a session's limits was met: asked at the beginning and the end of an execution or command.

Processes that were refused and processes that were killed for memory are counted by the session's control groups; where there are none, nothing is told here, and what the
error says is all there is (see `kernelgate.protocol.limit`). A full file system tells itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Of a file system that has no more room than this, a write has failed.
_FULL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Mark:
    """How often until now."""

    refused: int = 0
    killed: int = 0


class Pressure:
    """`oom`: a descriptor whose text has a line that begins with the word beside it; `refused`: the same for processes."""

    def __init__(self, oom: tuple[int, bytes] | None, refused: int | None, file_systems: dict[str, str]) -> None:
        self._oom, self._refused, self._file_systems = oom, refused, file_systems

    def mark(self) -> Mark:
        return Mark(
            0 if self._refused is None else counted(self._refused, b"max"),
            0 if self._oom is None else counted(*self._oom),
        )

    def met(self, since: Mark, now: Mark, *, failed: bool) -> str | None:
        """The limit that was met between two marks: memory, processes; of what failed also workspace, tmp and shm, where they are full."""
        if now.killed > since.killed:
            return "memory"
        if now.refused > since.refused:
            return "processes"
        if failed:
            for name, path in self._file_systems.items():
                room = os.statvfs(path)
                if room.f_files and (room.f_bavail * room.f_frsize < _FULL_BYTES or room.f_favail == 0):
                    return name
        return None


def counted(fd: int, key: bytes) -> int:
    """The number after `key` in a control group's file of names and numbers."""
    for line in os.pread(fd, 4096, 0).splitlines():
        name, _, value = line.partition(b" ")
        if name == key:
            return int(value)
    return 0
