"""Notebooks as files and objects, through nbformat."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbformat import NotebookNode

    from kernelgate.notebook import CellOutputs
    from kernelgate.sdk.models import Json


@dataclass(frozen=True, kw_only=True)
class CellProgress:
    """How far a notebook's run is: told when a cell begins, puts something out, and has ended.

    Attributes:
        index: of the cell in the notebook.
        number: of the cell among those that run, from 1.
        total: how many cells run.
        cell: the cell itself, with its outputs so far.
        state: `running` or `done`.
        elapsed_s: since the cell began.
    """

    index: int
    number: int
    total: int
    cell: NotebookNode
    state: str = "running"
    elapsed_s: float = 0.0


# Names of well-known kernels that are no names of their languages.
_KERNELS = {"ir": "r", "ijavascript": "javascript", "jjava": "java", "ijava": "java", "tslab": "typescript"}


def language_of(metadata: Mapping[str, Any]) -> str:
    """The language a notebook says it is in; python if it says nothing."""
    kernel = metadata.get("kernelspec") or {}
    info = metadata.get("language_info") or {}
    name = kernel.get("name") or kernel.get("language") or info.get("name") or "python"
    return _KERNELS.get(str(name).lower(), str(name))


def language_of_cell(cell: NotebookNode, default: str) -> str:
    """The language of one cell, where an exported notebook has several."""
    own = cell.metadata.get("kernelgate") or {}
    return str(own.get("language") or default)


def _nbformat() -> Any:
    # Its functions have no annotations, and few programs need it.
    try:
        return import_module("nbformat")
    except ImportError as error:
        message = "notebooks need the package nbformat"
        raise errors.InvalidUse(message, hint="install nbformat beside the SDK") from error


def node(raw: Json) -> NotebookNode:
    """A notebook, or a part of one, with attributes, as nbformat has them."""
    found: NotebookNode = _nbformat().from_dict(raw)
    return found


def read(notebook: NotebookNode | Mapping[str, Any] | str | Path) -> NotebookNode:
    """A notebook of any version as one of version 4, apart from where it came from.

    Raises:
        InvalidUse: it is no notebook, or cannot be read.
    """
    nbformat = _nbformat()
    try:
        if isinstance(notebook, (str, Path)):
            text = Path(notebook).read_text(encoding="utf-8")
        else:
            text = nbformat.writes(nbformat.from_dict(notebook))
        found: NotebookNode = nbformat.reads(text, as_version=4)
        nbformat.validate(found)
    except OSError as error:
        message = f"{notebook} cannot be read: {error.strerror}"
        raise errors.InvalidUse(message) from error
    except (nbformat.ValidationError, ValueError, TypeError, LookupError, AttributeError) as error:
        # Besides what it finds wrong, nbformat stumbles over what it takes to be right.
        message = f"this is no notebook: {error}"
        raise errors.InvalidUse(message, hint="give an .ipynb file, or what nbformat read") from error
    return found


def fill(cells: Iterable[tuple[NotebookNode, CellOutputs]]) -> None:
    """Puts what was folded into the cells, as nbformat's own nodes."""
    for cell, outputs in cells:
        cell.outputs = [node(output) for output in outputs.outputs]
        cell.execution_count = outputs.execution_count


def text(notebook: NotebookNode) -> str:
    """A notebook as its file has it."""
    written: str = _nbformat().writes(notebook)
    return written if written.endswith("\n") else f"{written}\n"


# A cell that carries this tag is expected to fail, and the notebook goes on behind it: the name is
# the notebook world's own.
_MAY_FAIL = "raises-exception"


def may_fail(cell: NotebookNode) -> bool:
    """The cell says of itself that it may fail."""
    return _MAY_FAIL in cell.metadata.get("tags", ())
