"""Notebooks: run one in a session, or make one of what ran in it. Needs nbformat."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kernelgate.notebook import CellOutputs, Displays
from kernelgate.sdk._async._runtime import call
from kernelgate.sdk._async.runner import body_of
from kernelgate.sdk._notebooks import CellProgress, fill, language_of, language_of_cell, may_fail, node, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbformat import NotebookNode

    from kernelgate.sdk._async.context import AsyncContext
    from kernelgate.sdk._async.runner import AsyncRunner
    from kernelgate.sdk._async.transport import AsyncTransport
    from kernelgate.sdk.models import ContextInfo


# Often enough for an eye; a cell that prints without end must not have its outputs put together for
# each line.
_TELL_EVERY_S = 0.1


class AsyncNotebooks:
    """Notebooks and one session: `session.notebooks`."""

    def __init__(self, transport: AsyncTransport, session_path: str, runner: AsyncRunner) -> None:
        self._transport = transport
        self._path = session_path
        self._runner = runner

    async def run(
        self,
        notebook: NotebookNode | dict[str, Any] | str | Path,
        *,
        language: str | None = None,
        context: AsyncContext | ContextInfo | str | None = None,
        timeout_s: float | None = None,
        allow_errors: bool = False,
        on_cell: Callable[[CellProgress], Any] | None = None,
    ) -> NotebookNode:
        """Runs a notebook's code cells in order, and fills in what they put out.

        Args:
            notebook: a path, or what nbformat read; it is not changed.
            language: in place of those the notebook and its cells name.
            context: where to run it; by default the language's own context.
            timeout_s: of each cell; None for no limit.
            allow_errors: go on behind a cell that fails. A cell tagged `raises-exception` may
                always fail.
            on_cell: told of every cell's beginning, output and end.

        Returns:
            A copy with outputs and execution counts. After a cell that failed, the rest is as it
            was: look at `outputs` of the last cell that has an execution count.

        Raises:
            InvalidUse: it is no notebook.
        """
        filled = read(notebook)
        main = language or language_of(filled.metadata)
        cells = [(index, cell) for index, cell in enumerate(filled.cells) if cell.cell_type == "code" and cell.source.strip()]
        displays = Displays()
        begun: list[tuple[NotebookNode, CellOutputs]] = []
        for number, (index, cell) in enumerate(cells, 1):
            outputs = CellOutputs(displays)
            begun.append((cell, outputs))
            fill(begun[-1:])
            progress = CellProgress(index=index, number=number, total=len(cells), cell=cell)
            await _tell(on_cell, progress)
            succeeded = False
            begun_at = told_at = time.monotonic()
            body = body_of(cell.source, main if language or context else language_of_cell(cell, main), timeout_s, context=context)
            async for raw in self._runner.start(body):
                is_end = raw.get("type") == "end"
                now = time.monotonic()
                if not outputs.add(raw) or (not is_end and (on_cell is None or now - told_at < _TELL_EVERY_S)):
                    continue
                told_at = now
                # An update may concern a display of any cell before.
                fill(begun if is_end else begun[-1:])
                succeeded = is_end and bool(raw.get("success"))
                state = "done" if is_end else "running"
                await _tell(on_cell, replace(progress, state=state, elapsed_s=now - begun_at))
            if not (succeeded or allow_errors or may_fail(cell)):
                break
        return filled

    async def export(self, *, context: AsyncContext | ContextInfo | str | None = None) -> NotebookNode:
        """The session's history as a notebook: what ran, in order, with what it put out.

        Args:
            context: only what ran there; by default everything, whatever its language.
        """
        wanted = context if context is None or isinstance(context, str) else context.id
        raw = await self._transport.request("GET", f"{self._path}/notebook", query={"context": wanted}, is_safe=True)
        return node(raw)


async def _tell(on_cell: Callable[[CellProgress], Any] | None, progress: CellProgress) -> None:
    if on_cell is not None:
        await call(on_cell, progress)
