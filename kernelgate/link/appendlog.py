"""A file that is only appended to: what the journal and the frame logs have in common.

Each write is whole or is taken back. Beyond a limit the oldest part is let go of by punching a hole where it was: offsets stay what they are, and the disk gets its blocks
back. Checkpoints, a number and its offset every 64 KiB, say where to begin reading.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from bisect import bisect_right
from pathlib import Path

CHUNK_BYTES = 256 * 1024
_CHECKPOINT_BYTES = 64 * 1024
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class AppendLog:
    """`start`: what lies before was let go of; `size`: what lies behind is not written. Raises OSError where the file cannot be used."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT | os.O_APPEND) | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.start = 0
        self.size = os.fstat(self._fd).st_size
        self.last_seq = 0
        self._checkpoints: list[tuple[int, int]] = []
        self._torn = False

    def _first_data(self) -> int:
        """Where the first record begins: behind the hole, if there is one. No record begins with a zero."""
        try:
            start = os.lseek(self._fd, 0, os.SEEK_DATA)
        except OSError:
            return self.size  # all hole
        while start < self.size and (data := os.pread(self._fd, CHUNK_BYTES, start)):
            start += len(data) - len(data.lstrip(b"\0"))
            if data.strip(b"\0"):
                break
        return start

    def _cut_off(self, end: int) -> None:
        """What lies behind was never whole."""
        if end != self.size:
            if not self._read_only:
                os.ftruncate(self._fd, end)
            self.size = end

    def _checkpoint(self, seq: int, offset: int) -> None:
        if not self._checkpoints or offset - self._checkpoints[-1][1] >= _CHECKPOINT_BYTES:
            self._checkpoints.append((seq, offset))

    def _write(self, records: bytes) -> None:
        """All of it, or nothing: a half is taken back, now or before the next write. Raises OSError. `size` is the caller's to move on."""
        if self._torn:
            self._take_back_half()
        data = memoryview(records)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            self._torn = written > 0
            with contextlib.suppress(OSError):
                self._take_back_half()
            raise

    def _take_back_half(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._torn = False

    def _free(self, before: int) -> bool:
        """Frees what lies before the last checkpoint at or before an offset. Whether anything was: a file system without holes keeps it."""
        at = bisect_right([offset for _, offset in self._checkpoints], before) - 1
        cut = self._checkpoints[at][1] if at >= 0 else self.start
        if cut <= self.start or _libc.fallocate(self._fd, _PUNCH_HOLE | _KEEP_SIZE, self.start, cut - self.start) != 0:
            return False
        self.start = cut
        self._checkpoints = self._checkpoints[at:]
        return True

    def offset_after(self, seq: int) -> int:
        """Where to begin reading to see everything after `seq` (earlier records may come first)."""
        at = bisect_right(self._checkpoints, (seq, self.size)) - 1
        return self._checkpoints[at][1] if at >= 0 else self.start

    def close(self) -> None:
        os.close(self._fd)
