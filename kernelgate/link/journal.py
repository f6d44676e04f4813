"""The journal: an append-only file of events, and the index that finds an execution in it. The host writes it; the gateway reads it when there is no host any more.

Events are numbered when they are appended and written by `flush` in one write; only what was written is sent on. What a process wrote survives its death, so the journal
needs no fsync to outlive kill -9 of any process; a power failure may take the last seconds. A torn last line, left by a full disk or a crash, is cut off at open.

A journal has a limit: beyond it the oldest executions that have ended are let go of (see `appendlog`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelgate.link.appendlog import CHUNK_BYTES, AppendLog
from kernelgate.protocol import event as events
from kernelgate.protocol.result import Fold

#: Ids of executions that were let go of: they must not run again.
_REMEMBERED_IDS = 100_000


@dataclass(slots=True)
class Span:
    """Where an execution's or a command's events are: bytes from `start` to `end`, others' lines in between. `first` is the type of the first one, which says which it is."""

    start: int
    end: int
    last_seq: int
    ended: bool = False
    summary: dict[str, Any] | None = None
    first: str = events.EXECUTION


class Journal(AppendLog):
    """One session's journal, open for appending and reading, or for reading alone. Raises OSError where the file cannot be used."""

    def __init__(self, path: Path, *, read_only: bool = False, limit_bytes: int | None = None) -> None:
        super().__init__(path, read_only=read_only)
        self._limit_bytes = limit_bytes
        self.dropped: dict[str, None] = {}
        self.spans: dict[str, Span] = {}
        self._pending: list[tuple[bytes, str | None, str, int]] = []
        if self.size:
            self._recover()

    def _recover(self) -> None:
        self.start = end = self._first_data()
        for offset, line in self._lines(self.start, self.size):
            try:
                record = events.decode(line)
            except ValueError:
                break
            end = offset + len(line)
            self._index(offset, line, record["execution_id"], record["type"], record["seq"])
        self._cut_off(end)

    def _index(self, offset: int, line: bytes, execution_id: str | None, kind: str, seq: int) -> None:
        self._checkpoint(seq, offset)
        self.last_seq = seq
        if execution_id is None:
            return
        span = self.spans.get(execution_id)
        if span is None:
            if execution_id in self.dropped or kind not in events.FIRST:
                self.dropped[execution_id] = None  # late output of one that was let go of, or what the hole has left of it
                return
            span = self.spans[execution_id] = Span(offset, offset, seq, first=kind)
        span.end, span.last_seq = offset + len(line), seq
        if kind == "end":
            span.ended = True

    def append(self, execution_id: str | None, kind: str, fields: dict[str, Any]) -> int:
        """Numbers an event and holds it for the next flush. Returns its sequence number."""
        seq = self.last_seq + len(self._pending) + 1
        self._pending.append((events.encode(seq, execution_id, kind, time.time(), fields), execution_id, kind, seq))
        return seq

    def flush(self) -> bool:
        """Writes what was appended. Returns whether there was anything.

        Raises:
            OSError: the disk is full or gone; what was not written stays pending, and a half-written line is taken back.
        """
        if not self._pending:
            return False
        self._write(b"".join(line for line, *_ in self._pending))
        pending, self._pending = self._pending, []
        for line, execution_id, kind, seq in pending:
            self._index(self.size, line, execution_id, kind, seq)
            self.size += len(line)
        if self._limit_bytes is not None and self.size - self.start > self._limit_bytes:
            self._let_go(self.size - self._limit_bytes * 3 // 4)
        return True

    def take_back(self) -> None:
        """Makes the last event, which could not be written, not have happened."""
        self._pending.pop()

    @property
    def full(self) -> bool:
        """Whether it is well over its limit, because what runs keeps what was before from being let go of."""
        return self._limit_bytes is not None and self.size - self.start > self._limit_bytes * 5 // 4

    def _let_go(self, before: int) -> None:
        """Frees what lies before an offset, but for executions that have not ended."""
        before = min([before, *(span.start for span in self.spans.values() if not span.ended)])
        if not self._free(before):
            return  # it fills up, and `full` refuses what is new
        for execution_id in [name for name, span in self.spans.items() if span.start < self.start]:
            del self.spans[execution_id]
            self.dropped[execution_id] = None
        while len(self.dropped) > _REMEMBERED_IDS:
            del self.dropped[next(iter(self.dropped))]

    def read(self, offset: int, end: int) -> bytes:
        """Whole lines from `offset`, about CHUNK_BYTES of them (one line at least), none beyond `end`."""
        wanted = CHUNK_BYTES
        while True:
            data = os.pread(self._fd, min(wanted, end - offset), offset)
            if len(data) >= end - offset or not data:
                return data
            cut = data.rfind(b"\n") + 1
            if cut:
                return data[:cut]
            wanted *= 4

    def _lines(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        offset = start
        while offset < end:
            data = self.read(offset, end)
            for line in data.splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    return
                yield offset, line
                offset += len(line)
            if not data:
                return

    def execution(self, execution_id: str, *, without: frozenset[str] = frozenset()) -> Iterator[events.Event]:
        """The written events of one execution, in order; those of the types `without` are passed over unread."""
        span = self.spans[execution_id]
        mark = events.marker(execution_id)
        for _, line in self._lines(span.start, span.end):
            if events.belongs(line, mark) and not (without and events.type_of(line) in without):
                yield events.decode(line)

    def result(self, execution_id: str) -> dict[str, Any]:
        """The result so far."""
        fold = Fold()
        for event in self.execution(execution_id):
            fold.feed(event)
        return fold.result()

    def summary(self, execution_id: str) -> dict[str, Any]:
        """The result so far without its outputs, which are not read for it."""
        span = self.spans[execution_id]
        if span.summary is None or span.summary["last_seq"] != span.last_seq:
            fold = Fold()
            for event in self.execution(execution_id, without=events.OUTPUTS):
                fold.feed(event)
            span.summary = {name: value for name, value in fold.result().items() if name not in ("logs", "results", "text", "artifacts")}
            span.summary["last_seq"] = span.last_seq
        return span.summary

    def names(self, first: str = events.EXECUTION) -> list[str]:
        """The ids of executions, or of commands (`events.COMMAND`), oldest first."""
        return [name for name, span in self.spans.items() if span.first == first]

    def has(self, execution_id: str, first: str = events.EXECUTION) -> bool:
        """Whether there is an execution, or a command, of this id."""
        span = self.spans.get(execution_id)
        return span is not None and span.first == first

    def all(self) -> Iterator[events.Event]:
        for _, line in self._lines(self.start, self.size):
            yield events.decode(line)
