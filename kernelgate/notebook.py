"""A notebook made of events: the outputs of a cell, as a notebook frontend would show them.

Pure, and of neither side: the server folds a session's history with it, the SDK the cells it runs. Both know the events as docs/api.md has them.

Rules of the notebook format and of the messaging protocol that are kept here: text of one stream that follows itself is one output; `clear_output` takes all outputs
away, at once or when the next comes; an update changes every output of its display id, in cells before as well; a carriage return moves to the start of its line, so
that a progress bar leaves its last state only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

#: MIME types by the short names that items have for them, in the order in which an item shows them.
MIME_TYPES = {
    "text": "text/plain",
    "html": "text/html",
    "markdown": "text/markdown",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "pdf": "application/pdf",
    "latex": "text/latex",
    "json": "application/json",
    "javascript": "application/javascript",
}

#: What moves on a line: carriage return, backspace, and ECMA-48's "erase in line", as progress bars use them.
_MOVES = re.compile("(\r|\b|\x1b\\[[0-2]?K)")


def settled(text: str) -> str:
    """What stays on the screen: a carriage return starts its line again and overwrites, a backspace goes one back, erasing erases."""
    if "\r" not in text and "\b" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(_overwritten(line) if "\r" in line or "\b" in line else line for line in lines)


def _overwritten(line: str) -> str:
    shown: list[str] = []
    at = 0
    for part in _MOVES.split(line):
        if part == "\r":
            at = 0
        elif part == "\b":
            at = max(0, at - 1)
        elif part in {"\x1b[K", "\x1b[0K"}:
            del shown[at:]
        elif part == "\x1b[1K":
            shown[:at] = " " * min(at, len(shown))
        elif part == "\x1b[2K":
            shown.clear()
        elif part:
            shown += " " * (at - len(shown))
            # What a shorter text does not cover stays visible, as on a terminal.
            shown[at : at + len(part)] = part
            at += len(part)
    return "".join(shown)


def mimebundle(item: Json) -> Json:
    """A result item as what a notebook could show of it, by MIME type."""
    bundle = {mime: item[name] for name, mime in MIME_TYPES.items() if item.get(name) is not None}
    bundle.update(item.get("extra") or {})
    return bundle


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
        has_started: the kernel has got it.
    """

    def __init__(self, displays: Displays | None = None) -> None:
        self.execution_count: int | None = None
        self.has_started = False
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
            self.has_started = True
            return False
        if kind == "clear":
            self._clear_at_next = bool(event.get("wait"))
            if not self._clear_at_next:
                self._outputs.clear()
        elif kind == "update":
            item = event.get("result") or {}
            self._displays.update(event.get("display_id") or "", mimebundle(item), dict(item.get("metadata") or {}))
        elif kind in {"stdout", "stderr"}:
            self._print(kind, event.get("text") or "")
        elif kind == "truncated":
            self._print(event.get("stream") or "stdout", f"\n[... {event.get('bytes')} bytes cut ...]\n")
        elif kind == "result":
            self._show(event)
        elif kind == "error":
            error = event.get("error") or {}
            self._fail(error.get("name") or "Error", error.get("value") or "", error.get("traceback") or "")
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
        item = event.get("result") or {}
        is_main_result = bool(item.get("is_main_result"))
        output: Json = {
            "output_type": "execute_result" if is_main_result else "display_data",
            "data": mimebundle(item),
            "metadata": dict(item.get("metadata") or {}),
        }
        if is_main_result:
            output["execution_count"] = self.execution_count
        self._append(output)
        display_id = event.get("display_id")
        if display_id:
            self._displays.add(display_id, output)

    def _fail(self, name: str, value: str, traceback: str) -> None:
        self._append({"output_type": "error", "ename": name, "evalue": value, "traceback": traceback.split("\n")})

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
            self._fail(status, value, value)


def from_events(events: Iterable[Json]) -> Json:
    """A session's history as a notebook: every execution that began, in the order in which they were asked for, with what it put out.

    A session may have kernels of several languages, a notebook names one: that of most cells. Each cell's own is in its metadata, under `kernelgate`, where the SDK
    finds it when it runs the notebook again.
    """
    displays = Displays()
    cells: dict[str, tuple[Json, CellOutputs]] = {}
    for event in events:
        execution_id = event.get("execution_id")
        if execution_id is None:
            continue
        if event["type"] == "queued":
            if event.get("hidden"):
                continue  # what a frontend ran for itself, and not as a cell
            cell = {
                "cell_type": "code",
                "id": f"e{event['seq']}",
                "metadata": {"kernelgate": {name: event.get(name) for name in ("execution_id", "context_id", "language")}},
                "source": event.get("code") or "",
            }
            cells[execution_id] = (cell, CellOutputs(displays))
        elif execution_id in cells:
            cells[execution_id][1].add(event)
    ran = [
        {**cell, "execution_count": outputs.execution_count, "outputs": outputs.outputs}
        for cell, outputs in cells.values()
        if outputs.has_started
    ]
    languages = Counter(cell["metadata"]["kernelgate"]["language"] or "python" for cell in ran)
    language = languages.most_common(1)[0][0] if languages else "python"
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": language, "display_name": language.capitalize(), "language": language},
            "language_info": {"name": language},
        },
        "cells": ran,
    }
