"""`kernelgate notebook`: run notebooks, and make them of sessions."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kernelgate.cli import _pictures, _server
from kernelgate.cli._terminal import Screen, duration
from kernelgate.sdk import _notebooks, models

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from nbformat import NotebookNode

    from kernelgate.sdk import CellProgress


def main(options: argparse.Namespace) -> int:
    """Does one of the two."""
    return _run(options) if options.action == "run" else _export(options)


def _export(options: argparse.Namespace) -> int:
    with _server.client(options) as client:
        notebook = client.sessions.get(options.id).notebooks.export()
    if options.output is None:
        sys.stdout.write(_notebooks.text(notebook))
    else:
        _write(notebook, Path(options.output))
        print(f"wrote {options.output}", file=sys.stderr)
    return 0


def _run(options: argparse.Namespace) -> int:
    """Runs a notebook and writes it back, also when a cell failed: what it did before is worth keeping."""
    screen = Screen()

    def progress(state: CellProgress) -> None:
        screen.status(f"cell {state.number} of {state.total}, running")
        if state.state == "done":
            failed = _failure(state.cell)
            mark = f"failed: {failed}" if failed else "done"
            screen.err_line(f"cell {state.number} of {state.total}: {mark} ({duration(state.elapsed_s)})")

    notebook = _executed(options, screen, progress)
    output = Path(options.output or options.file)
    _write(notebook, output)
    screen.err_line(f"wrote {output}")
    return 1 if _has_failed(notebook, allow_errors=options.allow_errors) else 0


def run_printed(options: argparse.Namespace) -> int:
    """`kernelgate run FILE.ipynb`: cells' outputs as a program's, and the file as it was."""
    screen = Screen()
    pictures = _pictures.for_terminal(options.output_dir, Path(options.file).stem, save=options.save)

    def progress(state: CellProgress) -> None:
        screen.status(f"cell {state.number} of {state.total}, running")
        if state.state == "done":
            for output in state.cell.outputs:
                _print(output, screen, pictures)

    options.allow_errors = False
    notebook = _executed(options, screen, progress)
    if options.json:
        sys.stdout.write(_notebooks.text(notebook))
    return 1 if _has_failed(notebook, allow_errors=False) else 0


def _executed(options: argparse.Namespace, screen: Screen, progress: Callable[[CellProgress], None]) -> NotebookNode:
    with _server.session(options) as session:
        screen.begin("starting")
        try:
            return session.notebooks.run(
                options.file,
                language=options.language,
                timeout_s=options.timeout,
                allow_errors=options.allow_errors,
                on_cell=progress,
            )
        finally:
            screen.end()


def _print(output: NotebookNode, screen: Screen, pictures: _pictures.Pictures) -> None:
    if output.output_type == "stream":
        (screen.out if output.name == "stdout" else screen.err)(output.text)
        return
    if output.output_type == "error":
        screen.err_line("\n".join(output.traceback) or f"{output.ename}: {output.evalue}")
        return
    item = models.ResultItem.from_mimebundle(output.data, output.metadata)
    sequence = pictures.inline(item)
    if sequence is not None:
        screen.out_line(sequence)
    elif (file := pictures.save(item)) is not None:
        screen.note(f"saved {file}")
    else:
        screen.out_line(str(item))


def _failure(cell: NotebookNode) -> str:
    error = next((one for one in cell.outputs if one.output_type == "error"), None)
    return f"{error.ename}: {error.evalue}".splitlines()[0] if error is not None else ""


def _has_failed(notebook: NotebookNode, *, allow_errors: bool) -> bool:
    return not allow_errors and any(_failure(cell) and not _notebooks.may_fail(cell) for cell in notebook.cells if cell.cell_type == "code")


def _write(notebook: NotebookNode, path: Path) -> None:
    # Beside it first, then over it: a full disk must not cost the notebook that was there.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_notebooks.text(notebook))
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
