"""What an ended session leaves to read: its executions, from its journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from kernelgate.errors import SessionClosed, StorageUnavailable
from kernelgate.link.journal import Journal
from kernelgate.protocol import event as events
from kernelgate.protocol.command import CommandFold


def open_journal(directory: Path) -> Journal:
    """The journal in a session's directory, for reading. Raises SessionClosed where there is none any more, StorageUnavailable where it cannot be opened now."""
    try:
        return Journal(directory / "journal" / "events.jsonl", read_only=True)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise SessionClosed("the history of this session is not there any more") from exc
    except OSError as exc:  # no descriptor left, say
        raise StorageUnavailable(f"the history of this session cannot be read now: {exc.strerror}") from exc


class History:
    """Reads the journal in a session's directory. Its methods block; they run in threads. Raises what `open_journal` raises."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: Journal | None = None

    def _journal(self) -> Journal:
        if self._opened is None:
            self._opened = open_journal(self._directory)
        return self._opened

    def has(self, execution_id: str) -> bool:
        return self._journal().has(execution_id)

    def result(self, execution_id: str) -> dict[str, Any]:
        """The result; one that was cut short by the session's end stays `running` or `queued`."""
        return self._journal().result(execution_id)

    def executions(self, limit: int, before: str | None) -> dict[str, Any]:
        names = self._journal().names()
        names.reverse()
        if before is not None:
            names = names[names.index(before) + 1 :] if before in names else []
        return {"executions": [self._journal().summary(name) for name in names[:limit]], "more": len(names) > limit}

    def has_command(self, command_id: str) -> bool:
        return self._journal().has(command_id, events.COMMAND)

    def command(self, command_id: str) -> dict[str, Any]:
        """The result; one that was cut short by the session's end stays `running`."""
        return self._fold(command_id).result()

    def commands(self, limit: int, before: str | None) -> dict[str, Any]:
        names = self._journal().names(events.COMMAND)
        names.reverse()
        if before is not None:
            names = names[names.index(before) + 1 :] if before in names else []
        return {"commands": [self._fold(name).summary() for name in names[:limit]], "more": len(names) > limit}

    def _fold(self, command_id: str) -> CommandFold:
        fold = CommandFold()
        for event in self._journal().execution(command_id):
            fold.feed(event)
        return fold

    async def events(self, execution_id: str | None, after: int) -> AsyncGenerator[list[bytes], None]:
        """The lines after a number, in steps; of one execution or of all."""
        journal = await asyncio.to_thread(self._journal)
        offset = journal.offset_after(after)
        mark = b"" if execution_id is None else events.marker(execution_id)
        while offset < journal.size:
            data = await asyncio.to_thread(journal.read, offset, journal.size)
            if not data:
                return
            offset += len(data)
            lines = [
                line for line in data.splitlines(keepends=True) if events.seq_of(line) > after and (not mark or events.belongs(line, mark))
            ]
            if lines:
                yield lines

    def __del__(self) -> None:
        if self._opened is not None:
            self._opened.close()
