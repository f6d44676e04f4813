"""Notebooks as data: a cell's outputs, folded from events as a notebook frontend would.

Rules of the notebook format and of the messaging protocol that are kept here: text of one stream
that follows itself is one output; `clear_output` takes all outputs away, at once or when the next
comes; an update changes every output of its display id, in cells before as well; a carriage return
moves to the start of its line, so that a progress bar leaves its last state only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import errors
from kernelgate.sdk.models import ResultItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbformat import NotebookNode

    from kernelgate.sdk.models import Json

# In a pattern `\b` would be a word's boundary.
_BACKSPACE = re.compile("[^\n\x08]\x08")


def settled(text: str) -> str:
    """Text after its carriage returns and backspaces have had their effect."""
    if "\b" in text:
        while (shorter := _BACKSPACE.sub("", text)) != text:
            text = shorter
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(_overwritten(line) for line in lines)


def _overwritten(line: str) -> str:
    shown = ""
    for part in line.split("\r"):
        # What a shorter text does not cover stays visible, as on a terminal.
        shown = part + shown[len(part) :]
    return shown


class Displays:
    """Which outputs of a notebook show which display id."""

    def __init__(self) -> None:
        self._outputs: dict[str, list[Json]] = {}

    def add(self, display_id: str, output: Json) -> None:
        """Remembers where it is shown."""
        self._outputs.setdefault(display_id, []).append(output)

    def update(self, display_id: str, data: Json, metadata: Json) -> None:
        """Shows something else in all those places."""
        for output in self._outputs.get(display_id, ()):
            output["data"], output["metadata"] = dict(data), dict(metadata)


class CellOutputs:
    """The outputs of one execution.

    Attributes:
        execution_count: the kernel's number for it, None before it starts.
    """

    def __init__(self, displays: Displays | None = None) -> None:
        self.execution_count: int | None = None
        self._outputs: list[Json] = []
        self._displays = displays or Displays()
        self._clear_at_next = False

    @property
    def outputs(self) -> list[Json]:
        """As nbformat has them."""
        return [
            {**output, "text": settled("".join(output["text"]))} if output["output_type"] == "stream" else output
            for output in self._outputs
        ]

    def add(self, event: Json) -> bool:
        """Takes an event in the server's shape. True if the outputs may be different now."""
        kind = event.get("type")
        if kind == "started":
            self.execution_count = event.get("execution_count")
            return False
        if kind == "clear":
            self._clear_at_next = bool(event.get("wait"))
            if not self._clear_at_next:
                self._outputs.clear()
        elif kind == "update":
            item = ResultItem.from_wire(event.get("result") or {})
            self._displays.update(event.get("display_id") or "", item.mimebundle(), dict(item.metadata))
        elif kind in {"stdout", "stderr"}:
            self._print(kind, event.get("text") or "")
        elif kind == "result":
            self._show(event)
        elif kind == "error":
            error = event.get("error") or {}
            traceback = (error.get("traceback") or "").split("\n")
            self._fail(error.get("name") or "Error", error.get("value") or "", traceback)
        elif kind == "end":
            self._end(event)
        else:
            return False
        return True

    def _append(self, output: Json) -> None:
        if self._clear_at_next:
            self._outputs.clear()
            self._clear_at_next = False
        self._outputs.append(output)

    def _print(self, name: str, text: str) -> None:
        last = self._outputs[-1] if self._outputs and not self._clear_at_next else None
        if last is not None and last["output_type"] == "stream" and last["name"] == name:
            # Pieces are joined when they are read: a carriage return may undo any of them, and text
            # that grew by copying would cost its square.
            last["text"].append(text)
        else:
            self._append({"output_type": "stream", "name": name, "text": [text]})

    def _show(self, event: Json) -> None:
        item = ResultItem.from_wire(event.get("result") or {})
        output: Json = {
            "output_type": "execute_result" if item.is_main_result else "display_data",
            "data": item.mimebundle(),
            "metadata": dict(item.metadata),
        }
        if item.is_main_result:
            output["execution_count"] = self.execution_count
        self._append(output)
        display_id = event.get("display_id")
        if display_id:
            self._displays.add(display_id, output)

    def _fail(self, name: str, value: str, traceback: list[str]) -> None:
        self._append({"output_type": "error", "ename": name, "evalue": value, "traceback": traceback})

    def _end(self, event: Json) -> None:
        if self.execution_count is None:
            self.execution_count = event.get("execution_count")
        # A kernel that was killed, or never got to it, leaves no error of its own; a cell without
        # one would look as if it had gone well.
        has_error = any(output["output_type"] == "error" for output in self._outputs)
        if not event.get("success") and not has_error:
            status = event.get("status") or "failed"
            death = event.get("death") or {}
            value = death.get("message") or f"the execution ended as {status}"
            self._fail(status, value, [value])


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
    except (nbformat.ValidationError, nbformat.reader.NotJSONError, AttributeError, KeyError) as error:
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
