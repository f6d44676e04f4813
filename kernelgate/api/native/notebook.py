"""`/v1/sessions/S/notebook`: the session's history as an `.ipynb`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from kernelgate import notebook
from kernelgate.api.base import BaseHandler
from kernelgate.errors import CapacityExceeded, ContextNotFound
from kernelgate.link.journal import Journal
from kernelgate.sessions.history import open_journal

# A notebook is made whole in memory, and no frontend opens a larger one.
_MAX_BYTES = 256 * 1024 * 1024


class NotebookHandler(BaseHandler):
    """`/v1/sessions/S/notebook`"""

    async def get(self, session_id: str) -> None:
        """What ran in the session so far, running or ended, as nbformat 4.5. `?context=`: in that context alone. 404, 429 (too large)."""
        keeper = self.services.keeper
        row = keeper.row(self.token.id, session_id)
        context = self.get_query_argument("context", None)
        self.send(await asyncio.to_thread(_export, keeper.node.directory(row.id), context))


def _export(directory: Path, context: str | None) -> dict[str, Any]:
    journal = open_journal(directory)
    try:
        size = journal.size - journal.start
        if size > _MAX_BYTES:
            raise CapacityExceeded(f"the history has {size} bytes, and a notebook may have {_MAX_BYTES}; read its executions one by one")
        return notebook.from_events(journal.all()) if context is None else _of_context(journal, context)
    finally:
        journal.close()


def _of_context(journal: Journal, context: str) -> dict[str, Any]:
    chosen = {event["execution_id"] for event in journal.all() if event["type"] == "queued" and event.get("context_id") == context}
    if not chosen:
        raise ContextNotFound(f"nothing ran in a context {context!r} of this session")
    return notebook.from_events(event for event in journal.all() if event["execution_id"] in chosen)
