"""What a kernel said to its frontends: an append-only file of their messages, numbered, from which each of them is served.

A record is one message as a frontend gets it (protocol/frontend.py, v1) with its number and whom it is for: everybody (""), or the one client whose request it answers.
Like the journal it is written before it is sent on, needs no fsync to outlive any process, is cut off at a torn end, and lets go of its oldest part by a hole in the
file when it is over its limit. It exists only for contexts that a frontend has been attached to.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kernelgate.link.appendlog import CHUNK_BYTES, AppendLog

#: Kind (so that no record begins with a zero, as a hole does), length of the whole, number, length of the client's name.
_HEAD = struct.Struct("<cIQH")
MESSAGE, NOTE = b"M", b"N"


class Record(NamedTuple):
    """`client` is "" where everybody gets it. A NOTE is for the host alone."""

    kind: bytes
    seq: int
    client: str
    data: bytes


def encode(record: Record) -> bytes:
    client = record.client.encode()
    return b"".join((_HEAD.pack(record.kind, _HEAD.size + len(client) + len(record.data), record.seq, len(client)), client, record.data))


def decode(data: bytes) -> Iterator[Record]:
    """The whole records at the beginning of `data`. Raises ValueError where something else is there."""
    for start, end in bounds(data):
        kind, _, seq, size = _HEAD.unpack_from(data, start)
        at = start + _HEAD.size
        yield Record(kind, seq, data[at : at + size].decode(), data[at + size : end])


def bounds(data: bytes) -> Iterator[tuple[int, int]]:
    """Where whole records begin and end."""
    at = 0
    while at + _HEAD.size <= len(data):
        kind, length, _, size = _HEAD.unpack_from(data, at)
        if kind not in (MESSAGE, NOTE) or length < _HEAD.size + size:
            raise ValueError("not a record")
        if at + length > len(data):
            return
        yield at, at + length
        at += length


class FrameLog(AppendLog):
    """One context's file. Raises OSError where it cannot be used."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        super().__init__(path)
        self.path, self.limit_bytes = path, limit_bytes
        self._written_seq = 0
        self.notes: list[Record] = []
        self._pending: list[bytes] = []
        if self.size:
            self._recover()

    def _recover(self) -> None:
        self.start = offset = self._first_data()
        try:
            while data := self.read(offset, self.size):
                for start, end in bounds(data):
                    (record,) = decode(data[start:end])
                    self._index(offset + start, record.seq)
                    if record.kind == NOTE:
                        self.notes.append(record)
                offset += len(data)
        except ValueError:
            pass  # what follows was never whole
        self._cut_off(offset)

    def _index(self, offset: int, seq: int) -> None:
        self._checkpoint(seq, offset)
        self.last_seq = self._written_seq = seq

    def append(self, client: str, data: bytes, kind: bytes = MESSAGE) -> int:
        """Numbers a message and holds it for the next flush. Returns its number."""
        self.last_seq += 1
        self._pending.append(encode(Record(kind, self.last_seq, client, data)))
        return self.last_seq

    def flush(self) -> bool:
        """Writes what was appended. Returns whether there was anything. Raises OSError; what was not written stays pending."""
        if not self._pending:
            return False
        self._write(b"".join(self._pending))
        pending, self._pending = self._pending, []
        last = self.last_seq
        for seq, record in enumerate(pending, last - len(pending) + 1):
            self._index(self.size, seq)
            self.size += len(record)
        self.last_seq = last
        if self.size - self.start > self.limit_bytes:
            self._free(self.size - self.limit_bytes * 3 // 4)
        return True

    def read(self, offset: int, end: int) -> bytes:
        """Whole records from `offset`, about CHUNK_BYTES of them (one at least). Raises ValueError where none begins there."""
        wanted = CHUNK_BYTES
        while offset < end:
            data = os.pread(self._fd, min(wanted, end - offset), offset)
            whole = max((last for _, last in bounds(data)), default=0)
            if whole:
                return data[:whole]
            if len(data) >= end - offset or not data:
                raise ValueError("not a record")
            wanted *= 4
        return b""

    def offset_after(self, seq: int) -> int:
        """Where to begin reading to see every record after `seq` (earlier ones may come first)."""
        if seq >= self._written_seq:
            return self.size
        return super().offset_after(seq)
